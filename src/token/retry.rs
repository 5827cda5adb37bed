//! Waits before failed token requests are repeated. Pure: the time and the random number are
//! arguments.

use std::time::Duration;

/// Kind of a failure, which decides how long to wait before the next token request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryClass {
    /// No connection, 408, 502, 504. Retried soon: the next try may reach another instance.
    Connection,
    /// 500, 503, and answers without a usable token.
    Server,
    /// 429, or 408 or 5xx with `Retry-After`. Holds that time, if there is one.
    RateLimited(Option<Duration>),
    /// The issuer refuses the client. Retried slowly: nothing changes by itself, and issuers lock
    /// clients out.
    Refused,
}

/// Consecutive failures of one sort: either the issuer is in trouble, or it refuses the client.
///
/// A failure of the other sort starts a new back-off. An issuer that comes back from an outage and
/// refuses the client once is asked again soon. Trouble of any kind continues the same back-off. If
/// the 429s of an issuer that comes back started a new one, the fleet would ask in step again.
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

    /// Adds a failure. Returns the length of the streak with it.
    pub fn extend(&mut self, class: RetryClass) -> u32 {
        let is_refused = class == RetryClass::Refused;
        let before = if self.is_refused == is_refused { self.length } else { 0 };
        *self = Self { is_refused, length: before.saturating_add(1) };
        self.length
    }
}

/// Shape of an exponential back-off.
struct Backoff {
    first: Duration,
    factor: u32,
    most: Duration,
}

const CONNECTION: Backoff =
    Backoff { first: Duration::from_millis(300), factor: 2, most: Duration::from_secs(30) };
const SERVER: Backoff =
    Backoff { first: Duration::from_secs(1), factor: 3, most: Duration::from_secs(60) };
const REFUSED: Backoff =
    Backoff { first: Duration::from_secs(30), factor: 2, most: Duration::from_secs(300) };

/// Least and most of `Retry-After` that is honoured.
const RETRY_AFTER_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

impl Backoff {
    /// Returns the delay before the try that follows `failures` failures in a row, before jitter.
    fn delay(&self, failures: u32) -> Duration {
        let exponent = failures.saturating_sub(1).min(16);
        self.first.saturating_mul(self.factor.saturating_pow(exponent)).min(self.most)
    }
}

/// Tries that follow the back-off of their class even while a token is valid, as SAP's guidance has
/// it. After them, a client with a valid token slows down: 10,000 clients that each ask every half
/// minute are the issuer's next outage.
const FAST_TRIES: u32 = 3;

/// Back-off after the fast tries, where it is slower than that of the class.
///
/// It stays short enough that a short outage is not reported as degraded much longer than it lasts.
/// In an outage of an hour, 10,000 sidecars ask 30 times a second rather than 500 times, and are
/// spread as widely when it ends.
const SLOW: Backoff =
    Backoff { first: Duration::from_secs(60), factor: 5, most: Duration::from_secs(900) };

/// Divisor of the time for which the token is still valid; the quotient bounds the slow back-off.
/// That is 15 minutes of six hours, and less and less towards the end.
const SLOW_SHARE: u32 = 24;

fn slow_delay(failures: u32, left: Duration) -> Duration {
    match failures.checked_sub(FAST_TRIES) {
        None | Some(0) => Duration::ZERO,
        Some(more) => SLOW.delay(more).min(left / SLOW_SHARE),
    }
}

