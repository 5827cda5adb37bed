//! Limits informational answers (RFC 9110 section 15.2). Each one restarts the read timeout, so
//! that an endless series of them would keep a request waiting for ever. Pure.

use http::StatusCode;
use pingora::{Error, ErrorType};
use std::time::Duration;
use tokio::time::Instant;

/// The largest number of informational answers of one request. `102 Processing` comes every few
/// seconds; this is enough for a long `timeouts.read`.
const MOST: u32 = 100;

/// The informational answers of one request so far.
#[derive(Debug, Default)]
pub(super) struct Informational {
    seen: u32,
    /// When the first one other than `100 Continue` came.
    since: Option<Instant>,
}

impl Informational {
    /// Counts an informational answer. The final answer must come within `timeout` of the first
    /// one. `100 Continue` starts no timeout: it only asks for the body.
    ///
    /// # Errors
    /// There are too many, or the final answer is late.
    pub(super) fn count(
        &mut self,
        status: StatusCode,
        timeout: Duration,
        now: Instant,
    ) -> pingora::Result<()> {
        self.seen += 1;
        if self.seen > MOST {
            let why = "too many informational answers";
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
        }
        if status == StatusCode::CONTINUE {
            return Ok(());
        }
        if now - *self.since.get_or_insert(now) > timeout {
            let why = "informational answers, but no final answer in time";
            return Err(Error::explain(ErrorType::ReadTimedout, why).into_up());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(300);

    #[test]
    fn informational_answers_pass_for_as_long_as_an_answer_may_take() {
        let (mut seen, start) = (Informational::default(), Instant::now());
        let mut after =
            |seconds, status| seen.count(status, TIMEOUT, start + Duration::from_secs(seconds));
        assert!(after(0, StatusCode::CONTINUE).is_ok());
        assert!(after(3_000, StatusCode::PROCESSING).is_ok(), "an upload may take long");
        assert!(after(3_300, StatusCode::PROCESSING).is_ok());
        let late = after(3_301, StatusCode::PROCESSING).unwrap_err();
        assert_eq!(*late.etype(), ErrorType::ReadTimedout);
    }

    #[test]
    fn informational_answers_are_counted() {
        let (mut seen, now) = (Informational::default(), Instant::now());
        for _ in 0..MOST {
            assert!(seen.count(StatusCode::CONTINUE, TIMEOUT, now).is_ok());
        }
        let flood = seen.count(StatusCode::CONTINUE, TIMEOUT, now).unwrap_err();
        assert_eq!(*flood.etype(), ErrorType::InvalidHTTPHeader);
    }
}
