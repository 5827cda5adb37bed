//! Informational answers (RFC 9110 section 15.2) come before an answer, and not instead of one: an upstream that
//! sends them without end would hold its request for ever, for each begins its time-out anew. Pure.

use http::StatusCode;
use pingora::{Error, ErrorType};
use std::time::Duration;
use tokio::time::Instant;

/// So many pass: one every few seconds, as `102 Processing` comes, for the longest `timeouts.read` that helps.
const MOST: u32 = 100;

/// Those of one request so far.
#[derive(Debug, Default)]
pub(super) struct Informational {
    seen: u32,
    /// When the first came that says that the request is being dealt with.
    since: Option<Instant>,
}

impl Informational {
    /// One more. The answer is due within `patience` of the first; `100 Continue` only asks for the body.
    ///
    /// # Errors
    /// There are too many, or they go on for too long.
    pub(super) fn count(
        &mut self,
        status: StatusCode,
        patience: Duration,
        now: Instant,
    ) -> pingora::Result<()> {
        self.seen += 1;
        if self.seen > MOST {
            let why = "informational answers without end";
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
        }
        if status == StatusCode::CONTINUE {
            return Ok(());
        }
        if now - *self.since.get_or_insert(now) > patience {
            let why = "informational answers, and no other in time";
            return Err(Error::explain(ErrorType::ReadTimedout, why).into_up());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(300);

    #[test]
    fn informational_answers_are_borne_for_as_long_as_an_answer_may_take() {
        let (mut seen, start) = (Informational::default(), Instant::now());
        let mut after =
            |seconds, status| seen.count(status, PATIENCE, start + Duration::from_secs(seconds));
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
            assert!(seen.count(StatusCode::CONTINUE, PATIENCE, now).is_ok());
        }
        let flood = seen.count(StatusCode::CONTINUE, PATIENCE, now).unwrap_err();
        assert_eq!(*flood.etype(), ErrorType::InvalidHTTPHeader);
    }
}
