//! Writing an answer that is changed on its way: no more than the caller takes, and never long at a time.

use super::Downstream;
use super::response_rewrite::ResponseRewrite;
use bytes::Buf;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::io::poll_write_buf;

/// A caller that reads nothing for this long has gone away. The system's buffers hold megabytes, so that
/// one that reads slowly seems to read nothing for a while.
pub(in crate::proxy) const WRITE_TIMEOUT: Duration = Duration::from_secs(300);

/// How long the caller may still read nothing. pingora's own clock is for a whole chunk, whatever it becomes.
#[derive(Debug, Default)]
pub(super) struct Stall {
    is_on: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    /// Nothing was read. Ready when the time is up.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT)));
        if !std::mem::replace(&mut self.is_on, true) {
            timer.as_mut().reset(Instant::now() + WRITE_TIMEOUT);
        }
        Future::poll(timer.as_mut(), context)
    }
}

impl Downstream {
    /// From the next header on, the answer is changed so.
    pub(crate) fn start_rewrite(&self, rewrite: ResponseRewrite) {
        self.set_rewrite(Some(Box::new(rewrite)));
    }

    /// What is said from now on is said as it is.
    pub(crate) fn stop_rewrite(&self) {
        self.set_rewrite(None);
    }

    fn set_rewrite(&self, rewrite: Option<Box<ResponseRewrite>>) {
        // Nobody panics who holds it.
        if let Ok(mut place) = self.rewrite.lock() {
            *place = rewrite;
        }
        self.length.store(u64::MAX, Ordering::Relaxed);
    }

    /// The body that is changed has come to its end, after so many bytes.
    pub(crate) fn set_body_length(&self, length: u64) {
        self.length.store(length, Ordering::Relaxed);
    }

    /// Whether the answer that was changed came to nothing.
    pub(crate) fn is_response_broken(&self) -> bool {
        self.rewrite.lock().is_ok_and(|rewrite| rewrite.as_ref().is_some_and(|it| it.is_broken()))
    }

    /// How many bytes the body of the latest answer that was changed has become.
    pub(crate) fn rewritten_length(&self) -> Option<u64> {
        let is_under_way = self.rewrite.lock().ok()?.as_ref().map(|rewrite| rewrite.made());
        is_under_way.or_else(|| Some(self.rewritten.load(Ordering::Relaxed)))
    }

    /// The answer that is being changed, if there is one.
    fn current(&mut self) -> Option<&mut ResponseRewrite> {
        self.rewrite.get_mut().ok()?.as_deref_mut()
    }

    /// Whether there is one.
    pub(super) fn is_rewriting(&mut self) -> bool {
        self.current().is_some()
    }

    /// Takes some of what pingora writes.
    pub(super) fn poll_rewrite(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_made(context))?;
        match self.current() {
            Some(rewrite) => Poll::Ready(rewrite.take(bytes)),
            None => Pin::new(&mut self.socket).poll_write(context, bytes),
        }
    }

    /// Writes all that was made of what was taken.
    pub(super) fn poll_made(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_output(context))?;
            let length = *self.length.get_mut();
            let Some(rewrite) = self.current() else { return Poll::Ready(Ok(())) };
            if rewrite.is_over() {
                let made = rewrite.made();
                *self.rewritten.get_mut() = made;
                self.stop_rewrite();
                return Poll::Ready(Ok(()));
            }
            if rewrite.ends_turn() {
                // Behind all who are ready, and those that the system has news for.
                return pin!(yield_now()).poll(context).map(Ok);
            }
            if rewrite.has_more() {
                rewrite.make()?;
            } else {
                rewrite.may_end(length)?;
                if !rewrite.is_over() {
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Writes what little was kept back.
    pub(super) fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.socket).poll_flush(context) {
            Poll::Ready(flushed) => {
                self.stall.is_on = false;
                Poll::Ready(flushed)
            }
            Poll::Pending => self.stall.poll(context).map(|()| Err(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Writes what has been made, as far as the caller takes it.
    fn poll_output(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(rewrite) = self.rewrite.get_mut().ok().and_then(Option::as_deref_mut) else {
            return Poll::Ready(Ok(()));
        };
        while rewrite.output().has_remaining() {
            match poll_write_buf(Pin::new(&mut self.socket), context, rewrite.output()) {
                Poll::Ready(written) => {
                    written?;
                    self.stall.is_on = false;
                }
                Poll::Pending => {
                    return self.stall.poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::downstream::response_framing::ResponseFraming;
    use crate::proxy::downstream::response_rewrite::tests::{HEAD, framed, gzip, rewrite};
    use crate::proxy::downstream::tests::pair;
    use std::task::Waker;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::time::timeout;

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
