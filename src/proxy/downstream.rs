//! The caller's connection as pingora reads and writes it.
//!
//! It knows what the caller owes: a header that was begun, or the rest of a body. Who lets us wait too
//! long for it is answered and cut off: pingora's own time-outs begin anew with every byte. And what
//! pingora answers by itself, without calling a hook, is put in bearerd's words and counted.

mod activity;
mod body_pacing;
mod client_timeout;
mod disconnect;
mod load;
mod partial_header;
mod pingora_traits;
mod request_line;
mod response_framing;
mod response_rewrite;
mod response_write;
mod socket;

use super::respond::Problem;
use crate::error::ErrorKind;
use body_pacing::BodyPacing;
use bytes::{Buf, Bytes};
use client_timeout::{ClientTimeout, HEADER_TIME};
use partial_header::PartialHeader;
use pingora::protocols::SocketDigest;
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;
use request_line::RequestLine;
use response_write::Stall;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};

pub(crate) use activity::Activity;
pub(crate) use disconnect::{ensure_connected, unless_disconnected};
pub(crate) use load::{InFlight, Load};
pub(crate) use response_framing::ResponseFraming;
pub(crate) use response_rewrite::ResponseRewrite;
pub(super) use response_write::WRITE_TIMEOUT;
pub(crate) use socket::Socket;

/// So much of what a caller sends before its answer is out is kept; the system keeps the rest.
const MOST_EARLY: usize = 64 * 1024;
/// An answer's header and a small body leave in one packet.
const WRITE_BUFFER: usize = 4 * 1024;

/// What the caller owes us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Nothing yet.
    Idle,
    /// The rest of a header.
    Header,
    /// A body, once it was told to go on (RFC 9110 section 10.1.1).
    AwaitingContinue,
    /// A body, or its rest.
    Body,
    /// A body that was not told to come, nor will be: the answer is on its way.
    UnrequestedBody,
    /// A body that may not be needed any more: the answer is on its way.
    OptionalBody,
    /// A body that nobody needs: the answer is out.
    UnneededBody,
    /// Nothing; we owe an answer.
    Response,
    /// Nothing, and neither do we.
    Ended,
}

impl Phase {
    const ALL: [Self; 9] = [
        Self::Idle,
        Self::Header,
        Self::AwaitingContinue,
        Self::Body,
        Self::UnrequestedBody,
        Self::OptionalBody,
        Self::UnneededBody,
        Self::Response,
        Self::Ended,
    ];

    const fn is_before_hooks(self) -> bool {
        matches!(self, Self::Idle | Self::Header)
    }
}

/// A caller's connection.
pub(crate) struct Downstream {
    socket: BufWriter<Socket>,
    digest: Arc<SocketDigest>,
    load: Arc<Load>,
    activity: Arc<Activity>,
    /// A [`Phase`]; the hooks have only a shared reference.
    phase: AtomicU8,
    /// Of the header or body that is due.
    timeout: ClientTimeout,
    /// The phase is a new one, whose time the clock does not know yet.
    is_new: AtomicBool,
    /// The clock has run while nobody read, or before we said something.
    must_reset_wait: AtomicBool,
    /// The header that is on its way.
    header: PartialHeader,
    /// What came before our answer was out: the beginning of the next request.
    early: Vec<u8>,
    /// How far the request line is read.
    line: RequestLine,
    /// An answer of ours that stands for pingora's.
    instead: Option<Bytes>,
    /// Nothing is said any more.
    is_cut: AtomicBool,
    /// The answer that is changed on its way; the hooks put it here.
    rewrite: Mutex<Option<Box<ResponseRewrite>>>,
    /// How long its body is, once that is known.
    length: AtomicU64,
    /// How long the latest one became.
    rewritten: AtomicU64,
    stall: Stall,
    /// A body is read as the upstream takes it, and how; the hooks put it here.
    is_paced: AtomicBool,
    pacing: Mutex<Option<BodyPacing>>,
    /// All of the answer is out, or that it is a refusal.
    is_heard: AtomicBool,
}

impl Downstream {
    pub(crate) fn new(socket: Socket, load: Arc<Load>, activity: Arc<Activity>) -> Self {
        let digest = Arc::new(SocketDigest::from_raw_fd(socket.as_raw_fd()));
        Self {
            socket: BufWriter::with_capacity(WRITE_BUFFER, socket),
            digest,
            load,
            activity,
            phase: AtomicU8::new(Phase::Idle as u8),
            timeout: ClientTimeout::default(),
            is_new: AtomicBool::new(false),
            must_reset_wait: AtomicBool::new(false),
            header: PartialHeader::default(),
            early: Vec::new(),
            line: RequestLine::default(),
            instead: None,
            is_cut: AtomicBool::new(false),
            rewrite: Mutex::new(None),
            length: AtomicU64::new(u64::MAX),
            rewritten: AtomicU64::new(0),
            stall: Stall::default(),
            is_paced: AtomicBool::new(false),
            pacing: Mutex::new(None),
            is_heard: AtomicBool::new(false),
        }
    }

