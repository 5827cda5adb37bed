//! Whether a connection is idle, for when there is no room for another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A request is under way.
const BUSY: u64 = 0;

/// What is known of a connection while it is served: since when it has been idle, as a number that counts
/// pauses. A header that is not all here is part of the pause.
#[derive(Debug)]
pub(crate) struct Activity {
    turns: Arc<AtomicU64>,
    number: u64,
    idle_since: AtomicU64,
}

impl Activity {
    /// Of a connection that begins now. `turns` counts the pauses of all.
    pub(crate) fn new(turns: Arc<AtomicU64>) -> Self {
        let number = next(&turns);
        Self { turns, number, idle_since: AtomicU64::new(number) }
    }

    /// What no other connection has.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// A request is here.
    pub(crate) fn set_busy(&self) {
        self.idle_since.store(BUSY, Ordering::Relaxed);
    }

    /// The request is over. A pause that has begun goes on.
    pub(crate) fn set_idle(&self) {
        if self.idle_since().is_none() {
            self.idle_since.store(next(&self.turns), Ordering::Relaxed);
        }
    }

    /// The number of the pause, if this is one.
    pub(crate) fn idle_since(&self) -> Option<u64> {
        let since = self.idle_since.load(Ordering::Relaxed);
        (since != BUSY).then_some(since)
    }
}

/// Begins with one: zero is [`BUSY`].
fn next(turns: &AtomicU64) -> u64 {
    turns.fetch_add(1, Ordering::Relaxed) + 1
}
