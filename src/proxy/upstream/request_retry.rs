//! Which requests are sent again after their connection was lost or refused them. Pure.

use super::http2;
use super::loss::{IDLE_TIMEOUT, Loss};
use super::tried::Tried;
use crate::proxy::attempts::{Attempts, Cause};
use http::{StatusCode, Version};
use pingora::Error;
use pingora::http::ResponseHeader;

/// Sets in the error whether a request that failed before its answer is sent again. A write, even
/// an idempotent one, may have been executed: it is sent again only if the upstream says that it
/// did not process the request.
pub(in crate::proxy) fn decide_request_retry(
    error: &mut Error,
    only_reads: bool,
    is_pooled: bool,
    tried: &mut Tried,
    attempts: &mut Attempts,
) {
    let cause = match unprocessed(error, is_pooled) {
        Some(cause) => Some(cause),
        None if only_reads => lost(error, is_pooled, tried),
        None => None,
    };
    error.set_retry(cause.is_some_and(|cause| attempts.try_count(cause)));
}

/// The cause of another attempt, if the upstream says that it did not process the request.
fn unprocessed(error: &Error, is_pooled: bool) -> Option<Cause> {
    let is_closing = http2::is_graceful_shutdown(error);
    // A pooled connection may have been about to close. An upstream that closes a new one at once
    // refuses requests.
    if http2::is_refused_stream(error) || is_closing && !is_pooled {
        return Some(Cause::RefusedStream);
    }
    if is_closing {
        return Some(Cause::ClosedConnection);
    }
    http2::requires_http1(error).then_some(Cause::Http1Required)
}

/// The cause of another attempt, if a read was lost with its connection.
fn lost(error: &Error, is_pooled: bool, tried: &mut Tried) -> Option<Cause> {
    let loss = Loss::of(error, is_pooled)?;
    // Other pooled connections may be dead, too. For HTTP/2 there is only one, and it has left the
    // pool.
    tried.needs_new_connection = !http2::is_of_http2(error);
    Some(match loss {
        Loss::Closed => Cause::ClosedConnection,
        Loss::Silent | Loss::Cut => Cause::LostConnection,
    })
}

/// Whether an answer is not to this request: over a pooled connection, 408 announces the end of an
/// idle connection (RFC 9110 section 15.5.9).
pub(in crate::proxy) fn is_idle_timeout(response: &ResponseHeader, tried: &Tried) -> bool {
    tried.is_pooled
        && response.status == StatusCode::REQUEST_TIMEOUT
        // In HTTP/2, an answer has the stream of its request.
        && response.version != Version::HTTP_2
}

/// Ends an attempt that got the answer of an idle connection.
pub(in crate::proxy) fn idle_timeout() -> Box<Error> {
    Error::new_up(IDLE_TIMEOUT)
}
