//! How long a caller may take, by the phase of its connection.
//!
//! A header has one time for all of it. A body has a budget of waiting time: each byte gives a
//! little of it back, and time in which bearerd does not read does not count.

use super::phase::Phase;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a connection may be idle before a request.
const IDLE_TIME: Duration = Duration::from_secs(60);
/// How long a caller may take for a header, from its first byte on.
pub(super) const HEADER_TIME: Duration = Duration::from_secs(60);
/// How long a caller may pause in a body, in total.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long a caller may pause in a body that nobody needs. The response was sent, and a caller
/// that goes on sending has not read it yet.
const PATIENCE_AFTERWARDS: Duration = Duration::from_secs(2);
/// The time that each byte of a body gives back. At 16 bytes a second it never runs out: a slow
/// caller is not a hostile one.
const PATIENCE_A_BYTE: Duration = Duration::from_micros(62_500);

/// The timeout of the current phase.
#[derive(Debug, Default)]
pub(super) struct CallerTimeout {
    /// The phase that it runs for.
    phase: Option<Phase>,
    /// When the current wait began.
    since: Option<Instant>,
    /// How much time is left.
    left: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl CallerTimeout {
    /// Records that bytes were received.
    pub(super) fn received(&mut self, phase: Phase, count: usize) {
        let Some(since) = self.since else { return };
        // A header's time runs on. A body's only runs while bearerd waits.
        if matches!(phase, Phase::Body | Phase::UnneededBody)
            && let Some(whole) = phase_timeout(phase)
        {
            let back = PATIENCE_A_BYTE.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
            self.left = self.left.saturating_sub(since.elapsed()).saturating_add(back).min(whole);
            self.since = None;
        }
    }

    /// Starts a new phase, or the same one again, with all of its time.
    pub(super) const fn restart(&mut self) {
        self.phase = None;
    }

    /// Restarts the current wait: bearerd has not read for a while.
    pub(super) const fn reset_wait(&mut self) {
        self.since = None;
    }

    /// Records that no bytes were received. Ready when the time is up.
    pub(super) fn poll(&mut self, phase: Phase, context: &mut Context<'_>) -> Poll<()> {
        let Some(whole) = phase_timeout(phase) else { return Poll::Pending };
        if self.phase != Some(phase) {
            (self.phase, self.since, self.left) = (Some(phase), None, whole);
        }
        let deadline = *self.since.get_or_insert_with(Instant::now) + self.left;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        Future::poll(timer.as_mut(), context)
    }
}

/// The time for a phase. `None` if bearerd does not wait for the caller.
const fn phase_timeout(phase: Phase) -> Option<Duration> {
    match phase {
        Phase::Header => Some(HEADER_TIME),
        Phase::Body => Some(PATIENCE),
        Phase::UnneededBody => Some(PATIENCE_AFTERWARDS),
        Phase::Idle | Phase::Ended => Some(IDLE_TIME),
        Phase::AwaitingContinue
        | Phase::UnrequestedBody
        | Phase::OptionalBody
        | Phase::Response => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::downstream::Downstream;
    use crate::proxy::downstream::tests::{pair, read, rejected};
    use std::io;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn a_header_has_its_time_however_often_a_byte_comes() {
        let (mut downstream, mut caller) = pair();
        let begun = Instant::now();
        let mut bytes = 0;
        let error = loop {
            caller.write_all(b"G").await.unwrap();
            match read(&mut downstream).await {
                Ok(count) => bytes += count,
                Err(error) => break error,
            }
            // Until nothing more is there, and a second passes.
            tokio::select! {
                biased;
                late = read(&mut downstream) => break late.unwrap_err(),
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!((begun.elapsed(), bytes), (HEADER_TIME, 60));
        assert!(rejected(&downstream));
        drop(downstream);
        let mut answer = String::new();
        caller.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.contains("did not arrive within 60 s"), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_has_sent_all_may_be_silent() {
        let (mut downstream, _caller) = pair();
        downstream.request_started(false, false);
        let silent = tokio::time::timeout(10 * HEADER_TIME, read(&mut downstream)).await;
        assert!(silent.is_err(), "an answer takes its time");
    }

    const SECOND: Duration = Duration::from_secs(1);

    async fn gets_request_within(downstream: &mut Downstream, time: Duration) -> bool {
        tokio::time::timeout(time, downstream.wait_for_request()).await.unwrap_or_default()
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_waited_for_whether_it_is_the_first_or_not() {
        let (mut downstream, mut caller) = pair();
        for _ in 0..3 {
            assert!(!gets_request_within(&mut downstream, IDLE_TIME - SECOND).await);
            caller.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            assert!(gets_request_within(&mut downstream, SECOND / 2).await);
            assert_eq!(read(&mut downstream).await.unwrap(), 18, "nothing of it was taken");
            downstream.request_started(false, false);
            downstream.request_ended();
        }
        let begun = Instant::now();
        assert!(!downstream.wait_for_request().await);
        assert_eq!(begun.elapsed(), IDLE_TIME);
    }

    #[tokio::test(start_paused = true)]
    async fn each_body_has_a_patience_of_its_own() {
        let (mut downstream, mut caller) = pair();
        for _ in 0..3 {
            downstream.request_started(true, false);
            let waiting = tokio::time::timeout(PATIENCE - SECOND, read(&mut downstream)).await;
            assert!(waiting.is_err(), "it is not used up");
            caller.write_all(b"x").await.unwrap();
            assert_eq!(read(&mut downstream).await.unwrap(), 1);
            downstream.body_received();
            downstream.request_ended();
        }
    }

    /// How long bearerd reads from a caller that sends this many bytes of a body after each pause;
    /// at most an hour.
    async fn heard(bytes: usize, pause: Duration) -> Duration {
        let (mut downstream, mut caller) = pair();
        downstream.request_started(true, false);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3600) {
            tokio::select! {
                biased;
                late = read(&mut downstream) => {
                    assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
                    break;
                }
                () = tokio::time::sleep(pause) => {}
            }
            caller.write_all(&vec![b'x'; bytes]).await.unwrap();
            assert_eq!(read(&mut downstream).await.unwrap(), bytes);
        }
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_be_slow_but_not_endless() {
        let dawdling = heard(1, SECOND).await;
        assert!(dawdling >= PATIENCE && dawdling < PATIENCE * 17 / 15, "{dawdling:?}");
        assert_eq!(heard(1000, 2 * PATIENCE).await, PATIENCE, "a stall");
        let slow = heard(16, 2 * SECOND).await;
        assert!(slow > PATIENCE && slow < 3 * PATIENCE, "half the rate: {slow:?}");
        let hour = Duration::from_secs(3600);
        assert!(heard(16, SECOND).await >= hour);
        assert!(heard(1000, 30 * SECOND).await >= hour, "a generator with its pauses");
        assert!(heard(15, SECOND / 2).await >= hour, "more often, and less");
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nothing_is_read_does_not_count() {
        let (mut downstream, mut caller) = pair();
        downstream.request_started(true, false);
        for _ in 0..10 {
            caller.write_all(b"x").await.unwrap();
            assert_eq!(read(&mut downstream).await.unwrap(), 1);
            advance(PATIENCE).await;
        }
        downstream.body_received();
        let waiting = tokio::time::timeout(10 * PATIENCE, read(&mut downstream)).await;
        assert!(waiting.is_err(), "the upstream may take its time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_kept_connection_is_idle_for_its_time_whatever_empty_lines_come() {
        let (mut downstream, mut caller) = pair();
        let begun = Instant::now();
        downstream.request_ended();
        caller.write_all(b"\r\n").await.unwrap();
        assert_eq!(read(&mut downstream).await.unwrap(), 2);
        assert_eq!(read(&mut downstream).await.unwrap(), 0, "as if the caller had closed it");
        assert_eq!(begun.elapsed(), IDLE_TIME);
        assert!(!rejected(&downstream), "no request, no answer");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_expects_100_continue_has_no_time_limit_until_it_sends() {
        let (mut downstream, mut caller) = pair();
        downstream.request_started(true, true);
        let waiting = tokio::time::timeout(10 * PATIENCE, read(&mut downstream)).await;
        assert!(waiting.is_err(), "it is the upstream's turn");
        caller.write_all(b"x").await.unwrap();
        assert_eq!(read(&mut downstream).await.unwrap(), 1);
        let begun = Instant::now();
        assert_eq!(read(&mut downstream).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_answer_goes_out_the_body_may_stop_and_then_a_refused_one_is_not_waited_for()
    {
        for (expects_continue, begins, is_refused, patience) in [
            (false, false, true, PATIENCE_AFTERWARDS),
            (false, false, false, PATIENCE),
            // Nobody has asked for it.
            (true, false, true, PATIENCE_AFTERWARDS),
            (true, false, false, PATIENCE_AFTERWARDS),
            // It comes all the same.
            (true, true, true, PATIENCE_AFTERWARDS),
            (true, true, false, PATIENCE),
        ] {
            let (mut downstream, mut caller) = pair();
            downstream.request_started(true, expects_continue);
            downstream.response_started(is_refused);
            let waiting = tokio::time::timeout(10 * PATIENCE, read(&mut downstream)).await;
            assert!(waiting.is_err(), "there is more to say");
            if begins {
                caller.write_all(b"x").await.unwrap();
                assert_eq!(read(&mut downstream).await.unwrap(), 1);
                let waiting = tokio::time::timeout(10 * PATIENCE, read(&mut downstream)).await;
                assert!(waiting.is_err(), "there still is");
            }
            downstream.response_finished(is_refused);
            for _ in 0..10 {
                caller.write_all(&[b'x'; 32]).await.unwrap();
                assert_eq!(read(&mut downstream).await.unwrap(), 32, "it may still be on its way");
                advance(SECOND).await;
            }
            let begun = Instant::now();
            assert_eq!(read(&mut downstream).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert_eq!(begun.elapsed(), patience, "{expects_continue} {is_refused}");
            assert_eq!(downstream.has_unneeded_body(), patience == PATIENCE_AFTERWARDS);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_reads_may_be_silent() {
        let (mut downstream, _caller) = pair();
        downstream.request_started(true, false);
        for _ in 0..10 {
            let waiting = tokio::time::timeout(PATIENCE - SECOND, read(&mut downstream)).await;
            assert!(waiting.is_err());
            downstream.write_all(b"part of an answer").await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_wait_starts_again() {
        let (mut downstream, _caller) = pair();
        downstream.request_started(true, false);
        let waiting = tokio::time::timeout(PATIENCE / 2, read(&mut downstream)).await;
        assert!(waiting.is_err());
        advance(10 * PATIENCE).await;
        downstream.reset_wait();
        let begun = Instant::now();
        assert_eq!(read(&mut downstream).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), PATIENCE);
    }
}
