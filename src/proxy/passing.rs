//! An answer whose body is changed behind the hooks, on the caller's connection: what they begin there, see
//! go by, and hear of its end.

use super::RouteHandle;
use super::context::Context;
use super::downstream::{Downstream, ResponseFraming, ResponseRewrite};
use super::failure::BAD_COMPRESSION;
use super::links::BodyRewriter;
use bytes::Bytes;
use http::Version;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};

/// What has gone by.
pub(super) struct Passing {
    /// Whether nothing else than a body that is compressed may begin.
    is_gzip: bool,
    bytes: u64,
}

/// Hands the body of an answer over to be changed, and what looks for our secrets in it.
pub(super) fn begin(
    session: &mut Session,
    route: &RouteHandle,
    body: BodyRewriter,
    context: &mut Context,
) {
    let framing = match session.req_header().version {
        Version::HTTP_10 => ResponseFraming::Bare,
        _ => ResponseFraming::Chunks,
    };
    context.passing = Some(Passing { is_gzip: body.is_gzip(), bytes: 0 });
    let rewrite =
        ResponseRewrite::new(body, context.redactor.take(), route.metrics.clone(), framing);
    Downstream::with(session, |downstream| downstream.start_rewrite(rewrite));
    // The connection keeps the time.
    session.set_write_timeout(None);
}

/// Looks at the next bytes as they came.
///
/// # Errors
/// They are not what the header has said: the caller may still hear of it.
pub(super) fn see(
    session: &Session,
    body: Option<&Bytes>,
    is_end: bool,
    context: &mut Context,
) -> pingora::Result<()> {
    let Some(passing) = &mut context.passing else { return Ok(()) };
    let bytes = body.map_or(&[][..], |bytes| bytes);
    if passing.bytes == 0 && passing.is_gzip && !BodyRewriter::may_begin(bytes) {
        return Err(Error::new_up(BAD_COMPRESSION));
    }
    passing.bytes += bytes.len() as u64;
    if is_end {
        Downstream::with(session, |downstream| downstream.set_body_length(passing.bytes));
    }
    Ok(())
}

/// Nothing comes of an answer that was begun.
pub(super) fn forget(session: &Session, passing: &mut Option<Passing>) {
    if passing.take().is_some() {
        Downstream::with(session, Downstream::stop_rewrite);
    }
}

/// How many bytes of a body the caller got.
pub(super) fn body_bytes(session: &Session, context: &Context) -> u64 {
    let rewritten =
        context.passing.as_ref().and_then(|_| Downstream::of(session)?.rewritten_length());
    rewritten.unwrap_or_else(|| session.body_bytes_sent() as u64)
}

/// Why a request ended. An answer that can't be read seems to pingora one that can't be written.
pub(super) fn cause<'a>(session: &Session, error: &'a Error) -> &'a ErrorType {
    if Downstream::of(session).is_some_and(Downstream::is_response_broken) {
        &BAD_COMPRESSION
    } else {
        error.etype()
    }
}
