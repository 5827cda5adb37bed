//! Whether a connection is idle, so that the longest idle one can make room for another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The value of `idle_since` while a request is in flight.
const BUSY: u64 = 0;

/// The idle state of a connection: since when it has been idle, as the number of its pause. A
/// header that is not complete is part of the pause.
#[derive(Debug)]
pub(crate) struct Activity {
    /// The number of the latest pause of any connection.
    pauses: Arc<AtomicU64>,
    number: u64,
    idle_since: AtomicU64,
}

impl Activity {
    /// The state of a new connection, which is idle. `pauses` counts the pauses of all connections.
    pub(crate) fn new(pauses: Arc<AtomicU64>) -> Self {
        let number = next(&pauses);
        Self { pauses, number, idle_since: AtomicU64::new(number) }
    }

    /// The connection's own number.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// Records that a request has begun.
    pub(crate) fn set_busy(&self) {
        self.idle_since.store(BUSY, Ordering::Relaxed);
    }

    /// Records that the request is over. A pause that has begun goes on.
    pub(crate) fn set_idle(&self) {
        if self.idle_since().is_none() {
            self.idle_since.store(next(&self.pauses), Ordering::Relaxed);
        }
    }

    /// The number of the pause. `None` while a request is in flight.
    pub(crate) fn idle_since(&self) -> Option<u64> {
        let since = self.idle_since.load(Ordering::Relaxed);
        (since != BUSY).then_some(since)
    }
}

/// The number of the next pause. The first is one: zero is [`BUSY`].
fn next(pauses: &AtomicU64) -> u64 {
    pauses.fetch_add(1, Ordering::Relaxed) + 1
}
