//! When the next token request of one client is due, after all that happened so far. Pure: the time
//! and the random number are arguments. The [`refresher`](super::refresher) drives it, and so does the
//! simulation of a fleet in `benches/fleet`.

use super::schedule::{self, Ceiling, RetryClass};
use crate::clock::Instant;
use std::time::Duration;

/// Failures of one sort, one after the other: the issuer is in trouble, or it refuses the client. A
/// back-off begins anew with the other sort: an issuer that comes back from an outage and refuses the
/// client once is not left for minutes. Trouble of another kind is still trouble: if the 429s of an
/// issuer that comes back began anew, they would gather the fleet that the outage has spread.
#[derive(Debug, Default)]
pub struct Streak {
    is_refused: bool,
    length: u32,
}

impl Streak {
    /// Whether nothing has failed yet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// How many there are with one more.
    pub fn extend(&mut self, class: RetryClass) -> u32 {
        let is_refused = class == RetryClass::Refused;
        let before = if self.is_refused == is_refused { self.length } else { 0 };
        *self = Self { is_refused, length: before.saturating_add(1) };
        self.length
    }
}

/// One client's token requests.
#[derive(Debug)]
pub struct Plan {
    refresh_at: f64,
    due: Instant,
    /// When it is due for those whom the token in hand does not help.
    urgent: Instant,
    /// Until when the token in hand serves; nothing without one, or if it is not wanted any more.
    serves_until: Option<Instant>,
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
            urgent: now,
            serves_until: None,
            failures: 0,
            streak: Streak::default(),
            ceiling: Ceiling::default(),
        }
    }

    /// When the next request is due.
    pub fn due(&self) -> Instant {
        self.not_before(self.due)
    }

    /// When it would be after [`Plan::hurry`]: what those can reckon with who wait for a token.
    pub fn urgent(&self) -> Instant {
        self.not_before(self.urgent)
    }

    /// `wanted`, or as much later as the [`Ceiling`] bids.
    pub fn not_before(&self, wanted: Instant) -> Instant {
        self.ceiling.earliest(wanted)
    }

    /// From when on a token is fetched for those who cannot tell that a newer one helps.
    pub fn spare_from(&self, now: Instant) -> Instant {
        self.ceiling.earliest_outside_reserve(now)
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether there is a token in hand that is wanted.
    pub fn has_token(&self) -> bool {
        self.serves_until.is_some()
    }

    /// The token in hand is not wanted any more. After a success the next request is due at once; after
    /// a failure when it would be without a token, and no earlier: it would only be asked in vain.
    pub fn hurry(&mut self) {
        self.serves_until = None;
        self.due = self.due.min(self.urgent);
    }

    /// A request was sent.
    pub fn sent(&mut self, now: Instant) {
        self.ceiling.record(now);
    }

    /// The request sent at `sent` brought a token.
    pub fn succeeded(&mut self, sent: Instant, lifetime: Duration, random: f64) {
        self.due = sent + schedule::refresh_after(lifetime, self.refresh_at, random);
        self.urgent = sent;
        self.serves_until = Some(sent + schedule::usable_for(lifetime));
        self.failures = 0;
        self.streak = Streak::default();
    }

    /// The request brought none, as is known at `now`.
    pub fn failed(&mut self, now: Instant, class: RetryClass, random: f64) {
        self.failures = self.failures.saturating_add(1);
        let length = self.streak.extend(class);
        let serves = |until: Instant| until.saturating_duration_since(now);
        let left = self.serves_until.map_or(Duration::ZERO, serves);
        let after = |left| now + schedule::retry_after(class, length, left, random);
        (self.due, self.urgent) = (after(left), after(Duration::ZERO));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A plan whose refresh of a token of 12 hours has failed so often, and the time of that.
    fn failed(times: u32) -> (Plan, Instant) {
        let start = Instant::now();
        let now = start + seconds(21_600);
        let mut plan = Plan::new(start, 0.5);
        plan.succeeded(start, seconds(43_200), 0.5);
        for _ in 0..times {
            plan.failed(now, RetryClass::Server, 1.0);
        }
        (plan, now)
    }

    #[test]
    fn trouble_of_any_kind_is_one_streak_and_a_refusal_another() {
        let mut streak = Streak::default();
        assert!(streak.is_empty());
        let limited = RetryClass::RateLimited(None);
        let trouble = [RetryClass::Server, RetryClass::Connection, limited];
        assert_eq!(trouble.map(|class| streak.extend(class)), [1, 2, 3]);
        assert_eq!([RetryClass::Refused; 2].map(|class| streak.extend(class)), [1, 2]);
        assert_eq!(streak.extend(RetryClass::Server), 1);
    }

    #[test]
    fn with_a_token_in_hand_three_tries_are_hasty_and_the_others_are_not() {
        let waits = [1, 2, 3, 4, 5, 6, 50].map(|times| {
            let (plan, now) = failed(times);
            (plan.due() - now, plan.urgent() - now)
        });
        let due = waits.map(|(due, _)| due.as_secs());
        assert_eq!(due, [1, 3, 9, 60, 300, 898, 898], "at most a 24th of 21570 s");
        let urgent = waits.map(|(_, urgent)| urgent.as_secs());
        assert_eq!(urgent, [1, 3, 9, 27, 60, 60, 60]);
    }

    #[test]
    fn a_token_that_is_not_wanted_any_more_ends_the_patience_and_not_the_back_off() {
        let (mut plan, now) = failed(50);
        plan.hurry();
        assert!(!plan.has_token());
        assert_eq!(plan.due() - now, seconds(60));
        plan.failed(now, RetryClass::Server, 1.0);
        assert_eq!(plan.due() - now, seconds(60));
    }

    #[test]
    fn after_a_success_hurry_means_at_once_and_the_next_token_has_its_time_again() {
        let (mut plan, now) = failed(0);
        plan.hurry();
        assert!(plan.due() <= now);
        plan.succeeded(now, seconds(1000), 0.5);
        assert!(plan.has_token());
        assert_eq!((plan.due() - now, plan.failures()), (seconds(500), 0));
    }
}