    /// The connection of a request.
    pub(crate) fn of(session: &Session) -> Option<&Self> {
        match session.as_downstream() {
            ServerSession::H1(session) => (**session.stream()).as_any().downcast_ref(),
            _ => None,
        }
    }

    /// Tells the connection of a request what has become of it.
    pub(crate) fn with(session: &Session, news: impl FnOnce(&Self)) {
        if let Some(downstream) = Self::of(session) {
            news(downstream);
        }
    }

    /// Waits for the beginning of a request, holding nothing for it yet. Tells whether to read it: there
    /// will be none from a caller that is silent for too long.
    pub(crate) async fn wait_for_request(&mut self) -> bool {
        poll_fn(|context| {
            let socket = self.socket.get_ref();
            if !self.early.is_empty() || socket.poll_read_ready(context).is_ready() {
                return Poll::Ready(true);
            }
            self.poll_timeout(context).map(|()| false)
        })
        .await
    }

    /// The header is here.
    pub(crate) fn request_started(&self, has_body: bool, expects_continue: bool) {
        self.is_heard.store(false, Ordering::Relaxed);
        self.activity.set_busy();
        self.header.end(&self.load);
        self.set_phase(match (has_body, expects_continue) {
            (false, _) => Phase::Response,
            (true, false) => Phase::Body,
            (true, true) => Phase::AwaitingContinue,
        });
    }

    /// For a while nobody has read, or it was we who spoke: that is not the caller's.
    pub(crate) fn reset_wait(&self) {
        self.must_reset_wait.store(true, Ordering::Relaxed);
    }

    /// The body is here.
    pub(crate) fn body_received(&self) {
        self.set_phase(Phase::Response);
    }

    /// The answer is on its way; what is left of the body may come or not.
    pub(crate) fn response_started(&self, is_refused: bool) {
        self.is_heard.store(is_refused, Ordering::Relaxed);
        match self.phase() {
            Phase::AwaitingContinue => self.set_phase(Phase::UnrequestedBody),
            Phase::Body => self.set_phase(Phase::OptionalBody),
            _ => {}
        }
    }

    /// All of the answer is out. A body that nobody has asked for, or that was refused, is not waited for.
    pub(crate) fn response_finished(&self, is_refused: bool) {
        self.is_heard.store(true, Ordering::Relaxed);
        match self.phase() {
            Phase::AwaitingContinue | Phase::UnrequestedBody => self.set_phase(Phase::UnneededBody),
            Phase::Body | Phase::OptionalBody if is_refused => self.set_phase(Phase::UnneededBody),
            Phase::OptionalBody => self.set_phase(Phase::Body),
            _ => {}
        }
    }

    /// All that is left is to hear our answer, and to send what nobody wants: the connection may make room for another.
    pub(crate) fn allow_eviction(&self) {
        self.activity.set_idle();
    }

    /// The request is over.
    pub(crate) fn request_ended(&self) {
        self.stop_pacing();
        self.activity.set_idle();
        self.set_phase(Phase::Ended);
    }

