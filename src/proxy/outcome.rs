//! When an answer has come to its end, and how a request has.

use super::context::Context;
use super::downstream::Downstream;
use crate::metrics::labels::RequestOutcome;
use http::header::CONTENT_LENGTH;
use http::{Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorSource, ErrorType};

/// The header that ends the waiting; informational ones are written, too.
pub(super) fn final_answer(session: &Session) -> Option<&ResponseHeader> {
    session.response_written().filter(|response| !response.status.is_informational())
}

/// Whether an answer is its header alone (RFC 9110 section 6.4.1).
pub(super) fn has_no_body(method: &Method, response: &ResponseHeader) -> bool {
    method == Method::HEAD
        || matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || response.headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0")
}

/// All of the answer is here, and on its way to the caller: what is left of the request is no matter of the upstream's.
pub(super) fn has_answered(session: &Session, context: &mut Context) {
    let is_refused = context.is_refused;
    Downstream::with(session, |downstream| downstream.response_finished(is_refused));
    context.slot = None;
}

/// How a request ended by an error of which its caller hears nothing any more.
pub(super) fn end_of(session: &Session, error: &Error) -> RequestOutcome {
    let is_of_writing = matches!(error.etype(), ErrorType::WriteError | ErrorType::WriteTimedout);
    match Downstream::of(session) {
        // To write there was in vain, or there was nothing that could be written.
        Some(downstream) if downstream.is_cut() || downstream.is_response_broken() => {
            RequestOutcome::UpstreamIncomplete
        }
        // All was said; the rest of the body is what did not come.
        Some(downstream) if downstream.has_unneeded_body() && !is_of_writing => {
            RequestOutcome::Forwarded
        }
        _ if *error.esource() == ErrorSource::Downstream => RequestOutcome::DownstreamClosed,
        _ => RequestOutcome::UpstreamIncomplete,
    }
}
