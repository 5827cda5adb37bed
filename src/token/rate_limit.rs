//! Limit on the rate of token requests. Pure: the time is an argument.

use crate::clock::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// The largest number of token requests per minute and client: a defect must not become an attack
/// on the issuer.
pub const REQUESTS_PER_MINUTE: usize = 20;
const WINDOW: Duration = Duration::from_secs(60);
/// Part of the limit that is kept for scheduled refreshes, and for tokens that have worked before
/// they were refused. A token that never worked is seldom helped by a newer one.
const RESERVE: usize = 10;

/// Times of the latest token requests, to keep their number under [`REQUESTS_PER_MINUTE`].
#[derive(Debug, Default)]
pub struct TokenRequestLimit {
    sent: VecDeque<Instant>,
}

impl TokenRequestLimit {
    /// Returns the earliest moment, not before `wanted`, at which one more request may be sent.
    pub fn earliest(&self, wanted: Instant) -> Instant {
        self.earliest_below(REQUESTS_PER_MINUTE, wanted)
    }

    /// Returns the earliest moment, not before `wanted`, for a request that leaves the reserve
    /// untouched.
    pub fn earliest_outside_reserve(&self, wanted: Instant) -> Instant {
        self.earliest_below(REQUESTS_PER_MINUTE - RESERVE, wanted)
    }

    fn earliest_below(&self, most: usize, wanted: Instant) -> Instant {
        let first = self.sent.len().checked_sub(most).and_then(|index| self.sent.get(index));
        first.map_or(wanted, |first| wanted.max(*first + WINDOW))
    }

    /// Records a request sent at `now`.
    pub fn record(&mut self, now: Instant) {
        if self.sent.len() >= REQUESTS_PER_MINUTE {
            self.sent.pop_front();
        }
        self.sent.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn the_ceiling_lets_twenty_requests_pass_in_any_minute() {
        let mut limit = TokenRequestLimit::default();
        let start = Instant::now();
        let mut sent = Vec::new();
        let mut now = start;
        for _ in 0..100 {
            now = limit.earliest(now);
            limit.record(now);
            sent.push(now);
        }
        for window in sent.windows(REQUESTS_PER_MINUTE + 1) {
            assert!(window[REQUESTS_PER_MINUTE] - window[0] >= WINDOW);
        }
        assert_eq!(sent[REQUESTS_PER_MINUTE - 1], start, "the first twenty are not held back");
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_the_ceiling_is_kept_in_reserve() {
        let mut limit = TokenRequestLimit::default();
        let start = Instant::now();
        for second in 0..10 {
            let now = start + seconds(second);
            assert_eq!(limit.earliest_outside_reserve(now), now);
            limit.record(now);
        }
        let now = start + seconds(10);
        assert_eq!(limit.earliest_outside_reserve(now), start + seconds(60));
        assert_eq!(limit.earliest(now), now);
        limit.record(now);
        assert_eq!(limit.earliest_outside_reserve(now), start + seconds(61));
    }
}
