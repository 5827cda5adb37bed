//! A request's body on its way to the upstream: batches are checked, and URLs that are ours become the
//! upstream's.
//!
//! A body that could be sent twice is read before the request is sent, so that its length is known and
//! the upstream gets a length, as its caller meant. Of a longer one with a length, the beginning is read:
//! only if it holds such URLs is the body rewritten while it streams, in chunks, which not every server
//! takes. Otherwise it keeps its length and its bytes; should a URL like that come later all the same, the
//! request is refused, and the upstream sees no end of it. A batch holds such URLs by its nature: if it is
//! longer, it always goes in chunks.

use super::batch_check::BatchCheck;
use super::links::{DIGESTS, LinkPlan, RequestRewriter};
use super::replay::REPLAY_BUFFER;
use super::respond::Problem;
use super::route;
use crate::error::ErrorKind;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::timeout;

/// How long the next bytes may take of a body that is read before the request is sent.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// pingora reads no more of a body at once.
const LARGEST_READ: u64 = 64 * 1024;
/// After so much work, it is the turn of others: a worker has one thread.
const TURN: usize = 8 * 1024;
/// So much is done at once: where URLs are dense, it grows to some times as much.
const PIECE: usize = 1024;
/// By no more than this, what was read may grow at once when the upstream's URLs take the place of ours. That is more
/// than a part of a batch that is held becomes, or twice as much as a read of nothing but links.
const MOST_GROWN: usize = 256 * 1024;

/// What is done to a request's body.
pub(crate) enum RequestBody {
    /// All of it is here.
    Held {
        /// What is sent.
        body: Bytes,
        /// Whether its caller was already asked to send it (RFC 9110 section 10.1.1).
        continued: bool,
    },
    /// It streams.
    Streaming {
        /// Of this attempt.
        stages: Box<Stages>,
        /// What was read of it before, as it came.
        beginning: Bytes,
        /// Whether this attempt has sent that.
        has_begun: bool,
        /// What it is sent as.
        framing: Framing,
        /// Whether its caller was already asked to send it.
        continued: bool,
    },
}

/// How a body that streams is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// In chunks, rewritten.
    Chunks,
    /// With its length, which no URL may change.
    Length,
}

/// What a body passes through.
pub(crate) struct Stages {
    check: Option<Box<BatchCheck>>,
    rewriter: RequestRewriter,
    /// How much was done in this turn.
    work: usize,
}

impl Stages {
    const fn new(check: Option<Box<BatchCheck>>, rewriter: RequestRewriter) -> Self {
        Self { check, rewriter, work: 0 }
    }

    /// Takes the next bytes, the last of all if `is_end`, and appends what may be sent to `output`. In between, it is
    /// the turn of others. What grows too much is refused: all that comes of it is held until the upstream takes it.
    async fn push(
        &mut self,
        input: &[u8],
        is_end: bool,
        output: &mut Vec<u8>,
    ) -> Result<(), Problem> {
        let (mut checked, mut room) = (Vec::new(), MOST_GROWN);
        for piece in input.chunks(PIECE) {
            if let Some(check) = &mut self.check {
                check.push(piece, &mut checked)?;
                self.did(piece.len()).await;
                self.rewrite(&checked, &mut room, output).await?;
                checked.clear();
            } else {
                self.rewrite(piece, &mut room, output).await?;
            }
        }
        if is_end {
            if let Some(check) = &mut self.check {
                check.finish(&mut checked)?;
                self.rewrite(&checked, &mut room, output).await?;
            }
            self.rewriter.finish(output);
        }
        Ok(())
    }

    /// Rewrites bytes that may be sent, which may grow into this room.
    async fn rewrite(
        &mut self,
        bytes: &[u8],
        room: &mut usize,
        output: &mut Vec<u8>,
    ) -> Result<(), Problem> {
        for piece in bytes.chunks(PIECE) {
            let before = output.len();
            self.rewriter.push(piece, output);
            let made = output.len().saturating_sub(before);
            *room = (*room + piece.len()).checked_sub(made).ok_or_else(too_many_links)?;
            self.did(piece.len() + made).await;
        }
        Ok(())
    }

    /// Ends the turn when it is enough.
    async fn did(&mut self, work: usize) {
        self.work += work;
        if self.work >= TURN {
            self.work = 0;
            yield_now().await;
        }
    }

