//! `max_in_flight` of an upstream: further requests wait in a bounded queue.

use crate::config::InFlightLimits;
use crate::proxy::problem::Problem;
use pingora::{Error, ErrorType};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// No slot became free for a request.
const FULL: ErrorType = ErrorType::new("UpstreamFull");

/// Limits the requests in flight to one upstream.
pub(super) struct ConcurrencyLimit {
    slots: Arc<Semaphore>,
    /// The free places in the queue.
    queue: Semaphore,
    pub(super) limits: InFlightLimits,
}

/// The right to have one request in flight. Dropping it frees the slot.
#[derive(Debug)]
pub(in crate::proxy) struct Slot {
    _permit: OwnedSemaphorePermit,
}

/// Why a request got no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error(
        "this upstream has as many requests in flight as its `max_in_flight` allows, and as many wait as `queue.length` allows; try again later"
    )]
    Queue,
    #[error(
        "this upstream has as many requests in flight as its `max_in_flight` allows, and none ended within `queue.wait`; try again later"
    )]
    Wait,
}

/// Ends a request that got no slot.
pub(super) fn no_slot(full: Full) -> Box<Error> {
    Problem::overloaded(full.to_string()).into_error(FULL)
}

impl ConcurrencyLimit {
    pub(super) fn new(limits: InFlightLimits) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(limits.most)),
            queue: Semaphore::new(limits.queue),
            limits,
        }
    }

    /// Returns a slot at once, or waits for one in the order of arrival.
    pub(super) async fn acquire(&self) -> Result<Slot, Full> {
        // Requests in the queue already wait for the semaphore, so a free permit belongs to none.
        if let Ok(permit) = self.slots.clone().try_acquire_owned() {
            return Ok(Slot { _permit: permit });
        }
        let _place = self.queue.try_acquire().map_err(|_| Full::Queue)?;
        let turn = timeout(self.limits.wait, self.slots.clone().acquire_owned()).await;
        // The semaphore is never closed.
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

    fn limit(most: usize, queue: usize) -> ConcurrencyLimit {
        ConcurrencyLimit::new(InFlightLimits { most, queue, wait: WAIT })
    }

    #[tokio::test(start_paused = true)]
    async fn slots_are_given_in_turn_and_given_back() {
        let limit = limit(2, 2);
        let (first, _second) = (limit.acquire().await.unwrap(), limit.acquire().await.unwrap());
        let (mut third, mut fourth) = (Box::pin(limit.acquire()), Box::pin(limit.acquire()));
        assert!((&mut third).now_or_never().is_none() && (&mut fourth).now_or_never().is_none());
        assert_eq!(limit.acquire().await.unwrap_err(), Full::Queue, "two wait already");
        drop(first);
        assert!((&mut fourth).now_or_never().is_none(), "it is the third one's turn");
        let third = third.await.unwrap();
        drop(third);
        assert!(fourth.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn no_request_waits_longer_than_the_wait_and_one_that_leaves_frees_its_place() {
        let limit = limit(1, 1);
        let only = limit.acquire().await.unwrap();
        let before = tokio::time::Instant::now();
        assert_eq!(limit.acquire().await.unwrap_err(), Full::Wait);
        assert_eq!(before.elapsed(), WAIT);
        assert!(limit.acquire().now_or_never().is_none(), "there is a place in the queue again");
        drop(only);
        assert!(limit.acquire().now_or_never().unwrap().is_ok());
    }

    #[tokio::test]
    async fn without_a_queue_a_request_that_finds_no_slot_fails_at_once() {
        let limit = limit(1, 0);
        let _only = limit.acquire().await.unwrap();
        assert_eq!(limit.acquire().now_or_never().unwrap().unwrap_err(), Full::Queue);
    }
}
