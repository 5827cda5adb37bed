//! Time of one client's next token request. Pure: the time and the random number are arguments.
//!
//! The [`refresher`](super::refresher) follows it, and so does the simulation of a fleet in
//! `benches/fleet`.

use super::rate_limit::TokenRequestLimit;
use super::retry::{RetryClass, Streak, retry_delay};
use crate::clock::Instant;
use std::time::Duration;

/// The largest shift of a refresh, as a fraction of its mean delay. The shift spreads instances
/// that start together.
const REFRESH_JITTER: f64 = 0.1;

/// How long before its expiry a token counts as expired, since a request takes time to arrive.
/// For a short-lived token (some last 60 s), a tenth of its life.
const LEEWAY: Duration = Duration::from_secs(30);

/// Returns for how long a token of this lifetime is given to requests.
pub fn usable_for(lifetime: Duration) -> Duration {
    lifetime.saturating_sub(LEEWAY.min(lifetime / 10))
}

/// Returns how long after its request a token is refreshed: `fraction` of its lifetime, plus or
/// minus up to a tenth of that.
///
/// `random` is from 0 to 1.
pub fn refresh_after(lifetime: Duration, fraction: f64, random: f64) -> Duration {
    let moved = fraction * (1.0 - REFRESH_JITTER + 2.0 * REFRESH_JITTER * random);
    lifetime.mul_f64(moved.clamp(0.0, 1.0)).min(usable_for(lifetime))
}

/// Schedule of one client's token requests.
#[derive(Debug)]
pub struct Schedule {
    refresh_at: f64,
    /// When the next request is due, apart from the limit of requests.
    planned_refresh: Instant,
    /// When the next request is due if the current token must be replaced.
    urgent_refresh: Instant,
    /// Time until which the token in hand is usable; `None` without one, or if it is not wanted.
    usable_until: Option<Instant>,
    /// Failures since the last success.
    failures: u32,
    streak: Streak,
    limit: TokenRequestLimit,
}

impl Schedule {
    /// Creates a schedule whose first request is due at once. `refresh_at` is the fraction of a
    /// token's life after which the next one is fetched.
    pub fn new(now: Instant, refresh_at: f64) -> Self {
        Self {
            refresh_at,
            planned_refresh: now,
            urgent_refresh: now,
            usable_until: None,
            failures: 0,
            streak: Streak::default(),
            limit: TokenRequestLimit::default(),
        }
    }

    /// Returns when the next request is due.
    pub fn next_refresh(&self) -> Instant {
        self.not_before(self.planned_refresh)
    }

    /// Returns when the next request would be due after [`Schedule::expedite`]. A caller that waits
    /// for a token can expect none before.
    pub fn urgent_refresh(&self) -> Instant {
        self.not_before(self.urgent_refresh)
    }

    /// Returns `wanted`, or a later time if the [`TokenRequestLimit`] demands it.
    pub fn not_before(&self, wanted: Instant) -> Instant {
        self.limit.earliest(wanted)
    }

    /// Returns the earliest time of a token request that may not help.
    pub fn speculative_from(&self, now: Instant) -> Instant {
        self.limit.earliest_outside_reserve(now)
    }

    /// Returns the failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether there is a token in hand that is wanted.
    pub fn has_token(&self) -> bool {
        self.usable_until.is_some()
    }

    /// Marks the current token as unwanted. After a success, the next request is then due at once.
    /// After a failure, the retry delay still applies: an earlier request would fail too.
    pub fn expedite(&mut self) {
        self.usable_until = None;
        self.planned_refresh = self.planned_refresh.min(self.urgent_refresh);
    }

    /// Records a request that is sent at `now`.
    pub fn record_request(&mut self, now: Instant) {
        self.limit.record(now);
    }

