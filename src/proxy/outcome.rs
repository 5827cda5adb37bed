//! Whether a request has its answer, and how one without an answer ended.

use super::downstream::Downstream;
use crate::metrics::labels::RequestOutcome;
use http::header::CONTENT_LENGTH;
use http::{Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorSource, ErrorType};

/// The header of the final answer, if it was written. Informational answers are written, too.
pub(super) fn final_answer(session: &Session) -> Option<&ResponseHeader> {
    session.response_written().filter(|response| !response.status.is_informational())
}

/// Whether an answer has no body (RFC 9110 section 6.4.1).
pub(super) fn has_no_body(method: &Method, response: &ResponseHeader) -> bool {
    method == Method::HEAD
        || matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || response.headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0")
}

/// The outcome of a request that failed after its answer had started.
pub(super) fn of_error(session: &Session, error: &Error) -> RequestOutcome {
    let is_of_writing = matches!(error.etype(), ErrorType::WriteError | ErrorType::WriteTimedout);
    match Downstream::of(session) {
        // The write failed because the answer was cut or could not be read.
        Some(downstream) if downstream.is_cut() || downstream.is_response_broken() => {
            RequestOutcome::UpstreamIncomplete
        }
        // The answer is complete; only the rest of the request body did not arrive.
        Some(downstream) if downstream.has_unneeded_body() && !is_of_writing => {
            RequestOutcome::Forwarded
        }
        _ if *error.esource() == ErrorSource::Downstream => RequestOutcome::DownstreamClosed,
        _ => RequestOutcome::UpstreamIncomplete,
    }
}
