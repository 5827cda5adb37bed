//! Reading a large body: no faster than the upstream takes it, and to the end when it takes no more.
//!
//! A caller that does not listen while it sends hears an early answer when all is sent. So what nobody takes is read
//! and dropped.

use super::{Downstream, Phase};
use crate::proxy::upstream::SendBuffer;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long an upstream may take nothing after its answer: what is left of the body is not for it.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a caller may go on sending what is dropped.
const LINGER: Duration = Duration::from_secs(30);
/// How often pingora is polled until it has written what was read: its halves take turns, and either may be the first.
const TURNS: u8 = 2;

/// A body that is read as the upstream takes it.
#[derive(Debug)]
pub(super) struct BodyPacing {
    send_buffer: Arc<SendBuffer>,
    /// So often, pingora is to be polled before more is read.
    turns: u8,
    /// When what is left is dropped, or when that ends.
    timer: Option<Pin<Box<Sleep>>>,
    drops: bool,
}

impl Downstream {
    /// From now on, a body is read as this upstream takes it.
    pub(in crate::proxy) fn pace_body(&self, send_buffer: Arc<SendBuffer>) {
        // Nobody panics who holds it.
        if let Ok(mut pacing) = self.pacing.lock() {
            *pacing = Some(BodyPacing { send_buffer, turns: 0, timer: None, drops: false });
            self.is_paced.store(true, Ordering::Relaxed);
        }
    }

    /// That upstream's connection is not this request's any more.
    pub(in crate::proxy) fn stop_pacing(&self) {
        if self.is_paced.swap(false, Ordering::Relaxed)
            && let Ok(mut pacing) = self.pacing.lock()
        {
            *pacing = None;
        }
    }

    /// How much of a body may be read now; nothing if it is to be dropped.
    pub(super) fn poll_allowance(&mut self, context: &mut Context<'_>) -> Poll<Option<usize>> {
        let is_heard = *self.is_heard.get_mut();
        let pacing = self.pacing.get_mut().ok().filter(|_| *self.is_paced.get_mut());
        let Some(pacing) = pacing.and_then(Option::as_mut) else {
            return Poll::Ready(Some(usize::MAX));
        };
        if pacing.drops {
            return Poll::Ready(None);
        }
        if let Some(turns) = pacing.turns.checked_sub(1) {
            pacing.turns = turns;
            context.waker().wake_by_ref();
            return self.not_now();
        }
        if let Poll::Ready(room) = pacing.send_buffer.poll_room(context) {
            pacing.timer = None;
            return Poll::Ready(Some(room));
        }
        if !is_heard {
            return self.not_now();
        }
        let timer = pacing.timer.get_or_insert_with(|| Box::pin(sleep(PAUSE)));
        if timer.as_mut().poll(context).is_pending() {
            return self.not_now();
        }
        (pacing.drops, pacing.timer) = (true, Some(Box::pin(sleep(LINGER))));
        if self.phase() == Phase::Body {
            self.set_phase(Phase::UnneededBody);
        }
        Poll::Ready(None)
    }

    /// While nobody reads, time is not the caller's.
    fn not_now<T>(&mut self) -> Poll<T> {
        *self.must_reset_wait.get_mut() = true;
        Poll::Pending
    }

    /// Something was read: pingora is to write it before there is more.
    pub(super) fn took_in(&mut self) {
        if *self.is_paced.get_mut()
            && let Ok(Some(pacing)) = self.pacing.get_mut()
        {
            pacing.turns = TURNS;
        }
    }

    /// Reads what is dropped. Ready when there is no more of it, or when it is enough.
    pub(super) fn poll_drop(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
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
                if !self.is_enough(context) {
                    continue;
                }
            } else if !self.is_enough(context) {
                ready!(self.poll_timeout(context));
            }
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
    }

    fn is_enough(&mut self, context: &mut Context<'_>) -> bool {
        let pacing = self.pacing.get_mut().ok().and_then(Option::as_mut);
        let timer = pacing.and_then(|pacing| pacing.timer.as_mut());
        timer.is_some_and(|timer| timer.as_mut().poll(context).is_ready())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::downstream::client_timeout::PATIENCE;
    use crate::proxy::downstream::tests::{pair, read};
    use crate::proxy::upstream::send_buffer::tests::connection;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{Instant, timeout};

    #[tokio::test(start_paused = true)]
    async fn who_dawdles_over_an_upload_is_given_up_as_any_other_caller() {
        let (mut downstream, mut caller) = pair();
        let (_ours, send_buffer, _theirs) = connection().await;
        downstream.request_started(true, false);
        downstream.pace_body(send_buffer);
        caller.write_all(b"x").await.unwrap();
        assert_eq!(read(&mut downstream).await.unwrap(), 1);
        let begun = Instant::now();
        assert_eq!(read(&mut downstream).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_upstream_does_not_take_waits_until_it_has_answered_and_is_dropped_then() {
        for is_refused in [true, false] {
            let (mut downstream, mut caller) = pair();
            let (ours, send_buffer, _theirs) = connection().await;
            while ours.try_write(&[b'x'; 1 << 20]).is_ok() {}
            downstream.request_started(true, false);
            downstream.pace_body(send_buffer);
            caller.write_all(b"a body").await.unwrap();
            let waiting = timeout(10 * PATIENCE, read(&mut downstream)).await;
            assert!(waiting.is_err(), "it may think");
            downstream.response_started(is_refused);
            downstream.response_finished(is_refused);
            let begun = Instant::now();
            let dropping = read(&mut downstream).await;
            assert_eq!(dropping.unwrap_err().kind(), io::ErrorKind::TimedOut, "{is_refused}");
            assert!(begun.elapsed() >= PAUSE && begun.elapsed() < 3 * PAUSE, "{is_refused}");
            assert!(downstream.has_unneeded_body(), "{is_refused}");
            drop(downstream);
            // All of it was read: the end is no reset.
            assert_eq!(caller.read(&mut [0]).await.unwrap(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_on_sending_what_is_dropped_is_left_in_the_end() {
        let (mut downstream, mut caller) = pair();
        let (ours, send_buffer, _theirs) = connection().await;
        while ours.try_write(&[b'x'; 1 << 20]).is_ok() {}
        downstream.request_started(true, false);
        downstream.pace_body(send_buffer);
        downstream.response_started(true);
        downstream.response_finished(true);
        let begun = Instant::now();
        let sending = async {
            while caller.write_all(&[b'x'; 64]).await.is_ok() {
                sleep(PAUSE / 2).await;
            }
        };
        tokio::select! {
            ended = read(&mut downstream) => {
                assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
            }
            () = sending => panic!("it is heard"),
        }
        assert!(begun.elapsed() >= LINGER && begun.elapsed() < 2 * LINGER, "{:?}", begun.elapsed());
    }
}
