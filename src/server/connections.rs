//! Callers' connections of one worker. At the limit, a new connection replaces the one that has
//! been idle for the longest time, so that callers that connect and send nothing lock nobody out.

use crate::proxy::downstream::Activity;
use crate::throttle::Throttle;
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;
use tracing::warn;

/// Connections of one worker, up to a limit.
pub(super) struct Connections {
    most: usize,
    /// Counter of connections and of their pauses, so that the oldest pause has the smallest
    /// number.
    turns: Arc<AtomicU64>,
    open: Mutex<HashMap<u64, (Arc<Activity>, AbortHandle)>>,
    eviction_log: Throttle,
}

/// Removes a connection that has ended.
struct Registration {
    connections: Arc<Connections>,
    number: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.connections.open().remove(&self.number);
    }
}

impl Connections {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            turns: Arc::default(),
            open: Mutex::default(),
            eviction_log: Throttle::new(),
        })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, (Arc<Activity>, AbortHandle)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for one more connection, if necessary by evicting an idle one. Returns whether
    /// there is room; there is none if all are busy.
    pub(super) fn make_room(&self) -> bool {
        self.open().len() < self.most || self.evict_idle()
    }

    /// Closes the connection that has been idle for the longest time. Returns whether one was idle.
    ///
    /// Callers are on the worker's thread: otherwise the connection could begin a request in the
    /// same moment.
    pub(super) fn evict_idle(&self) -> bool {
        let mut open = self.open();
        let idle = open
            .iter()
            .filter_map(|(number, (activity, _))| Some((activity.idle_since()?, *number)))
            .min();
        let Some((_, task)) = idle.and_then(|(_, number)| open.remove(&number)) else {
            return false;
        };
        task.abort();
        if self.eviction_log.try_pass() {
            let most = self.most;
            warn!(
                most,
                "Too many connections (`limits.requests`, or the limit of open files); closing idle ones."
            );
        }
        true
    }

    /// Serves a connection in a task of its own.
    pub(super) fn serve<F: Future<Output = ()> + Send + 'static>(
        self: &Arc<Self>,
        tasks: &TaskTracker,
        serve: impl FnOnce(Arc<Activity>) -> F,
    ) {
        let activity = Arc::new(Activity::new(self.turns.clone()));
        let number = activity.number();
        let registration = Registration { connections: self.clone(), number };
        let serving = serve(activity.clone());
        let task = tasks.spawn(async move {
            let _registration = registration;
            serving.await;
        });
        if !task.is_finished() {
            self.open().insert(number, (activity, task.abort_handle()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::task::yield_now;

    /// Opens a connection that never ends.
    fn open(connections: &Arc<Connections>, tasks: &TaskTracker) -> Arc<Activity> {
        let mut activity = None;
        connections.serve(tasks, |given| {
            activity = Some(given);
            pending()
        });
        activity.unwrap()
    }

    #[tokio::test]
    async fn the_longest_idle_connection_makes_room_and_a_busy_one_never_does() {
        let (connections, tasks) = (Connections::new(3), TaskTracker::new());
        let [first, second, third] = [(); 3].map(|()| {
            assert!(connections.make_room());
            open(&connections, &tasks)
        });
        first.set_busy();
        second.set_busy();
        second.set_idle();
        assert!(connections.make_room(), "in the place of the third, whose pause is the oldest");
        yield_now().await;
        assert_eq!(tasks.len(), 2);
        assert!(third.idle_since() < second.idle_since());
        open(&connections, &tasks).set_busy();
        assert!(connections.make_room(), "in the place of the second");
        open(&connections, &tasks).set_busy();
        assert!(!connections.make_room(), "all are busy");
        first.set_idle();
        assert!(connections.make_room());
    }

    #[tokio::test]
    async fn a_connection_that_ends_makes_room() {
        let (connections, tasks) = (Connections::new(1), TaskTracker::new());
        connections.serve(&tasks, |seat| async move { seat.set_busy() });
        tasks.close();
        tasks.wait().await;
        assert!(connections.open().is_empty());
    }
}
