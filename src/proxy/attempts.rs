//! How many times one request is sent to the upstream, counted by cause. Each cause has a limit.

use crate::config::Retry;
use pingora::{Error, ErrorType};
use strum::VariantArray;

/// The type of the errors that discard an answer, to send the request again.
const REPLAY: ErrorType = ErrorType::new("Replay");

/// Why a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
pub(crate) enum Cause {
    /// No connection to an address; another address may work.
    Address,
    /// The certificate's authority is unknown to one set of trust anchors; the other may know it.
    TrustAnchors,
    /// The upstream supports only HTTP/2, but HTTP/1.1 was offered.
    Http2Only,
    /// The upstream requires HTTP/1.1 for this request.
    Http1Required,
    /// The upstream refused the HTTP/2 stream unprocessed. It may be overloaded.
    RefusedStream,
    /// A pooled connection was already closed, or was closing, when the request was sent.
    ClosedConnection,
    /// An HTTP/2 connection was cut, or nothing came back on a connection.
    LostConnection,
    /// The upstream refused the token.
    RefusedToken,
    /// The upstream refused the CSRF token.
    RefusedCsrfToken,
    /// A possible login page was compressed; the next attempt asks for plain text.
    CompressedPage,
    /// A possible login page turned out to be none; the next attempt passes it on.
    HarmlessPage,
    /// The upstream was busy, and the route's `retry` policy allows another attempt.
    Busy,
}

impl Cause {
    /// The largest number of attempts for this cause.
    pub(super) const fn limit(self) -> u32 {
        match self {
            Self::Address => MAX_ADDRESSES - 1,
            Self::TrustAnchors | Self::Http2Only | Self::Http1Required => 1,
            Self::RefusedCsrfToken => 1,
            Self::LostConnection => 2,
            Self::RefusedStream => 3,
            // Each answer of a busy upstream may close the pooled connections again.
            Self::ClosedConnection => BUSY_ATTEMPTS,
            // One replay. The second count is a login page in the body of the replay: the next
            // attempt then ends before it is sent.
            Self::RefusedToken => 2,
            // Once before a refused token, and once after.
            Self::CompressedPage | Self::HarmlessPage => 2,
            Self::Busy => BUSY_ATTEMPTS - 1,
        }
    }
}

/// The largest number of addresses that one request tries.
const MAX_ADDRESSES: u32 = 4;

/// The largest number of attempts that a `retry` policy allows.
const BUSY_ATTEMPTS: u32 = Retry::MOST_ATTEMPTS;

/// The largest number of attempts of one request: the first, and those of every cause.
pub(crate) const MOST: usize = 1 + sum_of_limits(Cause::VARIANTS);

const fn sum_of_limits(causes: &[Cause]) -> usize {
    match causes {
        [first, rest @ ..] => first.limit() as usize + sum_of_limits(rest),
        [] => 0,
    }
}

/// The attempts of one request so far.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    by_cause: [u8; Cause::VARIANTS.len()],
    replays: u32,
}

impl Attempts {
    /// Counts another attempt for this cause. Returns whether the cause's limit allows it.
    pub(super) fn try_count(&mut self, cause: Cause) -> bool {
        let Some(count) = self.by_cause.get_mut(cause as usize) else { return false };
        *count = count.saturating_add(1);
        u32::from(*count) <= cause.limit()
    }

    /// How many attempts were counted for this cause.
    pub(super) fn count_of(&self, cause: Cause) -> u32 {
        self.by_cause.get(cause as usize).copied().unwrap_or_default().into()
    }

    /// Returns the error that discards an answer, to send the request again.
    pub(super) fn replay(&mut self, cause: Cause) -> Box<Error> {
        self.replays += 1;
        let mut error = Error::new_up(REPLAY);
        error.set_retry(self.try_count(cause));
        error
    }

    /// The number of the current attempt, from 1. Attempts that brought no answer do not count.
    pub(super) const fn number(&self) -> u32 {
        self.replays + 1
    }
}

/// Whether an error discards an answer, to send the request again.
pub(super) fn is_replay(error: &Error) -> bool {
    *error.etype() == REPLAY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_allows_as_many_attempts_as_its_limit() {
        for cause in Cause::VARIANTS {
            let mut attempts = Attempts::default();
            let allowed = (0..MOST).filter(|_| attempts.try_count(*cause)).count();
            assert_eq!(allowed, cause.limit() as usize, "{cause:?}");
        }
    }

    #[test]
    fn a_replay_beyond_its_limit_is_not_sent() {
        let mut attempts = Attempts::default();
        assert!(attempts.replay(Cause::RefusedCsrfToken).retry());
        assert!(!attempts.replay(Cause::RefusedCsrfToken).retry());
        assert_eq!(attempts.number(), 3);
    }
}
