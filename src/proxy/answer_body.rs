//! The body of an answer: checked, rewritten, and without secrets.
//!
//! Links are rewritten in the caller's connection, after pingora's hooks: see
//! [`ResponseRewrite`]. The hooks start that, see the bytes pass, and report their end.

use super::downstream::{Downstream, ResponseFraming, ResponseRewrite};
use super::links::BodyRewriter;
use super::problem::Problem;
use super::route_handle::RouteHandle;
use crate::error::ErrorKind;
use crate::redact::{Redactor, Secrets};
use bytes::Bytes;
use http::Version;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};

/// The error if the upstream's compressed answer cannot be read.
const BAD_COMPRESSION: ErrorType = ErrorType::new("BadCompression");

/// The stages that an answer's body passes.
#[derive(Default)]
pub(super) struct AnswerBody {
    /// The body that the caller's connection rewrites.
    rewritten: Option<Rewritten>,
    /// Removes secrets, unless the caller's connection does.
    redactor: Option<Redactor>,
}

/// A body that the caller's connection rewrites.
struct Rewritten {
    /// Whether the body must be compressed.
    is_gzip: bool,
    /// How many bytes came from the upstream.
    bytes: u64,
}

impl AnswerBody {
    /// Removes these secrets from the body.
    pub(super) fn redact(&mut self, secrets: Secrets) {
        self.redactor = Some(Redactor::new(secrets));
    }

    /// Makes the caller's connection rewrite the body, and remove secrets from it.
    pub(super) fn start_rewrite(
        &mut self,
        session: &mut Session,
        route: &RouteHandle,
        body: BodyRewriter,
    ) {
        let framing = match session.req_header().version {
            Version::HTTP_10 => ResponseFraming::Bare,
            _ => ResponseFraming::Chunks,
        };
        self.rewritten = Some(Rewritten { is_gzip: body.is_gzip(), bytes: 0 });
        let rewrite =
            ResponseRewrite::new(body, self.redactor.take(), route.metrics.clone(), framing);
        Downstream::with(session, |downstream| downstream.start_rewrite(rewrite));
        // The connection has its own write timeout.
        session.set_write_timeout(None);
    }

    /// Passes the next bytes through the stages. Returns how many secrets were removed.
    ///
    /// # Errors
    /// The bytes contradict the header. If nothing was sent yet, the caller gets an answer.
    pub(super) fn push(
        &mut self,
        session: &Session,
        body: &mut Option<Bytes>,
        is_end: bool,
    ) -> pingora::Result<usize> {
        if let Some(rewritten) = &mut self.rewritten {
            let bytes = body.as_deref().unwrap_or_default();
            if rewritten.bytes == 0 && rewritten.is_gzip && !BodyRewriter::may_begin(bytes) {
                return Err(bad_compression());
            }
            rewritten.bytes += bytes.len() as u64;
            if is_end {
                let length = rewritten.bytes;
                Downstream::with(session, |downstream| downstream.set_body_length(length));
            }
        }
        Ok(self.redactor.as_mut().map_or(0, |redactor| redactor.redact_chunk(body, is_end)))
    }

    /// Drops all stages, for another answer.
    pub(super) fn reset(&mut self, session: &Session) {
        if self.rewritten.take().is_some() {
            Downstream::with(session, Downstream::stop_rewrite);
        }
        self.redactor = None;
    }

    /// How many bytes of a rewritten body the caller got.
    pub(super) fn rewritten_length(&self, session: &Session) -> Option<u64> {
        self.rewritten.as_ref().and_then(|_| Downstream::of(session)?.rewritten_length())
    }
}

fn bad_compression() -> Box<Error> {
    let detail = "the upstream's answer cannot be decompressed; to pass it on unchanged, set `links: off` on the route";
    Problem::new(ErrorKind::UpstreamUnreachable, detail).into_error(BAD_COMPRESSION).into_up()
}

/// The reason why a request ended. If a compressed body cannot be read, pingora reports a failed
/// write instead.
pub(super) fn error_type<'a>(session: &Session, error: &'a Error) -> &'a ErrorType {
    if Downstream::of(session).is_some_and(Downstream::is_response_broken) {
        &BAD_COMPRESSION
    } else {
        error.etype()
    }
}
