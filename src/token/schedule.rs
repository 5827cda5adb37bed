//! When to refresh and when to retry. Pure: the time and the random number are arguments.

use crate::clock::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// The ceiling of token requests a minute and client: a defect must not become an attack.
pub const CEILING: usize = 20;
const CEILING_WINDOW: Duration = Duration::from_secs(60);
/// So many of them are kept for refreshes, and for those who know that the token has worked: where none ever
/// did, a newer one seldom helps.
const RESERVE: usize = 10;

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

/// So many tries follow the curves: SAP's guidance ends with them. Whoever holds a token that serves on
/// need not go on at that pace; 10,000 who ask every half a minute are an issuer's next outage.
const HASTY_TRIES: u32 = 3;

/// What follows then, if the curve does not already bid to wait longer: a short trouble shall not be told
/// for much longer than it lasts. In an outage of an hour 10,000 sidecars then ask 30 times a second
/// rather than 500 times, and are spread as widely when it ends.
const PATIENT: Curve =
    Curve { first: Duration::from_secs(60), factor: 5, most: Duration::from_secs(900) };

/// The most of it, as a share of the time that the token still serves: 15 minutes of six hours, and less
/// and less towards its end.
const PATIENT_SHARE: u32 = 24;

fn patience(failures: u32, left: Duration) -> Duration {
    match failures.checked_sub(HASTY_TRIES) {
        None | Some(0) => Duration::ZERO,
        Some(more) => PATIENT.delay(more).min(left / PATIENT_SHARE),
    }
}

/// How long to wait after `failures` failures in a row (at least one), with a token in hand that serves
/// for `left`: zero if there is none, or if it is no help. `random` is from 0 to 1.
pub fn retry_after(class: RetryClass, failures: u32, left: Duration, random: f64) -> Duration {
    let width = |curve: &Curve| curve.delay(failures).max(patience(failures, left));
    match class {
        // Full jitter: instances that failed together must not return together.
        RetryClass::Connection => width(&CONNECTION).mul_f64(random),
        RetryClass::Server | RetryClass::RateLimited(None) => width(&SERVER).mul_f64(random),
        // Never earlier than asked. An issuer tells thousands the same second, and serves 60 of them:
        // the others spread ever wider. A tenth more alone, and 10,000 that start together send it
        // ten times as many requests, and need twice the time.
        RetryClass::RateLimited(Some(asked)) => {
            let asked = asked.clamp(RETRY_AFTER_BOUNDS.0, RETRY_AFTER_BOUNDS.1);
            asked + width(&SERVER).max(asked / 10).mul_f64(random)
        }
        // Not even with a token in hand any slower: somebody has to do something about it.
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
        self.earliest_of(CEILING, wanted)
    }

    /// The same for a request that leaves the reserve alone.
    pub fn earliest_outside_reserve(&self, wanted: Instant) -> Instant {
        self.earliest_of(CEILING - RESERVE, wanted)
    }

    fn earliest_of(&self, most: usize, wanted: Instant) -> Instant {
        let first = self.sent.len().checked_sub(most).and_then(|index| self.sent.get(index));
        first.map_or(wanted, |first| wanted.max(*first + CEILING_WINDOW))
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
        let after = |class, failures| retry_after(class, failures, Duration::ZERO, 1.0);
        let connection = |failures| after(RetryClass::Connection, failures).as_millis();
        assert_eq!([1, 2, 3, 8, 99].map(connection), [300, 600, 1200, 30_000, 30_000]);
        let server = |failures| after(RetryClass::Server, failures).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 99].map(server), [1, 3, 9, 27, 60, 60]);
        let refused =
            |failures| retry_after(RetryClass::Refused, failures, seconds(21_600), 0.5).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 99].map(refused), [30, 60, 120, 240, 300, 300]);
    }

    #[test]
    fn retry_after_is_honoured_within_bounds_and_never_undercut() {
        let limited = |asked| RetryClass::RateLimited(Some(seconds(asked)));
        let after = |asked, random| retry_after(limited(asked), 1, Duration::ZERO, random);
        assert_eq!(after(7, 0.0), seconds(7));
        assert_eq!(after(0, 0.0), seconds(1));
        assert_eq!(after(86_400, 0.0), seconds(300));
        assert_eq!(after(100, 1.0), seconds(110));
        let crowd = |failures| retry_after(limited(1), failures, Duration::ZERO, 1.0).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 99].map(crowd), [2, 4, 10, 28, 61, 61], "ever wider");
    }

    #[test]
    fn a_token_in_hand_gives_time_after_the_third_try_and_less_of_it_as_it_ends() {
        let after = |failures, left| {
            retry_after(RetryClass::Connection, failures, seconds(left), 1.0).as_millis()
        };
        assert_eq!([1, 2, 3].map(|failures| after(failures, 21_600)), [300, 600, 1200]);
        let fourth = [0, 240, 1200, 9600].map(|left| after(4, left));
        assert_eq!(fourth, [2400, 10_000, 50_000, 60_000]);
        let later = [4, 5, 6, 99].map(|failures| after(failures, 21_600) / 1000);
        assert_eq!(later, [60, 300, 900, 900]);
        assert_eq!(after(99, 86_400), 900_000);
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

    #[tokio::test(start_paused = true)]
    async fn half_of_the_ceiling_is_kept_in_reserve() {
        let mut ceiling = Ceiling::default();
        let start = Instant::now();
        for second in 0..10 {
            let now = start + seconds(second);
            assert_eq!(ceiling.earliest_outside_reserve(now), now);
            ceiling.record(now);
        }
        let now = start + seconds(10);
        assert_eq!(ceiling.earliest_outside_reserve(now), start + seconds(60));
        assert_eq!(ceiling.earliest(now), now);
        ceiling.record(now);
        assert_eq!(ceiling.earliest_outside_reserve(now), start + seconds(61));
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
                    prop_assert!(retry_after(class, failures, left, random) <= most);
                }
                let refused = retry_after(RetryClass::Refused, failures, left, random);
                prop_assert!(refused >= seconds(27) && refused <= seconds(330));
                let least = seconds(asked.clamp(1, 300));
                prop_assert!(retry_after(limited, failures, left, random) >= least);
            }
        }

        #[test]
        fn patience_leaves_time_for_many_more_tries(
            failures in 1u32.., left in 1440u64..1_000_000, random in 0.0f64..=1.0
        ) {
            let left = seconds(left);
            for class in [RetryClass::Connection, RetryClass::Server, RetryClass::RateLimited(None)] {
                prop_assert!(retry_after(class, failures, left, random) <= left / 24);
            }
        }
    }
}
