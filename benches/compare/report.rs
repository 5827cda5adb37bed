//! The tables of `docs/performance.md`, with the goals and whether they are met.

use crate::cases::{Case, MANY_CLIENTS, MANY_ROUTES, ONE_WORKER, Samples, TWO_WORKERS, WINDOW};
use crate::lifetime::{Held, ISSUER, Steadiness};
use crate::measure::{Sample, median};
use crate::sidecar::{BEARERD, Kind};
use std::fs;
use std::path::Path;
use std::process::Command;

const DOCUMENT: &str = "docs/performance.md";
const PICTURE: &str = "docs/performance/cpu.svg";

/// Writes the picture of the documentation.
pub(crate) fn write_picture(svg: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PICTURE);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, svg).unwrap();
}

/// The results as Markdown.
pub(crate) struct Report {
    text: String,
    /// The goals, with the measured value and whether it is enough.
    goals: Vec<(String, String, bool)>,
}

impl Report {
    pub(crate) fn new(rounds: usize) -> Self {
        let text = format!(
            "{}. {rounds} interleaved rounds, windows of {} s, medians.\n",
            machine(),
            WINDOW.as_secs()
        );
        Self { text, goals: Vec::new() }
    }

    /// Builds the report.
    pub(crate) fn text(&self) -> String {
        let mut text = self.text.clone();
        if !self.goals.is_empty() {
            text += &heading("Goals", &["goal", "measured", ""]);
            for (goal, measured, is_met) in &self.goals {
                let verdict = if *is_met { "met" } else { "**missed**" };
                text += &row([goal.clone(), measured.clone(), verdict.to_owned()]);
            }
        }
        text
    }

