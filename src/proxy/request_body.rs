//! The body of a request: batches are checked, and the sidecar's URLs are replaced by the
//! upstream's.
//!
//! A body that fits into the replay buffer is read before the request is sent, so that its new
//! length is known. If a longer body has a length, its beginning is read. If the beginning has URLs
//! of the sidecar, the body is rewritten and sent in chunks, which not every server accepts.
//! Otherwise the body keeps its length and its bytes. If a URL of the sidecar comes later, the
//! request is refused before the upstream has the end of the body. A longer batch is always sent in
//! chunks, since batches usually have URLs.

use super::batch_check::BatchCheck;
use super::links::{DIGESTS, LinkPlan, RequestRewriter};
use super::problem::Problem;
use super::replay::REPLAY_BUFFER;
use super::route;
use crate::audit::record::Part;
use crate::error::ErrorKind;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::timeout;

/// The read timeout of a body that is read before the request is sent.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// The largest number of bytes that pingora reads of a body at once.
const LARGEST_READ: u64 = 64 * 1024;
/// The bytes after which the task yields, since a worker has one thread.
const TURN: usize = 8 * 1024;
/// The bytes that are rewritten at once. With many URLs, the result is several times as large.
const PIECE: usize = 1024;
/// The largest number of bytes by which one read may grow when URLs are replaced. A held part of a
/// batch, or a read of nothing but links, grows by less.
const MOST_GROWN: usize = 256 * 1024;

/// A request body that is not passed on as it is.
pub(crate) enum RequestBody {
    /// A body that was read completely.
    Held {
        /// The bytes that are sent.
        body: Bytes,
        /// Whether `100 Continue` was sent to the caller (RFC 9110 section 10.1.1).
        continued: bool,
    },
    /// A body that is changed while it streams.
    Streaming {
        /// The stages of this attempt.
        stages: Box<Stages>,
        /// The bytes that were read before the request was sent, unchanged.
        beginning: Bytes,
        /// Whether this attempt has sent the beginning.
        has_begun: bool,
        /// How the length of the body is sent.
        framing: Framing,
        /// Whether `100 Continue` was sent to the caller.
        continued: bool,
    },
}

/// What a batch changes.
#[derive(Debug, Default)]
pub(super) struct BatchWrites {
    /// The parts that change something, as far as they are known.
    pub(super) parts: Vec<Part>,
    /// Whether more parts may come while the body is sent.
    pub(super) has_more: bool,
    /// Whether the request does nothing but what its parts do.
    pub(super) does_only_its_parts: bool,
}

/// How the length of a streaming body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// In chunks. The body may be rewritten.
    Chunks,
    /// As `Content-Length`. The body must not be rewritten.
    Length,
}

/// The stages that a body passes.
pub(crate) struct Stages {
    check: Option<Box<BatchCheck>>,
    rewriter: RequestRewriter,
    /// The bytes that were processed since the task last yielded.
    work: usize,
}

impl Stages {
    const fn new(check: Option<Box<BatchCheck>>, rewriter: RequestRewriter) -> Self {
        Self { check, rewriter, work: 0 }
    }

    /// Passes the next bytes through the stages, and appends the result to `output`. Yields in
    /// between. Refuses a body that grows too much: the result is held until the upstream reads it.
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

    /// Rewrites bytes that passed the check. `room` is by how much they may still grow.
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

    /// Counts processed bytes, and yields when there are enough.
    async fn did(&mut self, work: usize) {
        self.work += work;
        if self.work >= TURN {
            self.work = 0;
            yield_now().await;
        }
    }

    fn new_writes(&self) -> &[Part] {
        self.check.as_ref().map_or(&[], |check| check.new_writes())
    }

    /// Restarts the stages for another attempt.
    fn restart(&mut self, plan: Option<&LinkPlan>, caller: &RequestHeader) {
        let rewriter = plan.and_then(|plan| plan.request_rewriter(caller));
        self.rewriter = rewriter.unwrap_or(RequestRewriter::none());
        if let Some(check) = &mut self.check {
            check.restart();
        }
    }
}

