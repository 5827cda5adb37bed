//! How much is under way on a listener: `limits.requests` is judged by it.

use crate::config::ListenerId;
use crate::metrics::Metrics;
use crate::proxy::record;
use crate::proxy::respond::Problem;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

/// Long headers that are not whole, at once: with what pingora reads into, 6 MiB.
const MOST_LONG_HEADERS: usize = 48;

/// The requests under way that came in on one listener.
pub(crate) struct Load {
    listener: ListenerId,
    requests: AtomicI64,
    /// Long headers that are not whole.
    long_headers: AtomicUsize,
    pub(super) metrics: Arc<Metrics>,
}

impl Load {
    pub(crate) const fn new(listener: ListenerId, metrics: Arc<Metrics>) -> Self {
        Self { listener, requests: AtomicI64::new(0), long_headers: AtomicUsize::new(0), metrics }
    }

    /// Counts what was turned away before it was read.
    pub(crate) fn record_rejected(&self, problem: &Problem) {
        record::unread(&self.metrics, problem);
    }

    /// Whether there is room for one more long header that is not whole; then it is counted.
    pub(super) fn begin_long_header(&self) -> bool {
        let has_room = self.long_headers.fetch_add(1, Ordering::Relaxed) < MOST_LONG_HEADERS;
        if !has_room {
            self.end_long_header();
        }
        has_room
    }

    /// It is whole, or given up.
    pub(super) fn end_long_header(&self) {
        self.long_headers.fetch_sub(1, Ordering::Relaxed);
    }

    /// One more; one less when it is dropped.
    pub(crate) fn enter(self: Arc<Self>) -> InFlight {
        self.requests.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }
}

/// One request's share of a listener's load.
pub(crate) struct InFlight(Arc<Load>);

impl InFlight {
    /// Which listener it is.
    pub(crate) fn listener(&self) -> ListenerId {
        self.0.listener
    }

    /// How many requests the listener has, this one among them.
    pub(crate) fn requests(&self) -> i64 {
        self.0.requests.load(Ordering::Relaxed)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}
