//! The picture on top of `docs/performance.md`: each proxy's CPU per request beside nginx's, as SVG
//! for light and dark pages.

use crate::cases::{Case, Samples};
use crate::measure::{Sample, median};
use crate::sidecar::{BEARERD, Extra, Kind};
use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 330.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 92.0;
const ROW: f64 = 28.0;
const BOTTOM: f64 = 44.0;
/// The radius of a mark, and that of bearerd's own.
const RADIUS: f64 = 5.0;
const OWN_RADIUS: f64 = 7.0;

/// The proxies of the picture, each with the class of its marks.
const PROXIES: [(Kind, &str); 6] = [
    (Kind::NginxLua, "lua"),
    (Kind::Haproxy, "haproxy"),
    (Kind::Envoy, "envoy"),
    (Kind::Caddy, "caddy"),
    (Kind::Bearerd(Extra::OtherBuild), "other"),
    (BEARERD, "bearerd"),
];

const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-size:15px;font-weight:600}\
.page{fill:#fff}.grid{stroke:#d8dee4}.nginx{stroke:#57606a;stroke-width:2}\
.lua{fill:#1a7f37}.haproxy{fill:#8250df}.envoy{fill:#9a6700}.caddy{fill:#57606a}\
.other{fill:none;stroke:#cf222e;stroke-width:2}.bearerd{fill:#cf222e}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.page{fill:#0d1117}.grid{stroke:#30363d}\
.nginx{stroke:#8b949e}.lua{fill:#3fb950}.haproxy{fill:#bc8cff}.envoy{fill:#e3b341}\
.caddy{fill:#8b949e}.other{stroke:#ff7b72}.bearerd{fill:#ff7b72}}";

/// Draws the cases that nginx takes part in.
pub(crate) fn draw(cases: &[&Case], samples: &Samples) -> String {
    let ratios: Vec<(&str, Vec<(f64, &str)>)> =
        cases.iter().filter_map(|case| Some((case.title, ratios(case, samples)?))).collect();
    let all = ratios.iter().flat_map(|(_, ratios)| ratios.iter().map(|(ratio, _)| *ratio));
    let end = all.fold(1.0, f64::max).ceil();
    let x = |ratio: f64| LEFT + ratio / end * (WIDTH - LEFT - RIGHT);
    let bottom = TOP + ROW * ratios.len() as f64;
    let height = bottom + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <title>CPU beside nginx's</title>\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\"/>\n"
    );
    text(
        &mut svg,
        ("title", "start"),
        (16.0, 26.0),
        "CPU per request beside nginx's, less is better",
    );
    let mut legend = 16.0;
    for (kind, class) in PROXIES {
        let name = kind.name().replace('*', "");
        mark(&mut svg, class, (legend + OWN_RADIUS, 52.0));
        text(&mut svg, ("", "start"), (legend + 20.0, 56.5), &name);
        legend += 46.0 + 7.0 * name.len() as f64;
    }
    for step in 0..=(end * 2.0) as usize {
        let ratio = step as f64 / 2.0;
        let class = if step == 2 { "nginx" } else { "grid" };
        line(&mut svg, class, (x(ratio), TOP - 8.0), (x(ratio), bottom));
        let name = if step == 2 { "nginx".to_owned() } else { format!("{ratio:.1} ×") };
        text(&mut svg, ("", "middle"), (x(ratio), bottom + 20.0), &name);
    }
    for (index, (title, ratios)) in ratios.iter().enumerate() {
        let y = TOP + ROW * (index as f64 + 0.5);
        text(&mut svg, ("", "end"), (LEFT - 14.0, y + 4.5), title);
        line(&mut svg, "grid", (LEFT, y), (WIDTH - RIGHT, y));
        for (ratio, class) in ratios {
            mark(&mut svg, class, (x(*ratio), y));
        }
    }
    svg += "</svg>\n";
    svg
}

/// The ratios of a case with the classes of their marks; `None` if nginx takes no part.
fn ratios(case: &Case, samples: &Samples) -> Option<Vec<(f64, &'static str)>> {
    let cpu = if case.is_bulk { |sample: &Sample| sample.cpu_per_gb } else { Sample::cpu_us };
    let of = |kind: Kind| Some(median(samples.get(&(case.name, kind.name()))?, cpu));
    let nginx = of(Kind::Nginx)?;
    let ratios = PROXIES.iter().filter_map(|(kind, class)| Some((of(*kind)? / nginx, *class)));
    Some(ratios.collect())
}

fn text(svg: &mut String, (class, anchor): (&str, &str), (x, y): (f64, f64), text: &str) {
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
    );
}

fn line(svg: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        svg,
        "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn mark(svg: &mut String, class: &str, (x, y): (f64, f64)) {
    let radius = if class == "bearerd" { OWN_RADIUS } else { RADIUS };
    let _ = writeln!(svg, "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"/>");
}