impl RequestBody {
    /// Prepares the body of a request, and sets what it changes, if it is a batch. Returns `None`
    /// if the body is passed on as it is, or the answer to a request that must not be sent.
    ///
    /// # Errors
    /// The caller did not send the body that it announced.
    pub(super) async fn prepare(
        plan: Option<&LinkPlan>,
        check: Option<Box<BatchCheck>>,
        session: &mut Session,
        writes: &mut BatchWrites,
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
        writes.does_only_its_parts = check.as_ref().is_some_and(|it| it.does_only_its_parts());
        writes.has_more = check.is_some();
        let stages = Stages::new(check, rewriter.unwrap_or(RequestRewriter::none()));
        let length = request.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        match length.and_then(|length| length.parse::<u64>().ok()) {
            Some(length) if length <= REPLAY_BUFFER => {
                Self::hold(stages, session, writes).await.map_err(Error::into_down)
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
        writes: &mut BatchWrites,
    ) -> pingora::Result<Result<Option<Self>, Problem>> {
        let continued = send_continue(session).await?;
        // pingora sends the body from this buffer, which holds all of it.
        session.enable_retry_buffering();
        let (mut given, mut body) = (Vec::new(), Vec::new());
        while let Some(chunk) = read(session).await? {
            given.extend_from_slice(&chunk);
        }
        if let Err(problem) = stages.push(&given, true, &mut body).await {
            return Ok(Err(problem));
        }
        writes.parts = stages.new_writes().to_vec();
        writes.has_more = false;
        let has_changed = continued || body != given;
        Ok(Ok(has_changed.then(|| Self::Held { body: body.into(), continued })))
    }

    /// Reads the beginning of a body of this length, to see whether it holds URLs of the sidecar.
    async fn peek(mut stages: Stages, length: u64, session: &mut Session) -> pingora::Result<Self> {
        let continued = send_continue(session).await?;
        let (mut beginning, mut seen) = (Vec::new(), Vec::new());
        let mut count = 0;
        // Some bytes must be left: the beginning is sent together with the next ones.
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

    /// Starts another attempt, and sets the headers that describe the body. `caller` is the request
    /// as it came.
    pub(super) fn start_attempt(
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

    /// The parts of a batch that change something and are in no line of the audit log yet. Their
    /// bytes must not be sent before.
    pub(super) fn new_writes(&self) -> &[Part] {
        match self {
            Self::Held { .. } => &[],
            Self::Streaming { stages, .. } => stages.new_writes(),
        }
    }

    /// Records that these parts are in the audit log.
    pub(super) fn confirm_writes(&mut self) {
        if let Self::Streaming { stages, .. } = self
            && let Some(check) = &mut stages.check
        {
            check.confirm_writes();
        }
    }

    /// Replaces a chunk of the caller's body by the bytes that are sent.
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
        // `None` means the end of the body; an empty chunk means that more follows.
        *chunk = (!is_end || !output.is_empty()).then_some(output);
        Ok(())
    }
}

/// The error if a batch is refused while it streams.
const REFUSED: ErrorType = ErrorType::new("Refused");
/// The error if a body that is sent with its length holds a URL that would change it.
const LATE_LINK: ErrorType = ErrorType::new("LateLink");

/// Ends a request whose body must not be sent.
pub(super) fn refused(answer: Problem) -> Box<Error> {
    answer.into_error(REFUSED).into_down()
}

/// Ends a request whose body would get another length than was sent to the upstream.
fn late_link() -> Box<Error> {
    let detail = "the body has a URL of the sidecar after its first 64 KiB, and the upstream's URL in its place would change the announced length; send the body in chunks (`Transfer-Encoding: chunked`), or with the upstream's URLs; the upstream did not get the whole body";
    Problem::new(ErrorKind::BadRequest, detail).into_error(LATE_LINK).into_down()
}

/// The answer to a body that grows too much.
fn too_many_links() -> Problem {
    let detail = "the body has too many URLs of the sidecar: with the upstream's URLs in their place, it would be several times as large; split it into several requests, or send it with the upstream's URLs; the upstream did not get the whole body";
    Problem::new(ErrorKind::BadRequest, detail.to_owned())
}

fn remove_digests(request: &mut RequestHeader) {
    for name in DIGESTS {
        request.remove_header(name);
    }
}

/// Sends `100 Continue` if the caller expects it. Returns whether it did.
async fn send_continue(session: &mut Session) -> pingora::Result<bool> {
    let expects = session.req_header().headers.get(EXPECT);
    let waits = expects.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if waits {
        session.as_downstream_mut().write_continue_response().await?;
    }
    Ok(waits)
}

/// Reads the next bytes of the body. `None` is its end.
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
    async fn a_read_may_grow_to_twice_its_size_but_not_to_many_times() {
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