/// Returns the wait after `failures` failures in a row (at least one).
///
/// `left` is the time for which the token in hand is still valid; zero without one, or if it is not
/// wanted. `random` is from 0 to 1.
pub fn retry_delay(class: RetryClass, failures: u32, left: Duration, random: f64) -> Duration {
    let width = |backoff: &Backoff| backoff.delay(failures).max(slow_delay(failures, left));
    match class {
        // Full jitter: instances that failed together must not return together.
        RetryClass::Connection => width(&CONNECTION).mul_f64(random),
        RetryClass::Server | RetryClass::RateLimited(None) => width(&SERVER).mul_f64(random),
        // Never earlier than asked. An issuer gives thousands of clients the same second, and
        // serves 60 of them, so the others spread ever wider. If they waited only a tenth longer
        // than asked, 10,000 clients that start together would send it ten times as many requests,
        // and need twice the time.
        RetryClass::RateLimited(Some(asked)) => {
            let asked = asked.clamp(RETRY_AFTER_BOUNDS.0, RETRY_AFTER_BOUNDS.1);
            asked + width(&SERVER).max(asked / 10).mul_f64(random)
        }
        // No slower with a valid token: somebody has to act before it expires.
        RetryClass::Refused => REFUSED.delay(failures).mul_f64(0.9 + 0.2 * random),
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
    fn back_off_grows_to_its_limit_by_class() {
        let after = |class, failures| retry_delay(class, failures, Duration::ZERO, 1.0);
        let connection = |failures| after(RetryClass::Connection, failures).as_millis();
        assert_eq!([1, 2, 3, 8, 99].map(connection), [300, 600, 1200, 30_000, 30_000]);
        let server = |failures| after(RetryClass::Server, failures).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 99].map(server), [1, 3, 9, 27, 60, 60]);
        let refused =
            |failures| retry_delay(RetryClass::Refused, failures, seconds(21_600), 0.5).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 99].map(refused), [30, 60, 120, 240, 300, 300]);
    }

    #[test]
    fn retry_after_is_honoured_within_bounds_and_never_undercut() {
        let limited = |asked| RetryClass::RateLimited(Some(seconds(asked)));
        let after = |asked, random| retry_delay(limited(asked), 1, Duration::ZERO, random);
        assert_eq!(after(7, 0.0), seconds(7));
        assert_eq!(after(0, 0.0), seconds(1));
        assert_eq!(after(86_400, 0.0), seconds(300));
        assert_eq!(after(100, 1.0), seconds(110));
        let waits = |failures| retry_delay(limited(1), failures, Duration::ZERO, 1.0).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 99].map(waits), [2, 4, 10, 28, 61, 61], "ever wider");
    }

    #[test]
    fn a_token_in_hand_gives_time_after_the_third_try_and_less_of_it_as_it_ends() {
        let after = |failures, left| {
            retry_delay(RetryClass::Connection, failures, seconds(left), 1.0).as_millis()
        };
        assert_eq!([1, 2, 3].map(|failures| after(failures, 21_600)), [300, 600, 1200]);
        let fourth = [0, 240, 1200, 9600].map(|left| after(4, left));
        assert_eq!(fourth, [2400, 10_000, 50_000, 60_000]);
        let later = [4, 5, 6, 99].map(|failures| after(failures, 21_600) / 1000);
        assert_eq!(later, [60, 300, 900, 900]);
        assert_eq!(after(99, 86_400), 900_000);
    }

    proptest! {
        #[test]
        fn no_delay_leaves_its_bounds(
            failures in 1u32.., random in 0.0f64..=1.0, asked in 0u64.., left in 0u64..1_000_000
        ) {
            let limited = RetryClass::RateLimited(Some(seconds(asked)));
            for (left, most) in [(Duration::ZERO, seconds(360)), (seconds(left), seconds(1200))] {
                for class in [
                    RetryClass::Connection,
                    RetryClass::Server,
                    RetryClass::Refused,
                    RetryClass::RateLimited(None),
                    limited,
                ] {
                    prop_assert!(retry_delay(class, failures, left, random) <= most);
                }
                let refused = retry_delay(RetryClass::Refused, failures, left, random);
                prop_assert!(refused >= seconds(27) && refused <= seconds(330));
                let least = seconds(asked.clamp(1, 300));
                prop_assert!(retry_delay(limited, failures, left, random) >= least);
            }
        }

        #[test]
        fn patience_leaves_time_for_many_more_tries(
            failures in 1u32.., left in 1440u64..1_000_000, random in 0.0f64..=1.0
        ) {
            let left = seconds(left);
            for class in [RetryClass::Connection, RetryClass::Server, RetryClass::RateLimited(None)] {
                prop_assert!(retry_delay(class, failures, left, random) <= left / 24);
            }
        }
    }
}
