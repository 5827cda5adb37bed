//! A fleet of sidecars in virtual time. Each has bearerd's own [`Schedule`]. The events are token
//! requests and restarts. Nothing sleeps, and random numbers are seeded: a scenario always has the
//! same result.

use super::issuer::Issuer;
use bearerd::clock::Instant;
use bearerd::token::retry::RetryClass;
use bearerd::token::schedule::{Schedule, usable_for};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::time::Duration;

/// The time from a request to its response.
const LATENCY: Duration = Duration::from_millis(100);
/// The default of `refresh_at`.
const REFRESH_AT: f64 = 0.5;

/// The events of a fleet.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// The number of sidecars. All start within the first second.
    pub(crate) sidecars: usize,
    /// The issuer of their tokens.
    pub(crate) issuer: Issuer,
    /// The time in which they are restarted, one after the other.
    pub(crate) restart: Option<Range<Duration>>,
    /// The length of the simulation.
    pub(crate) length: Duration,
    /// The seed of the random numbers.
    pub(crate) seed: u64,
}

/// The result of a simulation.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Token requests in each second.
    pub(crate) requests: Vec<u32>,
    /// Tokens issued in each second.
    pub(crate) tokens: Vec<u32>,
    /// Requests answered 429 in each second.
    pub(crate) limited: Vec<u32>,
    /// The times of the sidecars' first tokens, in order.
    pub(crate) first: Vec<Duration>,
    /// The number of sidecars that had no valid token at some time after their first one.
    pub(crate) without: usize,
    /// The total time without a valid token.
    pub(crate) without_time: Duration,
}

/// A SplitMix64 generator.
struct Random(u64);

impl Random {
    /// A random number from 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

struct Sidecar {
    schedule: Schedule,
    /// The number of restarts. Events of earlier processes are void.
    life: u32,
    /// The end of the current token, or `None` before the first one.
    valid_until: Option<Duration>,
    has_started: bool,
    without: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Request { life: u32 },
    Restart,
}

/// An event: its time, its number for a total order, its sidecar, and its kind.
type Entry = Reverse<(Duration, u64, usize, Event)>;

#[derive(Default)]
struct Agenda {
    entries: BinaryHeap<Entry>,
    count: u64,
}

impl Agenda {
    fn add(&mut self, at: Duration, whose: usize, event: Event) {
        self.count += 1;
        self.entries.push(Reverse((at, self.count, whose, event)));
    }
}

/// Runs the simulation.
pub(crate) fn run(scenario: &Scenario) -> Outcome {
    // The zero of virtual time. Only differences to it matter.
    let zero = Instant::default();
    let mut random = Random(scenario.seed);
    let mut issuer = scenario.issuer.clone();
    let mut agenda = Agenda::default();
    let nothing = vec![0; scenario.length.as_secs() as usize];
    let mut outcome = Outcome {
        requests: nothing.clone(),
        tokens: nothing.clone(),
        limited: nothing,
        ..Outcome::default()
    };

    let mut fleet = Vec::with_capacity(scenario.sidecars);
    for whose in 0..scenario.sidecars {
        let start = Duration::from_secs_f64(random.next());
        agenda.add(start, whose, Event::Request { life: 0 });
        if let Some(restart) = &scenario.restart {
            let share = whose as f64 / scenario.sidecars as f64;
            let at = restart.start + (restart.end - restart.start).mul_f64(share);
            agenda.add(at, whose, Event::Restart);
        }
        fleet.push(Sidecar::new(zero + start));
    }

    while let Some(Reverse((now, _, whose, event))) = agenda.entries.pop() {
        if now >= scenario.length {
            break;
        }
        let sidecar = &mut fleet[whose];
        match event {
            Event::Restart => {
                sidecar.reach(now);
                sidecar.life += 1;
                sidecar.valid_until = None;
                sidecar.schedule = Schedule::new(zero + now, REFRESH_AT);
            }
            Event::Request { life } if life != sidecar.life => continue,
            Event::Request { .. } => {
                let second = now.as_secs() as usize;
                let answered = now + LATENCY;
                outcome.requests[second] += 1;
                sidecar.schedule.record_request(zero + now);
                match issuer.answer(now) {
                    Ok(lifetime) => {
                        outcome.tokens[second] += 1;
                        if !std::mem::replace(&mut sidecar.has_started, true) {
                            outcome.first.push(answered);
                        }
                        sidecar.reach(answered);
                        sidecar.valid_until = Some(now + usable_for(lifetime));
                        sidecar.schedule.record_success(zero + now, lifetime, random.next());
                    }
                    Err(class) => {
                        let is_limited = matches!(class, RetryClass::RateLimited(_));
                        outcome.limited[second] += u32::from(is_limited);
                        sidecar.schedule.record_failure(zero + answered, class, random.next());
                    }
                }
            }
        }
        let life = sidecar.life;
        agenda.add(sidecar.schedule.next_refresh() - zero, whose, Event::Request { life });
    }
    for sidecar in &mut fleet {
        sidecar.reach(scenario.length);
        outcome.without += usize::from(!sidecar.without.is_zero());
        outcome.without_time += sidecar.without;
    }
    outcome
}

impl Sidecar {
    fn new(start: Instant) -> Self {
        Self {
            schedule: Schedule::new(start, REFRESH_AT),
            life: 0,
            valid_until: None,
            has_started: false,
            without: Duration::ZERO,
        }
    }

    /// Advances to `now` with the current token, and counts the time without a valid one.
    fn reach(&mut self, now: Duration) {
        if let Some(until) = self.valid_until {
            self.without += now.saturating_sub(until);
            self.valid_until = Some(until.max(now));
        }
    }
}

impl Outcome {
    /// The time when this many sidecars had had a token, if they ever had.
    pub(crate) fn had_token(&self, count: usize) -> Option<Duration> {
        self.first.get(count.checked_sub(1)?).copied()
    }
}

/// The highest number in a second from `start` on.
pub(crate) fn peak(seconds: &[u32], start: Duration) -> u32 {
    after(seconds, start).iter().copied().max().unwrap_or(0)
}

/// The sum from `start` on.
pub(crate) fn sum(seconds: &[u32], start: Duration) -> u32 {
    after(seconds, start).iter().sum()
}

fn after(seconds: &[u32], start: Duration) -> &[u32] {
    &seconds[seconds.len().min(start.as_secs() as usize)..]
}