    /// The answer ends here although there is more of it: the connection is reset, so that its end is not taken for
    /// the answer's.
    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
        self.socket.get_ref().reset_when_closed();
    }

    /// Whether it was.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    /// Whether all is said, and only a body is missing that nobody needs.
    pub(crate) fn has_unneeded_body(&self) -> bool {
        self.phase() == Phase::UnneededBody
    }

    /// Counts a request of this connection.
    pub(crate) fn count_request(&self) -> InFlight {
        self.load.clone().enter()
    }

    fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.is_new.store(true, Ordering::Relaxed);
    }

    /// Ready when the caller's time is up.
    fn poll_timeout(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::take(self.is_new.get_mut()) {
            self.timeout.restart();
        }
        if std::mem::take(self.must_reset_wait.get_mut()) {
            self.timeout.reset_wait();
        }
        let phase = self.phase();
        self.timeout.poll(phase, context)
    }

    fn phase(&self) -> Phase {
        let phase = self.phase.load(Ordering::Relaxed);
        Phase::ALL.into_iter().find(|known| *known as u8 == phase).unwrap_or(Phase::Idle)
    }

    /// Takes note of what was read into `buffer` behind `before`, and mends what is of a request line.
    fn took(&mut self, phase: Phase, buffer: &mut ReadBuf<'_>, before: usize) {
        if matches!(phase, Phase::Idle | Phase::Ended) {
            self.line = RequestLine::default();
        }
        let bytes = buffer.filled().get(before..).unwrap_or_default();
        if (phase.is_before_hooks() || phase == Phase::Ended)
            && let Some(mended) = self.line.read(bytes)
        {
            buffer.set_filled(before);
            let (now, later) = mended.split_at(mended.len().min(buffer.remaining()));
            buffer.put_slice(now);
            self.early.splice(..0, later.iter().copied());
        }
        self.received(phase, buffer.filled().get(before..).unwrap_or_default());
    }

    fn received(&mut self, phase: Phase, bytes: &[u8]) {
        // Empty lines before a request are nothing (RFC 9112 section 2.2).
        let begins = bytes.iter().any(|byte| !b"\r\n".contains(byte));
        match phase {
            Phase::Idle | Phase::Ended if begins => {
                self.header.begin(bytes.len());
                self.set_phase(Phase::Header);
            }
            Phase::Header => self.header.go_on(bytes.len()),
            Phase::AwaitingContinue => self.set_phase(Phase::Body),
            Phase::UnrequestedBody => self.set_phase(Phase::OptionalBody),
            _ => self.timeout.received(phase, bytes.len()),
        }
    }

    /// Reads this much at most.
    fn poll_some(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        most: usize,
    ) -> Poll<io::Result<()>> {
        if most >= buffer.remaining() {
            return Pin::new(&mut self.socket).poll_read(context, buffer);
        }
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.socket).poll_read(context, &mut part))?;
        let count = part.filled().len();
        buffer.advance(count);
        Poll::Ready(Ok(()))
    }

    /// Answers what never became a request.
    fn answer(&mut self, problem: &Problem) {
        self.load.record_rejected(problem);
        self.instead = Some(problem.to_wire());
    }

    /// The same at once.
    fn refuse(&mut self, problem: &Problem, context: &mut Context<'_>) {
        self.answer(problem);
        // The buffer is empty and the answer small: one try is enough, and all that is owed.
        let _ = self.poll_instead(context);
        let _ = Pin::new(&mut self.socket).poll_flush(context);
    }

    /// Reads more of a request: this much at most.
    fn poll_wanted(
        &mut self,
        phase: Phase,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        most: usize,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.early.is_empty() {
            let read = ready!(self.poll_some(context, buffer, most));
            self.took(phase, buffer, before);
            self.took_in();
            return Poll::Ready(read);
        }
        let count = self.early.len().min(buffer.remaining());
        buffer.put_slice(self.early.get(..count).unwrap_or_default());
        self.early.drain(..count);
        self.took(phase, buffer, before);
        Poll::Ready(Ok(()))
    }

    /// Reads more of what nobody wants. What is here is all read: otherwise the connection's end would take the answer
    /// away.
    fn poll_unwanted(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 4096];
        let mut came = Poll::Pending;
        for _ in 0..MOST_EARLY / scratch.len() {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.socket).poll_read(context, &mut buffer) {
                Poll::Pending => break,
                Poll::Ready(read) => {
                    came = Poll::Ready(());
                    if read.is_err() || buffer.filled().is_empty() {
                        break;
                    }
                }
            }
        }
        came
    }

    /// Writes what is left of our own answer.
    fn poll_instead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(left) = self.instead.as_mut().filter(|left| left.has_remaining()) {
            let written = ready!(Pin::new(&mut self.socket).poll_write(context, left))?;
            left.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// While the answer is due, reading only shows whether the caller is still there. What it sends
    /// already is kept: pingora would take it for an offence, though the request may have been executed.
    fn poll_early(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0; 1024];
        while self.early.len() < MOST_EARLY {
            let mut buffer = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut self.socket).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.early.extend_from_slice(buffer.filled());
        }
        Poll::Pending
    }

    /// Whether pingora speaks for itself here, and we for it.
    fn speaks_instead(&mut self, bytes: &[u8]) -> bool {
        if self.instead.is_none() && self.phase().is_before_hooks() {
            self.answer(&unread(bytes));
        }
        self.instead.is_some()
    }
}

/// What pingora means by an answer of its own: a bare 405 for CONNECT, a bare 400 for all else.
fn unread(answer: &[u8]) -> Problem {
    if answer.starts_with(b"HTTP/1.1 405") {
        Problem {
            allow: Some("GET, HEAD, POST, PUT, PATCH, DELETE".to_owned()),
            ..Problem::new(
                ErrorKind::MethodNotAllowed,
                "CONNECT is for proxies; use the sidecar's address as the server's",
            )
        }
    } else {
        Problem::new(ErrorKind::BadRequest, "the request is malformed; see RFC 9112")
    }
}

/// The answer to a header that takes too long.
fn too_slow() -> Problem {
    let detail = format!("the request's header did not come within {} s", HEADER_TIME.as_secs());
    Problem::new(ErrorKind::BadRequest, detail)
}

