//! The scenarios and their results, for the tables, the pictures and the test.

use super::issuer::{A_MINUTE, A_SECOND, Issuer, Limit, SILENT};
use super::simulation::{Outcome, Scenario, run};
use std::ops::Range;
use std::time::Duration;

/// The sizes of fleets.
pub(crate) const FLEETS: [usize; 3] = [1, 100, 10_000];
/// The largest number of requests a second that the issuer serves.
pub(crate) const LIMIT: u32 = A_SECOND.requests;
/// The seed of the published results.
pub(crate) const SEED: u64 = 1;
/// The time by which all sidecars must have their first token, even 10,000 that start together.
pub(crate) const STARTED: Duration = minutes(4);
/// The time of the first refresh: half of 12 h, within a tenth.
pub(crate) const FIRST_REFRESH: Range<Duration> = minutes(324)..minutes(396);

const LIFE: Duration = hours(12);

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

const fn hours(hours: u64) -> Duration {
    minutes(60 * hours)
}

/// A simulated scenario and its result.
pub(crate) struct Run {
    /// The title for readers.
    pub(crate) title: &'static str,
    /// The number of sidecars.
    pub(crate) sidecars: usize,
    /// The beginning of the relevant time: after the peak of the start, or after the outage.
    pub(crate) from: Duration,
    /// The length of the relevant time.
    pub(crate) length: Duration,
    /// The result.
    pub(crate) outcome: Outcome,
}

/// A scenario before its run.
struct Plot {
    title: &'static str,
    issuer: Issuer,
    restart: Option<Range<Duration>>,
    from: Duration,
    length: Duration,
}

impl Plot {
    fn run(self, sidecars: usize, seed: u64) -> Run {
        let Self { title, issuer, restart, from, length } = self;
        let scenario = Scenario { sidecars, issuer, restart, length: from + length, seed };
        Run { title, sidecars, from, length, outcome: run(&scenario) }
    }
}

/// A cluster comes back: all sidecars start within a second.
pub(crate) fn start(sidecars: usize, seed: u64) -> Run {
    start_at("all at once", A_SECOND, sidecars, seed)
}

/// The same start with issuers that count in another way or send no `Retry-After`.
pub(crate) fn start_elsewhere(sidecars: usize, seed: u64) -> [Run; 2] {
    [
        start_at("all at once, 429 without `Retry-After`", SILENT, sidecars, seed),
        start_at("all at once, limit of 3,600 a minute", A_MINUTE, sidecars, seed),
    ]
}

fn start_at(title: &'static str, limit: Limit, sidecars: usize, seed: u64) -> Run {
    let issuer = Issuer::new(limit, LIFE);
    let (from, length) = (Duration::ZERO, minutes(10));
    Plot { title, issuer, restart: None, from, length }.run(sidecars, seed)
}

/// All sidecars start while the issuer is down.
pub(crate) fn start_in_outage(sidecars: usize, seed: u64) -> Run {
    let from = minutes(10);
    let issuer = Issuer::new(A_SECOND, LIFE).down(Duration::ZERO, from);
    let title = "all at once, 10 minutes before an outage ends";
    Plot { title, issuer, restart: None, from, length: minutes(10) }.run(sidecars, seed)
}

/// Two days from a moment between the start and the first refresh, so that they hold whole rounds
/// of refreshes.
fn two_days(title: &'static str, issuer: Issuer, restart: Option<Range<Duration>>) -> Plot {
    Plot { title, issuer, restart, from: hours(3), length: hours(48) }
}

/// A fleet without incidents.
pub(crate) fn steady(sidecars: usize, seed: u64) -> Run {
    two_days("steady", Issuer::new(A_SECOND, LIFE), None).run(sidecars, seed)
}

/// The issuer is down from the first refresh of a sidecar on.
pub(crate) fn outage(sidecars: usize, seed: u64) -> Run {
    outage_of("outage of 1 hour", hours(1), sidecars, seed)
}

/// A longer outage.
pub(crate) fn long_outage(sidecars: usize, seed: u64) -> Run {
    outage_of("outage of 3 hours", hours(3), sidecars, seed)
}

fn outage_of(title: &'static str, length: Duration, sidecars: usize, seed: u64) -> Run {
    let issuer = Issuer::new(A_SECOND, LIFE).down(FIRST_REFRESH.start, length);
    two_days(title, issuer, None).run(sidecars, seed)
}

/// All sidecars are restarted one after the other within half an hour.
pub(crate) fn rolling_restart(sidecars: usize, seed: u64) -> Run {
    let restart = hours(24)..hours(24) + minutes(30);
    two_days("rolling restart in 30 min", Issuer::new(A_SECOND, LIFE), Some(restart))
        .run(sidecars, seed)
}

/// Tokens with shorter lifetimes.
pub(crate) fn short_lives(sidecars: usize, seed: u64) -> [Run; 3] {
    let run = |title, lifetime, length| {
        let issuer = Issuer::new(A_SECOND, lifetime);
        Plot { title, issuer, restart: None, from: STARTED, length }.run(sidecars, seed)
    };
    [
        run("tokens of 1 h", hours(1), hours(6)),
        run("tokens of 10 min", minutes(10), hours(1)),
        run("tokens of 60 s", minutes(1), minutes(5)),
    ]
}
