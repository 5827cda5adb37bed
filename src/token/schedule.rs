//! When to refresh and when to retry. Pure: the time and the random number are arguments.

use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// The ceiling of token requests a minute and client: a defect must not become an attack.
pub const CEILING: usize = 20;
const CEILING_WINDOW: Duration = Duration::from_secs(60);

/// How far from its mean a refresh is moved, so that a fleet started together does not stay together.
const REFRESH_JITTER: f64 = 0.1;

/// A token counts as expired this much early, or a tenth of its life if that is shorter: a request
/// takes a moment to arrive, and tokens of 60 seconds exist.
const LEEWAY: Duration = Duration::from_secs(30);

/// How long a token of this lifetime is given to requests.
pub fn usable_for(lifetime: Duration) -> Duration {
    lifetime.saturating_sub(LEEWAY.min(lifetime / 10))
}

/// When to fetch the next token: `fraction` of the lifetime, moved by up to a tenth of that.
///
/// `random` is from 0 to 1.
pub fn refresh_after(lifetime: Duration, fraction: f64, random: f64) -> Duration {
    let moved = fraction * (1.0 - REFRESH_JITTER + 2.0 * REFRESH_JITTER * random);
    lifetime.mul_f64(moved.clamp(0.0, 1.0)).min(usable_for(lifetime))
}

/// How to wait after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryClass {
    /// No connection, 408, 502, 504: soon, since the next try may well reach another instance.
    Connection,
    /// 500, 503 and answers that are no token.
    Server,
    /// 429, with what the issuer asked for.
    RateLimited(Option<Duration>),
    /// The client is refused: slowly, since nothing changes by itself and issuers lock clients out.
    Refused,
}

/// The shape of an exponential back-off.
struct Curve {
    first: Duration,
    factor: u32,
    most: Duration,
}

const CONNECTION: Curve =
    Curve { first: Duration::from_millis(300), factor: 2, most: Duration::from_secs(30) };
const SERVER: Curve =
    Curve { first: Duration::from_secs(1), factor: 3, most: Duration::from_secs(60) };
const REFUSED: Curve =
    Curve { first: Duration::from_secs(30), factor: 2, most: Duration::from_secs(300) };

/// The least and the most that `Retry-After` can ask of us.
const RETRY_AFTER_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

impl Curve {
    /// The delay before the try that follows `failures` failures in a row, before jitter.
    fn delay(&self, failures: u32) -> Duration {
        let exponent = failures.saturating_sub(1).min(16);
        self.first.saturating_mul(self.factor.saturating_pow(exponent)).min(self.most)
    }
}

/// How long to wait after `failures` failures in a row (at least one). `random` is from 0 to 1.
pub fn retry_after(class: RetryClass, failures: u32, random: f64) -> Duration {
    match class {
        // Full jitter: instances that failed together must not return together.
        RetryClass::Connection => CONNECTION.delay(failures).mul_f64(random),
        RetryClass::Server | RetryClass::RateLimited(None) => {
            SERVER.delay(failures).mul_f64(random)
        }
        // Never earlier than asked; spread over a tenth more.
        RetryClass::RateLimited(Some(asked)) => {
            asked.clamp(RETRY_AFTER_BOUNDS.0, RETRY_AFTER_BOUNDS.1).mul_f64(1.0 + 0.1 * random)
        }
        RetryClass::Refused => REFUSED.delay(failures).mul_f64(0.9 + 0.2 * random),
    }
}

/// Remembers when token requests were sent, to keep them under [`CEILING`].
#[derive(Debug, Default)]
pub struct Ceiling {
    sent: VecDeque<Instant>,
}

impl Ceiling {
    /// The earliest moment, not before `wanted`, at which one more request may be sent.
    pub fn earliest(&self, wanted: Instant) -> Instant {
        match self.sent.front() {
            Some(oldest) if self.sent.len() >= CEILING => wanted.max(*oldest + CEILING_WINDOW),
            _ => wanted,
        }
    }

    /// Notes a request sent at `now`.
    pub fn record(&mut self, now: Instant) {
        if self.sent.len() >= CEILING {
            self.sent.pop_front();
        }
        self.sent.push_back(now);
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

    #[test]
    fn back_off_grows_to_its_limit_by_class() {
        let after = |class, failures| retry_after(class, failures, 1.0);
        let connection = |failures| after(RetryClass::Connection, failures).as_millis();
        assert_eq!([1, 2, 3, 8, 99].map(connection), [300, 600, 1200, 30_000, 30_000]);
        let server = |failures| after(RetryClass::Server, failures).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 99].map(server), [1, 3, 9, 27, 60, 60]);
        let refused = |failures| retry_after(RetryClass::Refused, failures, 0.5).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 99].map(refused), [30, 60, 120, 240, 300, 300]);
    }

    #[test]
    fn retry_after_is_honoured_within_bounds_and_never_undercut() {
        let after =
            |asked, random| retry_after(RetryClass::RateLimited(Some(seconds(asked))), 1, random);
        assert_eq!(after(7, 0.0), seconds(7));
        assert_eq!(after(0, 0.0), seconds(1));
        assert_eq!(after(86_400, 0.0), seconds(300));
        assert_eq!(after(100, 1.0), seconds(110));
    }

    #[tokio::test(start_paused = true)]
    async fn the_ceiling_lets_twenty_requests_pass_in_any_minute() {
        let mut ceiling = Ceiling::default();
        let start = Instant::now();
        let mut sent = Vec::new();
        let mut now = start;
        for _ in 0..100 {
            now = ceiling.earliest(now);
            ceiling.record(now);
            sent.push(now);
        }
        for window in sent.windows(CEILING + 1) {
            assert!(window[CEILING] - window[0] >= CEILING_WINDOW);
        }
        assert_eq!(sent[CEILING - 1], start, "the first twenty are not held back");
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

        #[test]
        fn no_delay_leaves_its_bounds(failures in 1u32.., random in 0.0f64..=1.0, asked in 0u64..) {
            let most = seconds(330);
            for class in [
                RetryClass::Connection,
                RetryClass::Server,
                RetryClass::Refused,
                RetryClass::RateLimited(None),
                RetryClass::RateLimited(Some(seconds(asked))),
            ] {
                prop_assert!(retry_after(class, failures, random) <= most);
            }
            prop_assert!(retry_after(RetryClass::Refused, failures, random) >= seconds(27));
        }
    }
}
