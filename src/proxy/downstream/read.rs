//! Reading a caller's connection.
//!
//! A large body is read no faster than the upstream takes it. If the upstream takes no more, the
//! rest is read and dropped. So a caller that reads nothing before it has sent everything still
//! gets an early response.

use super::caller_timeout::HEADER_TIME;
use super::connection::Downstream;
use super::phase::Phase;
use super::request_line::RequestLine;
use crate::error::ErrorKind;
use crate::proxy::problem::Problem;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// The largest number of bytes that are kept of what a caller sends before its response was sent.
/// The system keeps the rest.
const MOST_EARLY: usize = 64 * 1024;

impl Downstream {
    /// Takes note of what was read into `buffer` after `before`, and encodes raw characters of a
    /// request line.
    fn took(&mut self, phase: Phase, buffer: &mut ReadBuf<'_>, before: usize) {
        if phase.is_between_requests() {
            self.line = RequestLine::default();
        }
        let bytes = buffer.filled().get(before..).unwrap_or_default();
        if (phase.is_before_hooks() || phase == Phase::Ended)
            && let Some(encoded) = self.line.read(bytes)
        {
            buffer.set_filled(before);
            let (now, later) = encoded.split_at(encoded.len().min(buffer.remaining()));
            buffer.put_slice(now);
            self.early.splice(..0, later.iter().copied());
        }
        self.received(phase, buffer.filled().get(before..).unwrap_or_default());
    }

    fn received(&mut self, phase: Phase, bytes: &[u8]) {
        // Empty lines before a request do not count (RFC 9112 section 2.2).
        let begins = bytes.iter().any(|byte| !b"\r\n".contains(byte));
        match phase {
            Phase::Idle | Phase::Ended if begins => {
                let is_encrypted = self.is_tls();
                self.header.begin(bytes, is_encrypted);
                self.set_phase(Phase::Header);
            }
            Phase::Header => self.header.add(bytes.len()),
            Phase::AwaitingContinue => self.set_phase(Phase::Body),
            Phase::UnrequestedBody => self.set_phase(Phase::OptionalBody),
            _ => self.timeout.received(phase, bytes.len()),
        }
    }

    /// Reads at most `most` bytes.
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

    /// Reads more of a request, at most `most` bytes.
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
            self.wait_for_write();
            return Poll::Ready(read);
        }
        let count = self.early.len().min(buffer.remaining());
        buffer.put_slice(self.early.get(..count).unwrap_or_default());
        self.early.drain(..count);
        self.took(phase, buffer, before);
        Poll::Ready(Ok(()))
    }

    /// Reads the rest of a header that is refused. All that has arrived is read: closing the
    /// connection with unread bytes would reset it, and the caller would not get the answer.
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

    /// Reads while the response is due, which only shows whether the caller is still connected.
    /// What the caller sends is kept: pingora would take it for an error, although the request may
    /// have been executed.
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

    /// How many bytes of a body may be read now. `None` if the body is to be dropped.
    fn poll_allowance(&mut self, context: &mut Context<'_>) -> Poll<Option<usize>> {
        let is_response_out = *self.is_response_out.get_mut();
        let pacing = self.pacing.get_mut().ok().filter(|_| *self.is_paced.get_mut());
        let Some(pacing) = pacing.and_then(Option::as_mut) else {
            return Poll::Ready(Some(usize::MAX));
        };
        let was_dropping = pacing.is_dropping();
        let allowance = pacing.poll_allowance(is_response_out, context);
        match allowance {
            // While nothing is read, the caller's time does not run.
            Poll::Pending => *self.must_reset_wait.get_mut() = true,
            Poll::Ready(None) if !was_dropping && self.phase() == Phase::Body => {
                self.set_phase(Phase::UnneededBody);
            }
            Poll::Ready(_) => {}
        }
        allowance
    }

    /// Lets pingora write what was read before more is read.
    fn wait_for_write(&mut self) {
        if *self.is_paced.get_mut()
            && let Ok(Some(pacing)) = self.pacing.get_mut()
        {
            pacing.wait_for_write();
        }
    }

    /// Reads and drops a body. Ready at its end, or when the time for that is up.
    fn poll_drop(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0; 8 << 10];
        self.early.clear();
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            if let Poll::Ready(read) = Pin::new(&mut self.socket).poll_read(context, &mut buffer) {
                if read.is_err() || buffer.filled().is_empty() {
                    return Poll::Ready(read);
                }
                let count = buffer.filled().len();
                let phase = self.phase();
                self.timeout.received(phase, count);
                if !self.is_drop_time_over(context) {
                    continue;
                }
            } else if !self.is_drop_time_over(context) {
                ready!(self.poll_timeout(context));
            }
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
    }

    fn is_drop_time_over(&mut self, context: &mut Context<'_>) -> bool {
        let pacing = self.pacing.get_mut().ok().and_then(Option::as_mut);
        pacing.is_some_and(|pacing| pacing.is_drop_time_over(context))
    }
}

/// The answer to a header that takes too long.
fn too_slow() -> Problem {
    let detail = format!(
        "the request's header did not arrive within {} s; send it faster, or try again",
        HEADER_TIME.as_secs()
    );
    Problem::new(ErrorKind::BadRequest, detail)
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
        if phase.is_between_requests() {
            return Poll::Ready(Ok(()));
        }
        if phase == Phase::Header {
            this.refuse(&too_slow(), context);
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}
