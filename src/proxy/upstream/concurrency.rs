//! How many requests an upstream gets at once: the others stand in a queue, which is bounded, too.

use crate::config::InFlight;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The way in.
pub(super) struct ConcurrencyLimit {
    slots: Arc<Semaphore>,
    /// Places in the queue.
    places: Semaphore,
    pub(super) limits: InFlight,
}

/// The right to be in flight; given back when dropped.
#[derive(Debug)]
pub(in crate::proxy) struct Slot {
    _permit: OwnedSemaphorePermit,
}

/// Why a request stays outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::proxy) enum Full {
    #[error(
        "as many requests as its `max_in_flight` allows are under way to this upstream, and as many as `queue.length` allows wait"
    )]
    Queue,
    #[error(
        "as many requests as its `max_in_flight` allows are under way to this upstream, and none of them ended within `queue.wait`"
    )]
    Wait,
}

impl ConcurrencyLimit {
    pub(super) fn new(limits: InFlight) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(limits.most)),
            places: Semaphore::new(limits.queue),
            limits,
        }
    }

    /// A slot at once, or when it is one's turn: who came first goes first.
    pub(super) async fn acquire(&self) -> Result<Slot, Full> {
        // Those in the queue have asked before, and so a free slot is one that nobody waits for.
        if let Ok(permit) = self.slots.clone().try_acquire_owned() {
            return Ok(Slot { _permit: permit });
        }
        let _place = self.places.try_acquire().map_err(|_| Full::Queue)?;
        let turn = timeout(self.limits.wait, self.slots.clone().acquire_owned()).await;
        // It is never closed.
        let permit = turn.map_err(|_| Full::Wait)?.map_err(|_| Full::Wait)?;
        Ok(Slot { _permit: permit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::time::Duration;

    const WAIT: Duration = Duration::from_secs(5);

    fn concurrency(most: usize, queue: usize) -> ConcurrencyLimit {
        ConcurrencyLimit::new(InFlight { most, queue, wait: WAIT })
    }

    #[tokio::test(start_paused = true)]
    async fn slots_are_given_in_turn_and_given_back() {
        let concurrency = concurrency(2, 2);
        let (first, _second) =
            (concurrency.acquire().await.unwrap(), concurrency.acquire().await.unwrap());
        let (mut third, mut fourth) =
            (Box::pin(concurrency.acquire()), Box::pin(concurrency.acquire()));
        assert!((&mut third).now_or_never().is_none() && (&mut fourth).now_or_never().is_none());
        assert_eq!(concurrency.acquire().await.unwrap_err(), Full::Queue, "two wait already");
        drop(first);
        assert!((&mut fourth).now_or_never().is_none(), "it is the third one's turn");
        let third = third.await.unwrap();
        drop(third);
        assert!(fourth.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_longer_than_the_wait_and_who_leaves_leaves_a_place() {
        let concurrency = concurrency(1, 1);
        let only = concurrency.acquire().await.unwrap();
        let before = tokio::time::Instant::now();
        assert_eq!(concurrency.acquire().await.unwrap_err(), Full::Wait);
        assert_eq!(before.elapsed(), WAIT);
        assert!(
            concurrency.acquire().now_or_never().is_none(),
            "there is a place in the queue again"
        );
        drop(only);
        assert!(concurrency.acquire().now_or_never().unwrap().is_ok());
    }

    #[tokio::test]
    async fn without_a_queue_who_finds_no_slot_is_told_at_once() {
        let concurrency = concurrency(1, 0);
        let _only = concurrency.acquire().await.unwrap();
        assert_eq!(concurrency.acquire().now_or_never().unwrap().unwrap_err(), Full::Queue);
    }
}