/// What is left in the buffer goes out, if the caller takes it at once.
impl Drop for Downstream {
    fn drop(&mut self) {
        self.header.end(&self.load);
        if *self.is_cut.get_mut() {
            return;
        }
        let _ = Pin::new(&mut self.socket).poll_flush(&mut Context::from_waker(Waker::noop()));
    }
}

impl fmt::Debug for Downstream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Downstream").field(self.socket.get_ref()).finish()
    }
}

impl AsyncRead for Downstream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let phase = this.phase();
        if phase == Phase::Response {
            return this.poll_early(context);
        }
        let Some(most) = ready!(this.poll_allowance(context)) else {
            return this.poll_drop(context);
        };
        let refusal =
            if phase == Phase::Header { this.header.check(&this.load).err() } else { None };
        if let Some(problem) = refusal {
            if this.poll_unwanted(context).is_ready() {
                this.refuse(&problem, context);
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        } else if let Poll::Ready(read) = this.poll_wanted(phase, context, buffer, most) {
            return Poll::Ready(read);
        }
        ready!(this.poll_timeout(context));
        if matches!(phase, Phase::Idle | Phase::Ended) {
            return Poll::Ready(Ok(()));
        }
        if phase == Phase::Header {
            this.refuse(&too_slow(), context);
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Downstream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if self.speaks_instead(bytes) {
            ready!(self.poll_instead(context))?;
            return Poll::Ready(Ok(bytes.len()));
        }
        self.reset_wait();
        if self.is_rewriting() {
            return self.poll_rewrite(context, bytes);
        }
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_made(context))?;
        self.poll_rest(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut() {
            // It would say that all is well.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if self.speaks_instead(slices.first().map_or(&[], |first| first)) {
            ready!(self.poll_instead(context))?;
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        self.reset_wait();
        if self.is_rewriting() {
            let first = slices.iter().find(|slice| !slice.is_empty());
            return self.poll_rewrite(context, first.map_or(&[], |first| first));
        }
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ListenerId;
    use crate::metrics::Metrics;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    /// A connection, and its other end.
    pub(super) fn pair() -> (Downstream, UnixStream) {
        let metrics = Arc::new(Metrics::new().unwrap());
        pair_of(&Arc::new(Load::new(ListenerId(0), metrics)))
    }

    /// The same on a listener that has others.
    pub(super) fn pair_of(load: &Arc<Load>) -> (Downstream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let activity = Arc::new(Activity::new(Arc::default()));
        (Downstream::new(Socket::Unix(ours), load.clone(), activity), theirs)
    }

    pub(super) async fn read(downstream: &mut Downstream) -> io::Result<usize> {
        downstream.read(&mut [0; 4096]).await
    }

    pub(super) fn rejected(downstream: &Downstream) -> bool {
        let text = String::from_utf8(downstream.load.metrics.render().unwrap()).unwrap();
        text.contains(r#"bearerd_requests_rejected_total{kind="bad_request"} 1"#)
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_before_its_time_is_read_when_the_answer_is_out() {
        let (mut downstream, mut caller) = pair();
        downstream.request_started(false, false);
        caller.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let early = tokio::time::timeout(Duration::from_secs(600), read(&mut downstream)).await;
        assert!(early.is_err(), "it is not its time");
        downstream.request_ended();
        let mut got = [0; 18];
        downstream.read_exact(&mut got[..10]).await.unwrap();
        downstream.read_exact(&mut got[10..]).await.unwrap();
        assert_eq!(&got, b"GET / HTTP/1.1\r\n\r\n");
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_is_missed_whatever_came_before() {
        let (mut downstream, mut caller) = pair();
        downstream.request_started(false, false);
        caller.write_all(b"\r\n").await.unwrap();
        drop(caller);
        assert_eq!(read(&mut downstream).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_pingora_says_by_itself_is_said_in_our_words_and_what_we_say_is_not_touched() {
        let (mut downstream, mut caller) = pair();
        caller.write_all(b"GARBAGE").await.unwrap();
        read(&mut downstream).await.unwrap();
        let bare = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
        downstream.write_all(bare).await.unwrap();
        downstream.write_all(b"and more").await.unwrap();
        assert!(rejected(&downstream));
        drop(downstream);
        let mut answer = String::new();
        caller.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.contains("\r\nProxy-Status: bearerd; error=http_request_error\r\n"),
            "{answer}"
        );
        assert!(answer.ends_with(r#""kind":"bad_request"}"#), "{answer}");

        let (mut downstream, mut caller) = pair();
        downstream.request_started(false, false);
        let (first, last) = bare.split_at(20);
        downstream.write_all(first).await.unwrap();
        downstream.request_ended();
        downstream.write_all(last).await.unwrap();
        drop(downstream);
        let mut answer = Vec::new();
        caller.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, bare, "the buffer leaves with the connection");
    }
}
