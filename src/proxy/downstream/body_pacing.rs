//! How fast a large body is read: no faster than the upstream takes it, and to its end when the
//! upstream takes no more.

use crate::proxy::upstream::SendBuffer;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// How long an upstream may read nothing of the body after its response, or after the beginning of
/// a response that refuses the request. After that, the rest of the body is dropped.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a caller may go on sending a body that is dropped.
const LINGER: Duration = Duration::from_secs(30);
/// How many times pingora is polled until it has written what was read. Its halves take turns, and
/// either may be the first.
const TURNS: u8 = 2;

/// Reads a body no faster than the upstream takes it.
#[derive(Debug)]
pub(super) struct BodyPacing {
    send_buffer: Arc<SendBuffer>,
    /// How many more times pingora is polled before more is read.
    turns: u8,
    /// Runs until the rest is dropped, and then until dropping ends.
    timer: Option<Pin<Box<Sleep>>>,
    is_dropping: bool,
}

impl BodyPacing {
    pub(super) const fn new(send_buffer: Arc<SendBuffer>) -> Self {
        Self { send_buffer, turns: 0, timer: None, is_dropping: false }
    }

    /// Whether the rest of the body is dropped.
    pub(super) const fn is_dropping(&self) -> bool {
        self.is_dropping
    }

    /// How many bytes may be read now. `None` if the rest of the body is to be dropped.
    pub(super) fn poll_allowance(
        &mut self,
        is_response_out: bool,
        context: &mut Context<'_>,
    ) -> Poll<Option<usize>> {
        if self.is_dropping {
            return Poll::Ready(None);
        }
        if let Some(turns) = self.turns.checked_sub(1) {
            self.turns = turns;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Poll::Ready(room) = self.send_buffer.poll_room(context) {
            self.timer = None;
            return Poll::Ready(Some(room));
        }
        if !is_response_out {
            return Poll::Pending;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(PAUSE)));
        if timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        (self.is_dropping, self.timer) = (true, Some(Box::pin(sleep(LINGER))));
        Poll::Ready(None)
    }

    /// Lets pingora write what was read before more is read.
    pub(super) const fn wait_for_write(&mut self) {
        self.turns = TURNS;
    }

    /// Whether the time for dropping is up.
    pub(super) fn is_drop_time_over(&mut self, context: &mut Context<'_>) -> bool {
        self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(context).is_ready())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::downstream::caller_timeout::PATIENCE;
    use crate::proxy::downstream::tests::{pair, read};
    use crate::proxy::upstream::send_buffer::tests::connection;
    use std::io;
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
            // All of it was read: the end is not a reset.
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