    /// Records that the request sent at `sent` brought a token.
    pub fn record_success(&mut self, sent: Instant, lifetime: Duration, random: f64) {
        self.planned_refresh = sent + refresh_after(lifetime, self.refresh_at, random);
        self.urgent_refresh = sent;
        self.usable_until = Some(sent + usable_for(lifetime));
        self.failures = 0;
        self.streak = Streak::default();
    }

    /// Records at `now` that the request brought no token.
    pub fn record_failure(&mut self, now: Instant, class: RetryClass, random: f64) {
        self.failures = self.failures.saturating_add(1);
        let length = self.streak.extend(class);
        let left = |until: Instant| until.saturating_duration_since(now);
        let left = self.usable_until.map_or(Duration::ZERO, left);
        let after = |left| now + retry_delay(class, length, left, random);
        (self.planned_refresh, self.urgent_refresh) = (after(left), after(Duration::ZERO));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_token_counts_as_expired_thirty_seconds_or_a_tenth_early() {
        assert_eq!(usable_for(seconds(43_200)), seconds(43_170));
        assert_eq!(usable_for(seconds(60)), seconds(54));
        assert_eq!(usable_for(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn a_refresh_is_due_at_half_life_give_or_take_a_tenth() {
        assert_eq!(refresh_after(seconds(1000), 0.5, 0.0), seconds(450));
        assert_eq!(refresh_after(seconds(1000), 0.5, 0.5), seconds(500));
        assert_eq!(refresh_after(seconds(1000), 0.5, 1.0), seconds(550));
    }

    /// A schedule whose refresh of a token of 12 hours has failed `times` times, and the time of
    /// that.
    fn failed(times: u32) -> (Schedule, Instant) {
        let start = Instant::now();
        let now = start + seconds(21_600);
        let mut schedule = Schedule::new(start, 0.5);
        schedule.record_success(start, seconds(43_200), 0.5);
        for _ in 0..times {
            schedule.record_failure(now, RetryClass::Server, 1.0);
        }
        (schedule, now)
    }

    #[test]
    fn with_a_token_in_hand_three_tries_are_hasty_and_the_others_are_not() {
        let waits = [1, 2, 3, 4, 5, 6, 50].map(|times| {
            let (schedule, now) = failed(times);
            (schedule.next_refresh() - now, schedule.urgent_refresh() - now)
        });
        let due = waits.map(|(due, _)| due.as_secs());
        assert_eq!(due, [1, 3, 9, 60, 300, 898, 898], "at most a 24th of 21570 s");
        let urgent = waits.map(|(_, urgent)| urgent.as_secs());
        assert_eq!(urgent, [1, 3, 9, 27, 60, 60, 60]);
    }

    #[test]
    fn a_token_that_is_not_wanted_any_more_ends_the_patience_and_not_the_back_off() {
        let (mut schedule, now) = failed(50);
        schedule.expedite();
        assert!(!schedule.has_token());
        assert_eq!(schedule.next_refresh() - now, seconds(60));
        schedule.record_failure(now, RetryClass::Server, 1.0);
        assert_eq!(schedule.next_refresh() - now, seconds(60));
    }

    #[test]
    fn after_a_success_expedite_means_at_once_and_the_next_token_has_its_time_again() {
        let (mut schedule, now) = failed(0);
        schedule.expedite();
        assert!(schedule.next_refresh() <= now);
        schedule.record_success(now, seconds(1000), 0.5);
        assert!(schedule.has_token());
        assert_eq!((schedule.next_refresh() - now, schedule.failures()), (seconds(500), 0));
    }

    proptest! {
        #[test]
        fn a_refresh_always_comes_before_the_token_is_unusable(
            lifetime_ms in 1u64..10_000_000_000, fraction in 0.1f64..=0.9, random in 0.0f64..=1.0
        ) {
            let lifetime = Duration::from_millis(lifetime_ms);
            let due = refresh_after(lifetime, fraction, random);
            prop_assert!(due <= usable_for(lifetime) && usable_for(lifetime) <= lifetime);
        }
    }
}
