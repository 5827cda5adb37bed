//! The state of a caller's connection, and the commands of the hooks.

use super::activity::Activity;
use super::body_pacing::BodyPacing;
use super::caller_timeout::CallerTimeout;
use super::load::{Load, RequestInFlight};
use super::partial_header::PartialHeader;
use super::phase::Phase;
use super::request_line::RequestLine;
use super::response_rewrite::ResponseRewrite;
use super::socket::Socket;
use super::write_stall::WriteStall;
use crate::proxy::peer::Peer;
use crate::proxy::upstream::SendBuffer;
use bytes::Bytes;
use crossbeam_utils::atomic::AtomicCell;
use pingora::protocols::SocketDigest;
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;
use std::fmt;
use std::future::poll_fn;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncWrite, BufWriter};

/// The size of the write buffer: a response's header and a small body leave in one packet.
const WRITE_BUFFER: usize = 4 * 1024;

/// A caller's connection. The hooks have a shared reference only.
pub(crate) struct Downstream {
    pub(super) socket: BufWriter<Socket>,
    pub(super) digest: Arc<SocketDigest>,
    peer: Peer,
    pub(super) load: Arc<Load>,
    activity: Arc<Activity>,
    phase: AtomicCell<Phase>,
    /// The timeout of the phase.
    pub(super) timeout: CallerTimeout,
    /// Whether the phase is new, and its time has not started.
    is_phase_new: AtomicBool,
    /// Whether the wait so far does not count: bearerd was not reading, or was writing.
    pub(super) must_reset_wait: AtomicBool,
    /// The header that is being received.
    pub(super) header: PartialHeader,
    /// The beginning of the next request, which came before the response was sent.
    pub(super) early: Vec<u8>,
    /// How far the request line is read.
    pub(super) line: RequestLine,
    /// A local answer that replaces pingora's own.
    pub(super) local_answer: Option<Bytes>,
    /// Whether nothing may be written any more.
    is_cut: AtomicBool,
    /// The response that is rewritten while it is written.
    pub(super) rewrite: Mutex<Option<Box<ResponseRewrite>>>,
    /// The length of the upstream's body, once it is known.
    pub(super) body_length: AtomicU64,
    /// The length of the latest rewritten body.
    pub(super) rewritten_length: AtomicU64,
    pub(super) stall: WriteStall,
    /// Whether `pacing` is set.
    pub(super) is_paced: AtomicBool,
    /// The pacing that reads a body no faster than the upstream takes it.
    pub(super) pacing: Mutex<Option<BodyPacing>>,
    /// Whether the response, or the header of a refusal, was sent.
    pub(super) is_response_out: AtomicBool,
}

impl Downstream {
    pub(crate) fn new(socket: Socket, load: Arc<Load>, activity: Arc<Activity>) -> Self {
        let digest = Arc::new(SocketDigest::from_raw_fd(socket.as_raw_fd()));
        Self {
            peer: socket.peer(load.listener()),
            socket: BufWriter::with_capacity(WRITE_BUFFER, socket),
            digest,
            load,
            activity,
            phase: AtomicCell::new(Phase::Idle),
            timeout: CallerTimeout::default(),
            is_phase_new: AtomicBool::new(false),
            must_reset_wait: AtomicBool::new(false),
            header: PartialHeader::default(),
            early: Vec::new(),
            line: RequestLine::default(),
            local_answer: None,
            is_cut: AtomicBool::new(false),
            rewrite: Mutex::new(None),
            body_length: AtomicU64::new(u64::MAX),
            rewritten_length: AtomicU64::new(0),
            stall: WriteStall::default(),
            is_paced: AtomicBool::new(false),
            pacing: Mutex::new(None),
            is_response_out: AtomicBool::new(false),
        }
    }

    /// The connection of a request.
    pub(crate) fn of(session: &Session) -> Option<&Self> {
        match session.as_downstream() {
            ServerSession::H1(session) => (**session.stream()).as_any().downcast_ref(),
            _ => None,
        }
    }

    /// What the connection says about the caller.
    pub(crate) const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Whether the caller speaks TLS.
    pub(super) const fn is_tls(&self) -> bool {
        matches!(self.peer, Peer::Tls { .. })
    }

    /// Whether a request came over TLS.
    pub(crate) fn is_over_tls(session: &Session) -> bool {
        Self::of(session).is_some_and(Self::is_tls)
    }

    /// Calls a function with the connection of a request.
    pub(crate) fn with(session: &Session, call: impl FnOnce(&Self)) {
        if let Some(downstream) = Self::of(session) {
            call(downstream);
        }
    }

    /// Waits for the beginning of a request, without a buffer for it. Returns whether there is one:
    /// a caller that is silent for too long sends none.
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

    /// Records that a request's header was received.
    pub(crate) fn request_started(&self, has_body: bool, expects_continue: bool) {
        self.is_response_out.store(false, Ordering::Relaxed);
        self.activity.set_busy();
        self.header.end(&self.load);
        self.set_phase(match (has_body, expects_continue) {
            (false, _) => Phase::Response,
            (true, false) => Phase::Body,
            (true, true) => Phase::AwaitingContinue,
        });
    }

