//! The issuer: its responses, limits and outages.

use bearerd::token::retry::RetryClass;
use std::ops::Range;
use std::time::Duration;

/// A rate limit: requests in each window, counted from the start of the simulation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// The requests that are served in a window. Others are answered 429.
    pub(crate) requests: u32,
    /// The length of a window.
    pub(crate) window: Duration,
    /// Whether a 429 has `Retry-After` with the whole seconds until the next window.
    pub(crate) sends_retry_after: bool,
}

/// SAP's limit: 60 requests a second for all clients of a subaccount together.
pub(crate) const A_SECOND: Limit =
    Limit { requests: 60, window: Duration::from_secs(1), sends_retry_after: true };
/// The same limit without the header.
pub(crate) const SILENT: Limit = Limit { sends_retry_after: false, ..A_SECOND };
/// The same rate counted by the minute. Its `Retry-After` sends thousands back in the same second.
pub(crate) const A_MINUTE: Limit =
    Limit { requests: 3600, window: Duration::from_secs(60), sends_retry_after: true };

/// The properties of an issuer.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    /// The rate limit.
    pub(crate) limit: Limit,
    /// The lifetime of tokens.
    pub(crate) lifetime: Duration,
    /// The time in which it answers 503.
    pub(crate) trouble: Range<Duration>,
    /// The time in which it refuses connections.
    pub(crate) absence: Range<Duration>,
    window: u128,
    served: u32,
}

impl Issuer {
    /// An issuer without outages.
    pub(crate) fn new(limit: Limit, lifetime: Duration) -> Self {
        let never = Duration::ZERO..Duration::ZERO;
        Self { limit, lifetime, trouble: never.clone(), absence: never, window: 0, served: 0 }
    }

    /// An issuer with an outage: 503 in its first half, no connection in the second.
    pub(crate) fn down(self, from: Duration, length: Duration) -> Self {
        let half = from + length / 2;
        Self { trouble: from..half, absence: half..from + length, ..self }
    }

    /// The response to a token request: the token's lifetime, or the class of the failure.
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
        Err(RetryClass::RateLimited(self.limit.sends_retry_after.then_some(whole)))
    }
}