    /// Begins anew, for another attempt.
    fn restart(&mut self, plan: Option<&LinkPlan>, caller: &RequestHeader) {
        let rewriter = plan.and_then(|plan| plan.request_rewriter(caller));
        self.rewriter = rewriter.unwrap_or(RequestRewriter::none());
        if let Some(check) = &mut self.check {
            check.restart();
        }
    }
}

impl RequestBody {
    /// Looks at a request. `Ok(None)`: its body passes; a problem: it may not be sent.
    ///
    /// # Errors
    /// The caller does not send what it announced.
    pub(super) async fn prepare(
        plan: Option<&LinkPlan>,
        check: Option<Box<BatchCheck>>,
        session: &mut Session,
    ) -> pingora::Result<Result<Option<Self>, Problem>> {
        let request = session.req_header();
        let rewriter = plan.and_then(|plan| plan.request_rewriter(request));
        if rewriter.is_none() && check.is_none() {
            return Ok(Ok(None));
        }
        let is_batch = match &check {
            Some(check) => !check.keeps_length(),
            None => route::ends_with(request.raw_path(), route::BATCH),
        };
        let stages = Stages::new(check, rewriter.unwrap_or(RequestRewriter::none()));
        let length = request.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        match length.and_then(|length| length.parse::<u64>().ok()) {
            Some(length) if length <= REPLAY_BUFFER => {
                Self::hold(stages, session).await.map_err(Error::into_down)
            }
            Some(length) if !is_batch => {
                let body = Self::peek(stages, length, session).await;
                body.map(|body| Ok(Some(body))).map_err(Error::into_down)
            }
            _ => Ok(Ok(Some(Self::streaming(stages, Vec::new(), Framing::Chunks, false)))),
        }
    }

    fn streaming(stages: Stages, beginning: Vec<u8>, framing: Framing, continued: bool) -> Self {
        Self::Streaming {
            stages: Box::new(stages),
            beginning: beginning.into(),
            has_begun: false,
            framing,
            continued,
        }
    }

    async fn hold(
        mut stages: Stages,
        session: &mut Session,
    ) -> pingora::Result<Result<Option<Self>, Problem>> {
        let continued = ask_to_go_on(session).await?;
        // What is read now is sent out of this buffer, which holds all of it.
        session.enable_retry_buffering();
        let (mut given, mut body) = (Vec::new(), Vec::new());
        while let Some(chunk) = read(session).await? {
            given.extend_from_slice(&chunk);
        }
        if let Err(problem) = stages.push(&given, true, &mut body).await {
            return Ok(Err(problem));
        }
        let has_changed = continued || body != given;
        Ok(Ok(has_changed.then(|| Self::Held { body: body.into(), continued })))
    }

    /// Reads the beginning of a body of this length, to see whether it holds URLs of ours.
    async fn peek(mut stages: Stages, length: u64, session: &mut Session) -> pingora::Result<Self> {
        let continued = ask_to_go_on(session).await?;
        let (mut beginning, mut seen) = (Vec::new(), Vec::new());
        let mut count = 0;
        // Something has to be left: it is with the next bytes that the beginning is sent.
        while count < REPLAY_BUFFER && count + LARGEST_READ < length {
            let Some(chunk) = read(session).await? else { break };
            count += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            beginning.extend_from_slice(&chunk);
            for piece in chunk.chunks(PIECE) {
                stages.rewriter.push(piece, &mut seen);
                stages.did(piece.len() + seen.len()).await;
                seen.clear();
            }
        }
        let framing = match stages.rewriter.rewritten() {
            0 => Framing::Length,
            _ => Framing::Chunks,
        };
        Ok(Self::streaming(stages, beginning, framing, continued))
    }

    /// Announces the body in the header of a new attempt. `caller` is the request as it came.
    pub(super) fn begin(
        &mut self,
        plan: Option<&LinkPlan>,
        caller: &RequestHeader,
        request: &mut RequestHeader,
    ) -> pingora::Result<()> {
        let (Self::Held { continued, .. } | Self::Streaming { continued, .. }) = &self;
        if *continued {
            request.remove_header(&EXPECT);
        }
        match self {
            Self::Held { body, .. } => {
                remove_digests(request);
                request.insert_header(CONTENT_LENGTH, body.len().to_string())
            }
            Self::Streaming { stages, has_begun, framing, .. } => {
                stages.restart(plan, caller);
                *has_begun = false;
                if *framing == Framing::Length {
                    return Ok(());
                }
                remove_digests(request);
                request.remove_header(&CONTENT_LENGTH);
                request.insert_header(TRANSFER_ENCODING, "chunked")
            }
        }
    }