    /// Writes the tables into the documentation.
    pub(crate) fn write(&self) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT);
        let document = fs::read_to_string(&path).unwrap();
        let (before, rest) = document.split_once("<!-- compare -->\n").unwrap();
        let (_, after) = rest.split_once("<!-- end -->").unwrap();
        let text = self.text();
        fs::write(path, format!("{before}<!-- compare -->\n{text}\n<!-- end -->{after}")).unwrap();
    }

    pub(crate) fn cases(&mut self, cases: &[&Case], samples: &Samples) {
        for case in cases {
            let measured: Vec<(Kind, &Vec<Sample>)> = case
                .kinds()
                .filter_map(|kind| Some((kind, samples.get(&(case.name, kind.name()))?)))
                .collect();
            let nginx = [Kind::Nginx, Kind::NginxTls].into_iter();
            let nginx = nginx.filter_map(|kind| samples.get(&(case.name, kind.name()))).next();
            let columns: &[&str] = match case.is_bulk {
                true => &["", "CPU s/GB", "× nginx", "MB/s"],
                false => &[
                    "",
                    "CPU µs/request",
                    "× nginx",
                    "user",
                    "system",
                    "requests/s",
                    "p50 µs",
                    "p99 µs",
                ],
            };
            self.text += &heading(case.title, columns);
            for (kind, own) in measured {
                let of = |value: fn(&Sample) -> f64| median(own, value);
                let cpu = if case.is_bulk { |s: &Sample| s.cpu_per_gb } else { Sample::cpu_us };
                let ratio = nginx.map_or_else(
                    || "–".into(),
                    |nginx| format!("{:.2}", of(cpu) / median(nginx, cpu)),
                );
                self.text += &match case.is_bulk {
                    true => row([
                        kind.name(),
                        format!("{:.3}", of(cpu)),
                        ratio,
                        format!("{:.0}", of(|s| s.bytes_per_second) / 1e6),
                    ]),
                    false => row([
                        kind.name(),
                        format!("{:.1}", of(cpu)),
                        ratio,
                        format!("{:.1}", of(|s| s.user_us)),
                        format!("{:.1}", of(|s| s.system_us)),
                        format!("{:.0}", of(|s| s.per_second)),
                        format!("{:.0}", of(|s| s.p50)),
                        format!("{:.0}", of(|s| s.p99)),
                    ]),
                };
            }
        }
    }

    pub(crate) fn steadiness(&mut self, steadiness: &Steadiness) {
        let title = "Effect of bearerd's background tasks on its callers (1 KB, 64 connections)";
        self.text += &heading(title, &["", "CPU µs/request", "p50 µs", "p99 µs", "p99 ratio"]);
        let p99 = |samples: &[Sample]| median(samples, |sample| sample.p99);
        let quiet = p99(&steadiness.quiet);
        for (name, samples) in [
            ("no background task", &steadiness.quiet),
            ("a scrape every 100 ms", &steadiness.scraped),
            ("a token refresh every 3.5 s", &steadiness.refreshed),
        ] {
            let ratio = p99(samples) / quiet;
            self.text += &row([
                name.to_owned(),
                format!("{:.1}", median(samples, Sample::cpu_us)),
                format!("{:.0}", median(samples, |sample| sample.p50)),
                format!("{:.0}", p99(samples)),
                format!("{ratio:.2}"),
            ]);
            if name != "no background task" {
                self.goal(&format!("{name}: p99 at most 1.1 × without it"), ratio, 1.1, " ×");
            }
        }
    }

    pub(crate) fn memory(&mut self, held: &[Held]) {
        self.text += &heading(
            "Memory, resident / proportional, MiB",
            &[
                "",
                "idle",
                "1,000 idle connections",
                "256 active connections",
                "30 s after the load",
                "binary, MB",
            ],
        );
        for held in held {
            let memory = |memory: crate::process::Memory| {
                format!("{:.1} / {:.1}", memory.resident, memory.proportional)
            };
            self.text += &row([
                held.kind.name(),
                memory(held.idle),
                memory(held.idle_connections),
                memory(held.busy),
                memory(held.after),
                format!("{:.1}", held.program),
            ]);
            if held.kind == BEARERD {
                self.goal("idle: at most 14 MiB", held.idle.resident, 14.0, " MiB");
                let idle = held.idle_connections.resident;
                self.goal("1,000 idle connections: at most 20 MiB", idle, 20.0, " MiB");
                self.goal("30 s after load: at most 40 MiB", held.after.resident, 40.0, " MiB");
            }
        }
    }

    pub(crate) fn starts(&mut self, starts: &[(Kind, f64)]) {
        let issuer = ISSUER.as_millis();
        let title = format!(
            "Time from the start to the first correct answer (the issuer takes {issuer} ms)"
        );
        self.text += &heading(&title, &["", "ms"]);
        for (kind, took) in starts {
            self.text += &row([kind.name(), format!("{took:.0}")]);
            if *kind == BEARERD {
                let most = issuer as f64 * 1.5 + 50.0;
                let goal = "first answer: at most 1.5 × the issuer's time + 50 ms";
                self.goal(goal, *took, most, " ms");
            }
        }
    }

    /// Adds the goals for the cases.
    pub(crate) fn goals(&mut self, samples: &Samples) {
        let of = |case: &'static str, kind: Kind, value: fn(&Sample) -> f64| {
            median(&samples[&(case, kind.name())], value)
        };
        let of_bearerd = |case: &'static str| of(case, BEARERD, Sample::cpu_us);
        for (case, peer, most) in [
            ("small-1", Kind::Nginx, 1.08),
            ("small-64", Kind::Nginx, 1.08),
            ("small-64-two", Kind::Nginx, 1.2),
            ("small-1024", Kind::Nginx, 1.35),
            ("thinking", Kind::Nginx, 1.08),
            ("page", Kind::Nginx, 1.05),
            ("small-1", Kind::NginxLua, 1.0),
            ("small-64", Kind::NginxLua, 1.0),
            ("thinking", Kind::NginxLua, 1.0),
            ("small-1", Kind::Envoy, 0.6),
            ("small-64", Kind::Envoy, 0.6),
            ("small-64-two", Kind::Envoy, 0.6),
            ("thinking", Kind::Envoy, 0.6),
            ("page", Kind::Envoy, 1.0),
            ("page-two", Kind::Envoy, 1.0),
        ] {
            let title = title_of(case);
            let goal = format!("{title}: CPU at most {most} × {}", peer.name());
            self.goal(&goal, of_bearerd(case) / of(case, peer, Sample::cpu_us), most, " ×");
        }
        let links = of_bearerd("links") / of_bearerd("page");
        self.goal("100 KB, rewritten links: CPU at most 2 × without rewriting", links, 2.0, " ×");
        let mut beside_nginx = |name: &str, value: fn(&Sample) -> f64, most: f64| {
            let ratio = of("thinking", BEARERD, value) / of("thinking", Kind::Nginx, value);
            let title = title_of("thinking");
            self.goal(&format!("{title}: {name} at most {most} × nginx"), ratio, most, " ×");
        };
        beside_nginx("p50", |sample| sample.p50, 1.05);
        beside_nginx("p99", |sample| sample.p99, 1.0);
        let per_gb: fn(&Sample) -> f64 = |sample| sample.cpu_per_gb;
        let stream = of("stream", BEARERD, per_gb) / of("stream", Kind::Nginx, per_gb);
        self.goal("64 MiB streams: CPU at most 0.93 × nginx", stream, 0.93, " ×");
        let stream = of("stream", BEARERD, per_gb) / of("stream", Kind::Envoy, per_gb);
        self.goal("64 MiB streams: CPU at most 1 × Envoy", stream, 1.0, " ×");
        let added = of_bearerd("small-64") / of("small-64", Kind::Minimal, Sample::cpu_us);
        self.goal("CPU at most 1.1 × a minimal pingora proxy", added, 1.1, " ×");
        for (title, ratio) in [
            ("64 to 1,024 connections", of_bearerd("small-1024") / of_bearerd("small-64")),
            ("1 to 200 routes", of("routes", MANY_ROUTES, Sample::cpu_us) / of_bearerd("small-64")),
            (
                "1 to 50 clients",
                of("clients", MANY_CLIENTS, Sample::cpu_us) / of_bearerd("small-64"),
            ),
        ] {
            self.goal(&format!("from {title}: CPU at most 1.1 ×"), ratio, 1.1, " ×");
        }
    }

    fn goal(&mut self, goal: &str, measured: f64, most: f64, unit: &str) {
        self.goals.push((goal.to_owned(), format!("{measured:.2}{unit}"), measured <= most));
    }
}

fn heading(title: &str, columns: &[&str]) -> String {
    let rule = "|---".repeat(columns.len());
    format!("\n### {title}\n\n| {} |\n{rule}|\n", columns.join(" | "))
}

fn row<const N: usize>(cells: [String; N]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

/// The title of a case.
fn title_of(name: &str) -> &'static str {
    let mut cases = ONE_WORKER.iter().chain(TWO_WORKERS);
    cases.find(|case| case.name == name).map_or("", |case| case.title)
}

/// The machine and the date.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().unwrap();
    let said = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        text.lines().find(|line| !line.is_empty()).unwrap_or_default().to_owned()
    };
    let version = |kind: Kind, argument: &str| said(&kind.program().to_string_lossy(), argument);
    let envoy = version(Kind::Envoy, "--version");
    format!(
        "{}, {cores} cores, Linux {}, {}. {}; {}; Envoy {}; {}",
        said("date", "+%F"),
        said("uname", "-r"),
        model.trim_start_matches([' ', '\t', ':']),
        version(Kind::Nginx, "-v"),
        version(Kind::Haproxy, "-v"),
        envoy.split('/').find(|part| part.starts_with("1.")).unwrap_or(&envoy),
        said("rustc", "--version"),
    )
}
