//! Writing a caller's connection: responses, rewritten if they have to be, and local answers.
//!
//! A response that is rewritten is written no faster than the caller takes it, and a worker never
//! spends long on one.

use super::connection::Downstream;
use super::response_rewrite::ResponseRewrite;
use crate::error::ErrorKind;
use crate::proxy::problem::Problem;
use bytes::Buf;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;
use tokio::task::yield_now;
use tokio_util::io::poll_write_buf;

impl Downstream {
    /// Answers bytes that are not a valid request.
    fn answer(&mut self, problem: &Problem) {
        self.load.record_rejected(problem);
        self.local_answer = Some(problem.to_wire());
    }

    /// Answers bytes that are not a valid request, and sends the answer at once.
    pub(super) fn refuse(&mut self, problem: &Problem, context: &mut Context<'_>) {
        self.answer(problem);
        // The buffer is empty and the answer is small, so one try is enough.
        let _ = self.poll_local_answer(context);
        let _ = Pin::new(&mut self.socket).poll_flush(context);
    }

    /// Writes what is left of a local answer.
    fn poll_local_answer(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(left) = self.local_answer.as_mut().filter(|left| left.has_remaining()) {
            let written = ready!(Pin::new(&mut self.socket).poll_write(context, left))?;
            left.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Replaces an answer that pingora writes of its own accord by a local answer. Returns whether
    /// a local answer is due.
    fn replace_own_answer(&mut self, bytes: &[u8]) -> bool {
        if self.local_answer.is_none() && self.phase().is_before_hooks() {
            if self.header.is_tls() {
                self.load.record_tls();
            }
            self.answer(&local_answer_for(bytes, self.header.is_tls()));
        }
        self.local_answer.is_some()
    }

    /// The response that is being rewritten, if there is one.
    fn current(&mut self) -> Option<&mut ResponseRewrite> {
        self.rewrite.get_mut().ok()?.as_deref_mut()
    }

    fn is_rewriting(&mut self) -> bool {
        self.current().is_some()
    }

    /// Takes some of what pingora writes.
    fn poll_rewrite(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_rewritten(context))?;
        match self.current() {
            Some(rewrite) => Poll::Ready(rewrite.take(bytes)),
            None => Pin::new(&mut self.socket).poll_write(context, bytes),
        }
    }

    /// Writes all that was made of what was taken.
    fn poll_rewritten(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_output(context))?;
            let length = *self.body_length.get_mut();
            let Some(rewrite) = self.current() else { return Poll::Ready(Ok(())) };
            if rewrite.is_over() {
                let made = rewrite.made();
                *self.rewritten_length.get_mut() = made;
                self.stop_rewrite();
                return Poll::Ready(Ok(()));
            }
            if rewrite.try_end_turn() {
                // All tasks that are ready run first, and the runtime polls its sockets.
                return pin!(yield_now()).poll(context).map(Ok);
            }
            if rewrite.has_more() {
                rewrite.make()?;
            } else {
                rewrite.end_if_complete(length)?;
                if !rewrite.is_over() {
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Writes what the buffer still holds.
    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.socket).poll_flush(context) {
            Poll::Ready(flushed) => {
                self.stall.reset();
                Poll::Ready(flushed)
            }
            Poll::Pending => self.stall.poll(context).map(|()| Err(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Writes what was made, as far as the caller takes it.
    fn poll_output(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(rewrite) = self.rewrite.get_mut().ok().and_then(Option::as_deref_mut) else {
            return Poll::Ready(Ok(()));
        };
        while rewrite.output().has_remaining() {
            match poll_write_buf(Pin::new(&mut self.socket), context, rewrite.output()) {
                Poll::Ready(written) => {
                    written?;
                    self.stall.reset();
                }
                Poll::Pending => {
                    return self.stall.poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The local answer that replaces pingora's own: a bare 405 for CONNECT, a bare 400 for all else.
fn local_answer_for(answer: &[u8], is_tls: bool) -> Problem {
    if answer.starts_with(b"HTTP/1.1 405") {
        Problem {
            allow: Some("GET, HEAD, POST, PUT, PATCH, DELETE".to_owned()),
            ..Problem::new(
                ErrorKind::MethodNotAllowed,
                "CONNECT is for forward proxies, and the sidecar is not one; use its address in place of the upstream's, not as a proxy",
            )
        }
    } else if is_tls {
        Problem::new(
            ErrorKind::BadRequest,
            "the caller spoke TLS, and this port has none; write http:// in the tool's URL",
        )
    } else {
        Problem::new(
            ErrorKind::BadRequest,
            "the request is not valid HTTP/1.1; check that the tool speaks HTTP to this port, and what it sends (RFC 9112)",
        )
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
        if self.replace_own_answer(bytes) {
            ready!(self.poll_local_answer(context))?;
            return Poll::Ready(Ok(bytes.len()));
        }
        self.reset_wait();
        if self.is_rewriting() {
            return self.poll_rewrite(context, bytes);
        }
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rewritten(context))?;
        self.poll_rest(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut() {
            // A regular end of the connection would mean that the response is complete.
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut self.socket).poll_shutdown(context) {
            // TLS has a last message, which the caller may not take.
            Poll::Pending => self.stall.poll(context).map(|()| Err(io::ErrorKind::TimedOut.into())),
            done => done,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if self.replace_own_answer(slices.first().map_or(&[], |first| first)) {
            ready!(self.poll_local_answer(context))?;
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
    use crate::proxy::downstream::WRITE_TIMEOUT;
    use crate::proxy::downstream::response_framing::ResponseFraming;
    use crate::proxy::downstream::response_rewrite::tests::{HEAD, framed, gzip, rewrite};
    use crate::proxy::downstream::tests::pair;
    use std::task::Waker;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::time::{Instant, sleep, timeout};

    /// More than a socket holds, and how it is written.
    fn large(framing: ResponseFraming) -> (usize, usize, Vec<u8>) {
        let plain = vec![b' '; 4 << 20];
        let body = gzip(&plain);
        (plain.len(), body.len(), framed(&body, framing, 1000))
    }

    /// What has been written by now.
    fn written(caller: &UnixStream) -> usize {
        let (mut bytes, mut count) = (vec![0; 1 << 20], 0);
        while let Ok(read) = caller.try_read(&mut bytes) {
            count += read;
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_holds_up_what_is_written_and_is_given_up_in_the_end() {
        let (mut downstream, _caller) = pair();
        downstream.request_started(false, false);
        downstream.start_rewrite(rewrite(true, ResponseFraming::Chunks).0);
        let begun = Instant::now();
        let error = downstream.write_all(&large(ResponseFraming::Chunks).2).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), WRITE_TIMEOUT);
        assert!(!downstream.is_response_broken(), "it is the caller's fault");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_given_up_however_little_is_written_at_a_time() {
        for is_rewriting in [true, false] {
            let (mut downstream, _caller) = pair();
            downstream.request_started(false, false);
            if is_rewriting {
                downstream.start_rewrite(rewrite(false, ResponseFraming::Chunks).0);
                downstream.write_all(HEAD).await.unwrap();
            }
            let begun = Instant::now();
            let writing = async {
                loop {
                    // Less than is kept back, so that flushing it is what takes long.
                    downstream.write_all(b"5\r\nhello\r\n").await?;
                    downstream.flush().await?;
                }
            };
            let ended: Result<io::Result<()>, _> = timeout(2 * WRITE_TIMEOUT, writing).await;
            assert_eq!(
                ended.unwrap().unwrap_err().kind(),
                io::ErrorKind::TimedOut,
                "{is_rewriting}"
            );
            assert_eq!(begun.elapsed(), WRITE_TIMEOUT, "{is_rewriting}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_may_take_longer_than_who_does_not_read() {
        let (mut downstream, mut caller) = pair();
        downstream.request_started(false, false);
        let (plain, length, stream) = large(ResponseFraming::Bare);
        downstream.start_rewrite(rewrite(true, ResponseFraming::Bare).0);
        downstream.set_body_length(length as u64);
        let begun = Instant::now();
        let reading = async move {
            let (mut bytes, mut count) = (vec![0; 256 << 10], 0);
            loop {
                sleep(WRITE_TIMEOUT / 2).await;
                match caller.read(&mut bytes).await.unwrap() {
                    0 => return count,
                    read => count += read,
                }
            }
        };
        let writing = async move {
            downstream.write_all(&stream).await.unwrap();
            downstream.flush().await.unwrap();
            assert_eq!(downstream.rewritten_length(), Some(plain as u64));
        };
        let (count, ()) = tokio::join!(reading, writing);
        assert_eq!(count, HEAD.len() + plain);
        assert!(begun.elapsed() > 2 * WRITE_TIMEOUT, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn others_get_their_turn_however_much_there_is_to_write_and_however_fast_it_is_read() {
        let (mut downstream, caller) = pair();
        downstream.request_started(false, false);
        downstream.start_rewrite(rewrite(true, ResponseFraming::Chunks).0);
        let (plain, _, stream) = large(ResponseFraming::Chunks);
        let mut writing = pin!(downstream.write_all(&stream));
        let (mut count, mut turns) = (0, 0);
        loop {
            let is_done = writing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
            let turn = written(&caller);
            assert!(turn < 128 << 10, "{turn} bytes at a time");
            (count, turns) = (count + turn, turns + 1);
            if is_done {
                break;
            }
            // The socket's news.
            yield_now().await;
        }
        assert!(count > plain && turns > 50, "{count} bytes in {turns} turns");
    }

    #[tokio::test]
    async fn what_is_broken_is_not_ended_and_the_next_answer_is_not_touched() {
        let (mut downstream, mut caller) = pair();
        downstream.request_started(false, false);
        let (broken, _) = rewrite(true, ResponseFraming::Chunks);
        downstream.start_rewrite(broken);
        let stream = framed(&gzip(b"{\"a\":1}")[..15], ResponseFraming::Chunks, 1000);
        assert!(downstream.write_all(&stream).await.is_err());
        assert!(downstream.is_response_broken());
        assert!(downstream.write_all(b"more").await.is_err());

        downstream.start_rewrite(rewrite(true, ResponseFraming::Chunks).0);
        downstream.write_all(&framed(&gzip(b"{}"), ResponseFraming::Chunks, 1000)).await.unwrap();
        downstream.flush().await.unwrap();
        downstream.write_all(HEAD).await.unwrap();
        downstream.write_all(b"0\r\n\r\n").await.unwrap();
        drop(downstream);
        let mut said = String::new();
        caller.read_to_string(&mut said).await.unwrap();
        let head = String::from_utf8_lossy(HEAD);
        assert!(said.ends_with(&format!("{head}2\r\n{{}}\r\n0\r\n\r\n{head}0\r\n\r\n")), "{said}");
    }
}