    /// Restarts the caller's wait: time in which bearerd did not read, or was writing, does not
    /// count against the caller.
    pub(crate) fn reset_wait(&self) {
        self.must_reset_wait.store(true, Ordering::Relaxed);
    }

    /// Records that the request's body was received.
    pub(crate) fn body_received(&self) {
        self.set_phase(Phase::Response);
    }

    /// Records that the response is being sent. The rest of the body may follow or not.
    pub(crate) fn response_started(&self, is_refused: bool) {
        self.is_response_out.store(is_refused, Ordering::Relaxed);
        match self.phase() {
            Phase::AwaitingContinue => self.set_phase(Phase::UnrequestedBody),
            Phase::Body => self.set_phase(Phase::OptionalBody),
            _ => {}
        }
    }

    /// Records that the response was sent. A body that the caller was not asked for, or that was
    /// refused, is not waited for.
    pub(crate) fn response_finished(&self, is_refused: bool) {
        self.is_response_out.store(true, Ordering::Relaxed);
        match self.phase() {
            Phase::AwaitingContinue | Phase::UnrequestedBody => {
                self.set_phase(Phase::UnneededBody);
            }
            Phase::Body | Phase::OptionalBody if is_refused => {
                self.set_phase(Phase::UnneededBody);
            }
            Phase::OptionalBody => self.set_phase(Phase::Body),
            _ => {}
        }
    }

    /// Lets the connection make room for another one. Only a local answer is left to send.
    pub(crate) fn allow_eviction(&self) {
        self.activity.set_idle();
    }

    /// Records that the request is over.
    pub(crate) fn request_ended(&self) {
        self.stop_pacing();
        self.activity.set_idle();
        self.set_phase(Phase::Ended);
    }

    /// Ends a response that is not complete. The connection is reset, so that its end is not taken
    /// for the response's.
    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
        self.socket.get_ref().reset_when_closed();
    }

    /// Whether a response was cut.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    /// Whether the response was sent, and only an unneeded body is still to come.
    pub(crate) fn has_unneeded_body(&self) -> bool {
        self.phase() == Phase::UnneededBody
    }

    /// Counts a request of this connection, until the result is dropped.
    pub(crate) fn count_request(&self) -> RequestInFlight {
        self.load.clone().count_request()
    }

    /// Reads a body no faster than this upstream takes it.
    pub(in crate::proxy) fn pace_body(&self, send_buffer: Arc<SendBuffer>) {
        // No holder of this lock panics.
        if let Ok(mut pacing) = self.pacing.lock() {
            *pacing = Some(BodyPacing::new(send_buffer));
            self.is_paced.store(true, Ordering::Relaxed);
        }
    }

    /// Reads a body at any pace: the upstream's connection is no longer this request's.
    pub(in crate::proxy) fn stop_pacing(&self) {
        if self.is_paced.swap(false, Ordering::Relaxed)
            && let Ok(mut pacing) = self.pacing.lock()
        {
            *pacing = None;
        }
    }

    /// Rewrites the response, from its header on.
    pub(crate) fn start_rewrite(&self, rewrite: ResponseRewrite) {
        self.set_rewrite(Some(Box::new(rewrite)));
    }

    /// Writes what follows as it is.
    pub(crate) fn stop_rewrite(&self) {
        self.set_rewrite(None);
    }

    fn set_rewrite(&self, rewrite: Option<Box<ResponseRewrite>>) {
        // No holder of this lock panics.
        if let Ok(mut current) = self.rewrite.lock() {
            *current = rewrite;
        }
        self.body_length.store(u64::MAX, Ordering::Relaxed);
    }

    /// Sets the length of the upstream's body, once it has ended.
    pub(crate) fn set_body_length(&self, length: u64) {
        self.body_length.store(length, Ordering::Relaxed);
    }

    /// Whether the response could not be rewritten.
    pub(crate) fn is_response_broken(&self) -> bool {
        let rewrite = self.rewrite.lock();
        rewrite.is_ok_and(|rewrite| rewrite.as_ref().is_some_and(|it| it.is_broken()))
    }

    /// The length of the latest rewritten body.
    pub(crate) fn rewritten_length(&self) -> Option<u64> {
        let is_under_way = self.rewrite.lock().ok()?.as_ref().map(|rewrite| rewrite.made());
        is_under_way.or_else(|| Some(self.rewritten_length.load(Ordering::Relaxed)))
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.load()
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase);
        self.is_phase_new.store(true, Ordering::Relaxed);
    }

    /// Ready when the caller's time is up.
    pub(super) fn poll_timeout(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::take(self.is_phase_new.get_mut()) {
            self.timeout.restart();
        }
        if std::mem::take(self.must_reset_wait.get_mut()) {
            self.timeout.reset_wait();
        }
        let phase = self.phase();
        self.timeout.poll(phase, context)
    }
}

/// Sends what is left in the buffer, as far as the caller takes it at once.
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
