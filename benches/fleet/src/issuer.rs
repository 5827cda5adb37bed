//! The issuer: what it answers, and when it does not.

use bearerd::token::retry::RetryClass;
use std::ops::Range;
use std::time::Duration;

/// The rate limit: so many requests in each window, counted from the start of the simulation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// Requests that are served in a window. The rest is answered 429.
    pub(crate) requests: u32,
    /// How long a window is.
    pub(crate) window: Duration,
    /// Whether a 429 says in `Retry-After`, in whole seconds, when the next window begins.
    pub(crate) tells: bool,
}

/// SAP's: 60 requests a second for all clients of a subaccount together.
pub(crate) const A_SECOND: Limit =
    Limit { requests: 60, window: Duration::from_secs(1), tells: true };
/// The same, without the header.
pub(crate) const SILENT: Limit = Limit { tells: false, ..A_SECOND };
/// As much, but counted by the minute: it tells thousands to return at the same second.
pub(crate) const A_MINUTE: Limit =
    Limit { requests: 3600, window: Duration::from_secs(60), tells: true };

/// What an issuer is like.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    /// Its rate limit.
    pub(crate) limit: Limit,
    /// How long its tokens live.
    pub(crate) lifetime: Duration,
    /// When it answers 503.
    pub(crate) trouble: Range<Duration>,
    /// When nobody can connect to it.
    pub(crate) absence: Range<Duration>,
    window: u128,
    served: u32,
}

impl Issuer {
    /// One that is always there.
    pub(crate) fn new(limit: Limit, lifetime: Duration) -> Self {
        let never = Duration::ZERO..Duration::ZERO;
        Self { limit, lifetime, trouble: never.clone(), absence: never, window: 0, served: 0 }
    }

    /// The same with an outage: 503 in its first half, no connection in the second.
    pub(crate) fn down(self, from: Duration, length: Duration) -> Self {
        let half = from + length / 2;
        Self { trouble: from..half, absence: half..from + length, ..self }
    }

    /// Answers a token request, with a token's lifetime or with how to wait for one.
    pub(crate) fn answer(&mut self, now: Duration) -> Result<Duration, RetryClass> {
        if self.trouble.contains(&now) {
            return Err(RetryClass::Server);
        }
        if self.absence.contains(&now) {
            return Err(RetryClass::Connection);
        }
        let width = self.limit.window.as_micros();
        let window = now.as_micros() / width;
        if window != self.window {
            (self.window, self.served) = (window, 0);
        }
        if self.served < self.limit.requests {
            self.served += 1;
            return Ok(self.lifetime);
        }
        let left = (window + 1) * width - now.as_micros();
        let whole = Duration::from_secs(left.div_ceil(1_000_000) as u64);
        Err(RetryClass::RateLimited(self.limit.tells.then_some(whole)))
    }
}
