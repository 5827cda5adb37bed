//! The tables in `docs/fleet.md`.

use super::scenarios::{self, FLEETS, Run, SEED};
use super::simulation::{peak, sum};
use std::time::Duration;

const LARGEST: usize = FLEETS[2];

/// The document with new tables between `<!-- NAME: … -->` and `<!-- end -->`.
///
/// # Panics
/// If the document lacks a table's place.
pub(crate) fn renew(document: &str) -> String {
    let mut renewed = document.to_owned();
    for (name, table) in [("start", start()), ("days", days()), ("variants", variants())] {
        let place = renewed.find(&format!("<!-- {name}:")).expect("the table's beginning");
        let begin = place + renewed[place..].find('\n').expect("an end of the line") + 1;
        let end = begin + renewed[begin..].find("<!-- end -->").expect("the table's end");
        renewed.replace_range(begin..end, &table);
    }
    renewed
}

fn start() -> String {
    let mut table = Table::new(&[
        "start",
        "sidecars",
        "peak per second",
        "requests",
        "answered 429",
        "half have a token after",
        "all have one after",
    ]);
    let mut add = |run: Run| {
        let requests = &run.outcome.requests;
        table.add(&[
            run.title.to_owned(),
            number(run.sidecars),
            number(peak(requests, run.from)),
            number(sum(requests, run.from)),
            number(sum(&run.outcome.limited, run.from)),
            since(run.outcome.had_token(run.sidecars.div_ceil(2)), run.from),
            since(run.outcome.had_token(run.sidecars), run.from),
        ]);
    };
    for sidecars in FLEETS {
        add(scenarios::start(sidecars, SEED));
    }
    scenarios::start_elsewhere(LARGEST, SEED).into_iter().for_each(&mut add);
    add(scenarios::start_in_outage(LARGEST, SEED));
    table.text
}

fn days() -> String {
    let mut table = Table::of_days();
    for run in [scenarios::steady, scenarios::rolling_restart, scenarios::outage] {
        for sidecars in FLEETS {
            table.add_days(&run(sidecars, SEED));
        }
    }
    table.text
}

fn variants() -> String {
    let mut table = Table::of_days();
    table.add_days(&scenarios::long_outage(LARGEST, SEED));
    for run in scenarios::short_lives(LARGEST, SEED) {
        table.add_days(&run);
    }
    table.text
}

struct Table {
    text: String,
}

impl Table {
    fn new(head: &[&str]) -> Self {
        let rule = "|---".repeat(head.len());
        Self { text: format!("| {} |\n{rule}|\n", head.join(" | ")) }
    }

    fn add(&mut self, cells: &[String]) {
        self.text += &format!("| {} |\n", cells.join(" | "));
    }

    fn of_days() -> Self {
        Self::new(&[
            "scenario",
            "sidecars",
            "peak per second",
            "mean per second",
            "429s",
            "requests per sidecar and day",
            "sidecars ever without a valid token",
        ])
    }

    fn add_days(&mut self, run: &Run) {
        let outcome = &run.outcome;
        let requests = sum(&outcome.requests, run.from);
        let mean = f64::from(requests) / run.length.as_secs_f64();
        let without = match outcome.without {
            0 => "none".to_owned(),
            some => {
                format!(
                    "{}, {} h in total",
                    number(some),
                    number(whole_hours(outcome.without_time))
                )
            }
        };
        self.add(&[
            run.title.to_owned(),
            number(run.sidecars),
            number(peak(&outcome.requests, run.from)),
            small(mean),
            number(sum(&outcome.limited, run.from)),
            daily(mean * 86_400.0 / run.sidecars as f64),
            without,
        ]);
    }
}

fn daily(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { number(value.round()) }
}

/// The number with two significant digits.
fn small(value: f64) -> String {
    let places = (0..6).find(|places| value * 10_f64.powi(*places) >= 9.5).unwrap_or(6);
    format!("{value:.*}", places as usize)
}

fn whole_hours(time: Duration) -> u64 {
    time.as_secs().div_ceil(3600)
}

fn since(moment: Option<Duration>, from: Duration) -> String {
    match moment {
        Some(moment) => format!("{:.1} s", moment.saturating_sub(from).as_secs_f64()),
        None => "never".to_owned(),
    }
}

/// The number with a comma before each three digits.
fn number(number: impl ToString) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
