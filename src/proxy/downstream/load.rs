//! How much is in flight on a listener, for `limits.requests`.

use crate::config::ListenerId;
use crate::journal::EventKind;
use crate::metrics::Metrics;
use crate::proxy::problem::Problem;
use crate::proxy::record;
use crate::throttle::Throttle;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use tracing::warn;

/// The largest number of long headers that are received at once: with pingora's read buffers, 6
/// MiB.
const MOST_LONG_HEADERS: usize = 48;

/// The requests in flight that came in on one listener.
pub(crate) struct Load {
    listener: ListenerId,
    requests: AtomicI64,
    /// Long headers that are being received.
    long_headers: AtomicUsize,
    pub(super) metrics: Arc<Metrics>,
    tls_log: Throttle,
    handshake_log: Throttle,
}

impl Load {
    pub(crate) const fn new(listener: ListenerId, metrics: Arc<Metrics>) -> Self {
        Self {
            listener,
            requests: AtomicI64::new(0),
            long_headers: AtomicUsize::new(0),
            metrics,
            tls_log: Throttle::new(),
            handshake_log: Throttle::new(),
        }
    }

    /// The listener.
    pub(super) const fn listener(&self) -> ListenerId {
        self.listener
    }

    /// Logs and counts a connection or a header that was rejected before it became a request.
    pub(crate) fn record_rejected(&self, problem: &Problem) {
        record::unread(&self.metrics, problem);
    }

    /// Records that a caller spoke TLS to this listener. The caller itself reports only a
    /// "wrong version number".
    pub(super) fn record_tls(&self) {
        let advice = "use http:// in the tool's URL";
        self.metrics.journal().record(None, EventKind::TlsNotOffered, advice.to_owned());
        if self.tls_log.try_pass() {
            warn!("A caller spoke TLS to a port without TLS; {advice}.");
        }
    }

    /// Records that a caller spoke no TLS to this listener, which has TLS.
    pub(crate) fn record_cleartext(&self) {
        let advice = "use https:// in the tool's URL";
        self.metrics.journal().record(None, EventKind::TlsNotSpoken, advice.to_owned());
        if self.tls_log.try_pass() {
            warn!("A caller spoke no TLS to a port with TLS; {advice}.");
        }
    }

    /// Logs a handshake that failed.
    pub(crate) fn record_failed_handshake(&self, why: &str) {
        if self.handshake_log.try_pass() {
            warn!("The TLS handshake of a caller failed: {why}.");
        }
    }

    /// Counts one more long header that is being received. Returns whether there was room for it.
    pub(super) fn begin_long_header(&self) -> bool {
        let has_room = self.long_headers.fetch_add(1, Ordering::Relaxed) < MOST_LONG_HEADERS;
        if !has_room {
            self.end_long_header();
        }
        has_room
    }

    /// Counts one long header less: it was received, or given up.
    pub(super) fn end_long_header(&self) {
        self.long_headers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a request, until the result is dropped.
    pub(crate) fn count_request(self: Arc<Self>) -> RequestInFlight {
        self.requests.fetch_add(1, Ordering::Relaxed);
        RequestInFlight(self)
    }
}

/// One request in flight on a listener.
pub(crate) struct RequestInFlight(Arc<Load>);

impl RequestInFlight {
    pub(crate) fn listener(&self) -> ListenerId {
        self.0.listener
    }

    /// How many requests the listener has, with this one.
    pub(crate) fn requests(&self) -> i64 {
        self.0.requests.load(Ordering::Relaxed)
    }
}

impl Drop for RequestInFlight {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}
