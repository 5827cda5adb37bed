//! When the next token request of one client is due, after all that happened so far. Pure: the time
//! and the random number are arguments. The [`refresher`](super::refresher) drives it.

use super::schedule::{self, Ceiling, RetryClass};
use std::mem::{Discriminant, discriminant};
use std::time::Duration;
use tokio::time::Instant;

/// Failures of one class, one after the other. A back-off begins anew with each class: an issuer
/// that comes back from an outage and refuses the client once is not left for minutes.
#[derive(Debug, Default)]
pub struct Streak {
    class: Option<Discriminant<RetryClass>>,
    length: u32,
}

impl Streak {
    /// Whether nothing has failed yet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// How long to wait after one more failure. `random` is from 0 to 1.
    pub fn delay(&mut self, class: RetryClass, random: f64) -> Duration {
        let kind = Some(discriminant(&class));
        let before = if self.class == kind { self.length } else { 0 };
        *self = Self { class: kind, length: before.saturating_add(1) };
        schedule::retry_after(class, self.length, random)
    }
}

/// One client's token requests.
#[derive(Debug)]
pub struct Plan {
    refresh_at: f64,
    due: Instant,
    /// Whether the last request brought a token and nobody wanted another since.
    is_content: bool,
    /// Failures since the last success.
    failures: u32,
    streak: Streak,
    ceiling: Ceiling,
}

impl Plan {
    /// The first request is due at once. `refresh_at` is the fraction of a token's life after which
    /// the next is fetched.
    pub fn new(now: Instant, refresh_at: f64) -> Self {
        Self {
            refresh_at,
            due: now,
            is_content: false,
            failures: 0,
            streak: Streak::default(),
            ceiling: Ceiling::default(),
        }
    }

    /// When the next request is due.
    pub fn due(&self) -> Instant {
        self.not_before(self.due)
    }

    /// `wanted`, or as much later as the [`Ceiling`] bids.
    pub fn not_before(&self, wanted: Instant) -> Instant {
        self.ceiling.earliest(wanted)
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether [`Plan::hurry`] would make a difference. After a failure the back-off alone decides:
    /// whoever is refused then would only ask sooner in vain.
    pub fn can_hurry(&self) -> bool {
        self.is_content
    }

    /// The current token is not wanted any more: the next request is due at once.
    pub fn hurry(&mut self, now: Instant) {
        self.due = now;
        self.is_content = false;
    }

    /// A request was sent.
    pub fn sent(&mut self, now: Instant) {
        self.ceiling.record(now);
    }

    /// The request sent at `sent` brought a token.
    pub fn succeeded(&mut self, sent: Instant, lifetime: Duration, random: f64) {
        self.due = sent + schedule::refresh_after(lifetime, self.refresh_at, random);
        self.is_content = true;
        self.failures = 0;
        self.streak = Streak::default();
    }

    /// The request brought none, as is known at `now`.
    pub fn failed(&mut self, now: Instant, class: RetryClass, random: f64) {
        self.due = now + self.streak.delay(class, random);
        self.is_content = false;
        self.failures = self.failures.saturating_add(1);
    }
}
