//! The pictures in `docs/fleet`: two lines over time, as SVG for light and dark pages.

use super::scenarios::{self, FIRST_REFRESH, FLEETS, LIMIT, SEED};
use std::fmt::Write as _;

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 48.0;

const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-size:15px;font-weight:600}\
.page{fill:#fff}.grid{stroke:#d8dee4}.axis{stroke:#57606a}.limit{stroke:#cf222e;stroke-dasharray:6 4}\
.limit-text{fill:#cf222e}.outage{fill:#cf222e;fill-opacity:.12}\
.one,.two{fill:none;stroke-width:1.6}.one{stroke:#0969da}.two{stroke:#9a6700}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.page{fill:#0d1117}.grid{stroke:#30363d}\
.axis{stroke:#8b949e}.limit{stroke:#ff7b72}.limit-text{fill:#ff7b72}.outage{fill:#ff7b72}\
.one{stroke:#58a6ff}.two{stroke:#e3b341}}";

/// The names and contents of all pictures.
pub(crate) fn all() -> [(&'static str, String); 2] {
    [("start.svg", start()), ("outage.svg", outage())]
}

/// The start of 10,000 sidecars, second by second.
fn start() -> String {
    let run = scenarios::start(FLEETS[2], SEED);
    let seconds = scenarios::STARTED.as_secs() as usize;
    let line = |values: &[u32]| -> Vec<(f64, f64)> {
        let values = values[..seconds].iter().enumerate();
        values.map(|(second, count)| (second as f64, f64::from(*count))).collect()
    };
    let mut picture =
        Picture { svg: String::new(), width: seconds as f64, height: Scale::Logarithmic(10_000.0) };
    picture.begin("10,000 sidecars start within a second");
    picture.axes("seconds since the start", 30, &[1, 10, 100, 1000, 10_000]);
    picture.limit();
    picture.line("one", "requests", 0, &line(&run.outcome.requests));
    picture.line("two", "tokens issued", 1, &line(&run.outcome.tokens));
    picture.end()
}

/// Two days of 10,000 sidecars with an outage, in steps of ten minutes.
fn outage() -> String {
    const STEP: usize = 600;
    let run = scenarios::outage(FLEETS[2], SEED);
    // The peak of the start is in the other picture.
    let steps: Vec<&[u32]> = run.outcome.requests.chunks(STEP).skip(1).collect();
    let line = |value: fn(&[u32]) -> f64| -> Vec<(f64, f64)> {
        let steps = steps.iter().enumerate();
        steps
            .map(|(index, step)| ((index + 1) as f64 * STEP as f64 / 3600.0, value(step)))
            .collect()
    };
    let most = line(|step| f64::from(step.iter().copied().max().unwrap_or(0)));
    let mean = line(|step| f64::from(step.iter().sum::<u32>()) / STEP as f64);
    let hour = |time: std::time::Duration| time.as_secs_f64() / 3600.0;
    let mut picture = Picture {
        svg: String::new(),
        width: hour(run.from + run.length),
        height: Scale::Linear(70.0),
    };
    picture.begin("10,000 sidecars, and an outage of 1 hour at their first refresh");
    let down = hour(FIRST_REFRESH.start);
    picture.shade(down, down + 1.0);
    picture.axes(
        "hours since the start (the start itself is not shown)",
        6,
        &[0, 10, 20, 30, 40, 50, 60, 70],
    );
    picture.limit();
    picture.line("one", "peak", 0, &most);
    picture.line("two", "mean", 1, &mean);
    picture.end()
}

/// The scale of the vertical axis, with its upper end.
enum Scale {
    Linear(f64),
    /// A logarithmic scale from 0.5. Zero is drawn at its lower end.
    Logarithmic(f64),
}

struct Picture {
    svg: String,
    width: f64,
    height: Scale,
}

impl Picture {
    fn begin(&mut self, title: &str) {
        self.svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"page\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n"
        );
        self.text("title", LEFT, 22.0, "start", title);
    }

    fn end(mut self) -> String {
        self.svg += "</svg>\n";
        self.svg
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + value / self.width * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let share = match self.height {
            Scale::Linear(most) => value / most,
            Scale::Logarithmic(most) => (value.max(0.5) / 0.5).ln() / (most / 0.5).ln(),
        };
        HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)
    }

    fn text(&mut self, class: &str, x: f64, y: f64, anchor: &str, text: &str) {
        let _ = writeln!(
            self.svg,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }

    fn stroke(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let _ = writeln!(
            self.svg,
            "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
            from.0, from.1, to.0, to.1
        );
    }

    fn axes(&mut self, label: &str, step: usize, marks: &[u32]) {
        let (left, right, bottom) = (LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM);
        for mark in marks {
            let y = self.y(f64::from(*mark));
            self.stroke("grid", (left, y), (right, y));
            self.text("mark", left - 8.0, y + 4.0, "end", &mark.to_string());
        }
        for value in (0..=self.width as usize).step_by(step) {
            let x = self.x(value as f64);
            self.stroke("axis", (x, bottom), (x, bottom + 5.0));
            self.text("mark", x, bottom + 19.0, "middle", &value.to_string());
        }
        self.stroke("axis", (left, bottom), (right, bottom));
        self.stroke("axis", (left, TOP), (left, bottom));
        self.text("label", (left + right) / 2.0, HEIGHT - 8.0, "middle", label);
        self.text("label", 12.0, TOP - 14.0, "start", "token requests per second");
    }

    fn limit(&mut self) {
        let y = self.y(f64::from(LIMIT));
        self.stroke("limit", (LEFT, y), (WIDTH - RIGHT, y));
        self.text("limit-text", WIDTH - RIGHT, y - 6.0, "end", "the issuer's limit, 60");
    }

    fn shade(&mut self, from: f64, to: f64) {
        let (x, width) = (self.x(from), self.x(to) - self.x(from));
        let height = HEIGHT - BOTTOM - TOP;
        let _ = writeln!(
            self.svg,
            "<rect class=\"outage\" x=\"{x:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\"/>"
        );
        self.text("limit-text", x + width + 4.0, TOP + 12.0, "start", "outage");
    }

    /// A line, with its name in the legend at `place`.
    fn line(&mut self, class: &str, name: &str, place: u8, points: &[(f64, f64)]) {
        let points: Vec<String> =
            points.iter().map(|(x, y)| format!("{:.1},{:.1}", self.x(*x), self.y(*y))).collect();
        let _ = writeln!(self.svg, "<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "));
        let x = WIDTH - RIGHT - 300.0 + 170.0 * f64::from(place);
        self.stroke(class, (x, TOP - 18.0), (x + 24.0, TOP - 18.0));
        self.text("label", x + 30.0, TOP - 14.0, "start", name);
    }
}
