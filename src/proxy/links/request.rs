//! A request's body on its way to the upstream: URLs in it that are ours become the upstream's.
//!
//! A body that could be sent twice is read before the request is sent, so that its length is known and
//! the upstream gets a length, as its caller meant. A longer one is rewritten while it streams, in
//! chunks, and only if it may hold such URLs by its nature: a batch.

use super::format::Rewriter;
use super::{DIGESTS, Plan};
use crate::proxy::admission::REPLAY_BUFFER;
use crate::proxy::route;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use std::time::Duration;
use tokio::time::timeout;

/// How long the next bytes may take of a body that is read before the request is sent.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// What is done to a request's body.
pub(crate) enum RequestBody {
    /// All of it is here.
    Held {
        /// What is sent.
        body: Bytes,
        /// Whether its caller was already told to send it (RFC 9110 section 10.1.1).
        continued: bool,
    },
    /// It streams; each attempt begins anew.
    Streaming(Rewriter),
}

impl RequestBody {
    /// Looks at a request. `None`: its body passes.
    ///
    /// # Errors
    /// The caller does not send what it announced.
    pub(in crate::proxy) async fn prepare(
        plan: &Plan,
        session: &mut Session,
    ) -> pingora::Result<Option<Self>> {
        if session.is_body_empty() {
            return Ok(None);
        }
        let request = session.req_header();
        let Some(rewriter) = plan.request_rewriter(request) else {
            return Ok(None);
        };
        let length = request.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        match length.and_then(|length| length.parse::<u64>().ok()) {
            Some(length) if length <= REPLAY_BUFFER => {
                Self::hold(rewriter, session).await.map_err(Error::into_down)
            }
            Some(_) if !route::ends_with(request.raw_path(), route::BATCH) => Ok(None),
            _ => Ok(Some(Self::Streaming(rewriter))),
        }
    }

    async fn hold(mut rewriter: Rewriter, session: &mut Session) -> pingora::Result<Option<Self>> {
        let expects = session.req_header().headers.get(EXPECT);
        let continued =
            expects.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        if continued {
            session.as_downstream_mut().write_continue_response().await?;
        }
        // What is read now is sent out of this buffer, which holds all of it.
        session.enable_retry_buffering();
        let mut body = Vec::new();
        let late = |_| Error::new_down(ErrorType::ReadTimedout);
        while let Some(chunk) =
            timeout(READ_TIMEOUT, session.read_request_body()).await.map_err(late)??
        {
            rewriter.push(&chunk, &mut body);
        }
        rewriter.finish(&mut body);
        let has_changed = continued || rewriter.rewritten() > 0;
        Ok(has_changed.then(|| Self::Held { body: body.into(), continued }))
    }

    /// Announces the body in the header of a new attempt. `caller` is the request as it came.
    pub(in crate::proxy) fn begin(
        &mut self,
        plan: &Plan,
        caller: &RequestHeader,
        request: &mut RequestHeader,
    ) -> pingora::Result<()> {
        for name in DIGESTS {
            request.remove_header(name);
        }
        match self {
            Self::Held { body, continued } => {
                if *continued {
                    request.remove_header(&EXPECT);
                }
                request.insert_header(CONTENT_LENGTH, body.len().to_string())
            }
            Self::Streaming(rewriter) => {
                *rewriter = plan.request_rewriter(caller).unwrap_or(Rewriter::None);
                request.remove_header(&CONTENT_LENGTH);
                request.insert_header(TRANSFER_ENCODING, "chunked")
            }
        }
    }

    /// Replaces a chunk of the caller's body by what is sent for it.
    pub(crate) fn transform(&mut self, chunk: &mut Option<Bytes>, is_end: bool) {
        let output = match self {
            Self::Held { body, .. } if is_end => body.clone(),
            Self::Held { .. } => Bytes::new(),
            Self::Streaming(rewriter) => {
                let input = chunk.take().unwrap_or_default();
                let mut output = Vec::with_capacity(input.len() + 64);
                rewriter.push(&input, &mut output);
                if is_end {
                    rewriter.finish(&mut output);
                }
                output.into()
            }
        };
        // Nothing at all would mean the end; an empty chunk means that more is to come.
        *chunk = (!is_end || !output.is_empty()).then_some(output);
    }
}
