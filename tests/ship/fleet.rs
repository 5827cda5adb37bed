//! The claims of `docs/fleet.md`, checked by the simulation that `make fleet` runs.

#[path = "../../benches/fleet/src/issuer.rs"]
mod issuer;
#[path = "../../benches/fleet/src/picture.rs"]
mod picture;
#[path = "../../benches/fleet/src/report.rs"]
mod report;
#[path = "../../benches/fleet/src/scenarios.rs"]
mod scenarios;
#[path = "../../benches/fleet/src/simulation.rs"]
mod simulation;

use scenarios::{FLEETS, LIMIT, Run, STARTED};
use simulation::{peak, sum};
use std::path::Path;
use std::time::Duration;

const SEEDS: std::ops::RangeInclusive<u64> = 1..=3;

/// Each of these scenarios with each seed and size of fleet.
fn runs<const N: usize>(scenarios: [fn(usize, u64) -> Run; N]) -> impl Iterator<Item = Run> {
    let all = SEEDS.flat_map(|seed| FLEETS.map(|sidecars| (sidecars, seed)));
    all.flat_map(move |(sidecars, seed)| scenarios.map(|scenario| scenario(sidecars, seed)))
}

#[test]
fn the_tables_and_pictures_are_up_to_date() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let read = |name: &str| std::fs::read_to_string(docs.join(name)).unwrap();
    let document = read("fleet.md");
    assert!(report::renew(&document) == document, "docs/fleet.md is stale: run `make fleet`");
    for (name, svg) in picture::all() {
        let path = format!("fleet/{name}");
        assert!(read(&path) == svg, "docs/{path} is stale: run `make fleet`");
    }
}

#[test]
fn after_the_start_no_fleet_reaches_the_limit_and_no_sidecar_is_without_a_token() {
    for run in runs([scenarios::steady, scenarios::rolling_restart, scenarios::outage]) {
        let Run { title, sidecars, outcome, .. } = run;
        let peak = peak(&outcome.requests, STARTED);
        assert!(peak < LIMIT, "{title}, {sidecars}: {peak} requests in a second");
        assert_eq!(outcome.without, 0, "{title}, {sidecars}");
        assert_eq!(sum(&outcome.limited, STARTED), 0, "{title}, {sidecars}");
    }
}

#[test]
fn a_fleet_that_starts_together_has_its_tokens_in_minutes_and_comes_back_spread() {
    for run in runs([scenarios::start, scenarios::start_in_outage]) {
        let Run { title, sidecars, from, outcome, .. } = run;
        let all = outcome.had_token(sidecars);
        assert!(all.is_some_and(|all| all - from < STARTED), "{title}, {sidecars}: {all:?}");
        let requests = sum(&outcome.requests, from) as usize;
        assert!(requests <= 8 * sidecars, "{title}, {sidecars}: {requests} requests");
        // Half a minute after the start, the requests are spread over a minute.
        let peak = peak(&outcome.requests, from + Duration::from_secs(30));
        assert!(peak <= 10 * LIMIT, "{title}, {sidecars}: {peak} requests in a second");
    }
}