    /// Replaces a chunk of the caller's body by what is sent for it.
    ///
    /// # Errors
    /// A batch is refused, or the body would get another length than was announced.
    pub(super) async fn transform(
        &mut self,
        chunk: &mut Option<Bytes>,
        is_end: bool,
    ) -> pingora::Result<()> {
        let output = match self {
            Self::Held { body, .. } if is_end => body.clone(),
            Self::Held { .. } => Bytes::new(),
            Self::Streaming { stages, beginning, has_begun, framing, .. } => {
                let input = chunk.take().unwrap_or_default();
                let mut output = Vec::with_capacity(input.len() + 64);
                if !std::mem::replace(has_begun, true) {
                    stages.push(beginning, false, &mut output).await.map_err(refused)?;
                }
                stages.push(&input, is_end, &mut output).await.map_err(refused)?;
                if *framing == Framing::Length && stages.rewriter.rewritten() > 0 {
                    return Err(late_link());
                }
                output.into()
            }
        };
        // Nothing at all would mean the end; an empty chunk means that more is to come.
        *chunk = (!is_end || !output.is_empty()).then_some(output);
        Ok(())
    }
}

/// A batch was refused while it was streamed.
const REFUSED: ErrorType = ErrorType::new("Refused");
/// A body that is sent with its length holds a URL that would change it.
const LATE_LINK: ErrorType = ErrorType::new("LateLink");

/// Ends a request whose body must not be sent.
fn refused(answer: Problem) -> Box<Error> {
    answer.into_error(REFUSED).into_down()
}

/// Ends a request whose body would get another length than was sent to the upstream.
fn late_link() -> Box<Error> {
    let detail = "the body has a URL of the sidecar after its first 64 KiB; the upstream's URL in its place would change the length of the body; send the body in chunks, or with the upstream's URLs; the upstream did not get the end of the body";
    Problem::new(ErrorKind::BadRequest, detail).into_error(LATE_LINK).into_down()
}

/// The answer to a body of hardly anything but URLs.
fn too_many_links() -> Problem {
    let detail = "the body holds so many URLs of the sidecar that it becomes several times as large with the upstream's in their place; send it in parts, or with the upstream's URLs; the upstream got no end of it";
    Problem::new(ErrorKind::BadRequest, detail.to_owned())
}

fn remove_digests(request: &mut RequestHeader) {
    for name in DIGESTS {
        request.remove_header(name);
    }
}

/// Asks a caller to send its body that waits for that. Returns whether it did.
async fn ask_to_go_on(session: &mut Session) -> pingora::Result<bool> {
    let expects = session.req_header().headers.get(EXPECT);
    let waits = expects.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if waits {
        session.as_downstream_mut().write_continue_response().await?;
    }
    Ok(waits)
}

/// The next bytes of the body, or its end.
async fn read(session: &mut Session) -> pingora::Result<Option<Bytes>> {
    let late = |_| Error::new_down(ErrorType::ReadTimedout);
    timeout(READ_TIMEOUT, session.read_request_body()).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::links::json::JsonRewriter;
    use crate::proxy::links::origin::OriginMap;
    use std::sync::Arc;

    #[tokio::test]
    async fn what_is_read_may_become_twice_as_large_and_not_many_times() {
        let names = [("a", false), ("a-name-as-long-as-the-upstreams.example", true)];
        for (name, passes) in names {
            let theirs = "https://tenant.eu10.hcs.cloud.sap.example";
            let map = OriginMap::new([(format!("http://{name}"), theirs.to_owned())], None);
            let rewriter = JsonRewriter::new(Arc::new(map));
            let mut stages = Stages::new(None, RequestRewriter::json(rewriter));
            let link = format!("\"//{name}\",");
            let body = format!("{{\"@id\":[{}0]}}", link.repeat(64 * 1024 / link.len()));
            let mut output = Vec::new();
            let refused = stages.push(body.as_bytes(), true, &mut output).await.err();
            assert_eq!(refused.is_none(), passes, "{name}");
            let most = body.len() + MOST_GROWN + theirs.len() * PIECE;
            assert!(output.len() < most, "{}", output.len());
            if passes {
                assert_eq!(stages.rewriter.rewritten(), 64 * 1024 / link.len() as u64);
                assert!(output.ends_with(b",0]}"));
            }
        }
    }
}
