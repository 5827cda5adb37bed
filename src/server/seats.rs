//! The callers' connections of one worker. When there is no room for another one, the one that has been
//! idle for the longest time goes: strangers who connect and say nothing shut nobody out.

use crate::proxy::downstream::Activity;
use crate::throttle::Throttle;
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;
use tracing::warn;

/// Room for some connections.
pub(super) struct Seats {
    most: usize,
    /// Counts connections and their pauses, so that the oldest pause has the least number.
    turns: Arc<AtomicU64>,
    taken: Mutex<HashMap<u64, (Arc<Activity>, AbortHandle)>>,
    eviction_log: Throttle,
}

/// Frees the seat of a connection that has ended.
struct Leaving {
    seats: Arc<Seats>,
    number: u64,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.seats.taken().remove(&self.number);
    }
}

impl Seats {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            turns: Arc::default(),
            taken: Mutex::default(),
            eviction_log: Throttle::new(),
        })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<u64, (Arc<Activity>, AbortHandle)>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a seat, or one could be freed. No: all are busy.
    pub(super) fn make_room(&self) -> bool {
        self.taken().len() < self.most || self.evict()
    }

    /// Ends the connection that has been idle for the longest time, if one is. To be called where the
    /// connections are served: on another thread it could begin with a request in the same moment.
    pub(super) fn evict(&self) -> bool {
        let mut taken = self.taken();
        let idle = taken
            .iter()
            .filter_map(|(number, (seat, _))| Some((seat.idle_since()?, *number)))
            .min();
        let Some((_, task)) = idle.and_then(|(_, number)| taken.remove(&number)) else {
            return false;
        };
        task.abort();
        if self.eviction_log.try_pass() {
            let most = self.most;
            warn!(
                most,
                "More connections than the limit of open files, or `limits.requests`, allows; closing idle ones."
            );
        }
        true
    }

    /// Serves a connection on a seat of its own.
    pub(super) fn serve<F: Future<Output = ()> + Send + 'static>(
        self: &Arc<Self>,
        connections: &TaskTracker,
        serve: impl FnOnce(Arc<Activity>) -> F,
    ) {
        let seat = Arc::new(Activity::new(self.turns.clone()));
        let number = seat.number();
        let leaving = Leaving { seats: self.clone(), number };
        let serving = serve(seat.clone());
        let task = connections.spawn(async move {
            let _leaving = leaving;
            serving.await;
        });
        if !task.is_finished() {
            self.taken().insert(number, (seat, task.abort_handle()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::task::yield_now;

    /// Takes a seat for ever.
    fn sit(seats: &Arc<Seats>, connections: &TaskTracker) -> Arc<Activity> {
        let mut seat = None;
        seats.serve(connections, |given| {
            seat = Some(given);
            pending()
        });
        seat.unwrap()
    }

    #[tokio::test]
    async fn the_longest_idle_connection_makes_room_and_a_busy_one_never_does() {
        let (seats, connections) = (Seats::new(3), TaskTracker::new());
        let [first, second, third] = [(); 3].map(|()| {
            assert!(seats.make_room());
            sit(&seats, &connections)
        });
        first.set_busy();
        second.set_busy();
        second.set_idle();
        assert!(seats.make_room(), "in the place of the third, whose pause is the oldest");
        yield_now().await;
        assert_eq!(connections.len(), 2);
        assert!(third.idle_since() < second.idle_since());
        sit(&seats, &connections).set_busy();
        assert!(seats.make_room(), "in the place of the second");
        sit(&seats, &connections).set_busy();
        assert!(!seats.make_room(), "all are busy");
        first.set_idle();
        assert!(seats.make_room());
    }

    #[tokio::test]
    async fn who_leaves_frees_the_seat() {
        let (seats, connections) = (Seats::new(1), TaskTracker::new());
        seats.serve(&connections, |seat| async move { seat.set_busy() });
        connections.close();
        connections.wait().await;
        assert!(seats.taken().is_empty());
    }
}
