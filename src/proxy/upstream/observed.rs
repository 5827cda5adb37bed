//! What connections to an upstream have shown about it. All its requests use this.

use super::resolved_addresses::Known;
use arc_swap::ArcSwap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What connections to an upstream have shown about it.
pub(super) struct Observed {
    /// Whether the upstream requires HTTP/1.1 for at least some requests, although it supports
    /// HTTP/2. bearerd can't know in advance which ones.
    requires_http1: AtomicBool,
    /// Whether the upstream supports only HTTP/2.
    is_http2_only: AtomicBool,
    /// Connection-pool group. Changing it abandons pooled connections that failed a check.
    group: AtomicU64,
    /// Whether the private trust anchors are tried first. The set that worked last is tried first.
    is_private: AtomicBool,
    /// Addresses that recently could not be connected to.
    avoided: ArcSwap<Vec<SocketAddr>>,
}

impl Observed {
    pub(super) fn new(is_private: bool) -> Self {
        Self {
            requires_http1: AtomicBool::new(false),
            is_http2_only: AtomicBool::new(false),
            group: AtomicU64::new(new_group()),
            is_private: AtomicBool::new(is_private),
            avoided: ArcSwap::default(),
        }
    }

    pub(super) fn requires_http1(&self) -> bool {
        self.requires_http1.load(Ordering::Relaxed)
    }

    pub(super) fn set_requires_http1(&self) {
        self.requires_http1.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_http2_only(&self) -> bool {
        self.is_http2_only.load(Ordering::Relaxed)
    }

    /// Records that the upstream supports only HTTP/2. Returns whether that was unknown.
    pub(super) fn set_http2_only(&self) -> bool {
        !self.is_http2_only.swap(true, Ordering::Relaxed)
    }

    pub(super) fn group(&self) -> u64 {
        self.group.load(Ordering::Relaxed)
    }

    pub(super) fn abandon_pooled_connections(&self) {
        self.group.store(new_group(), Ordering::Relaxed);
    }

    pub(super) fn is_private(&self) -> bool {
        self.is_private.load(Ordering::Relaxed)
    }

    pub(super) fn set_private(&self, is_private: bool) {
        self.is_private.store(is_private, Ordering::Relaxed);
    }

    pub(super) fn avoided(&self) -> arc_swap::Guard<std::sync::Arc<Vec<SocketAddr>>> {
        self.avoided.load()
    }

    /// Records that an address failed, so that other requests start with another one.
    pub(super) fn avoid(&self, failed: &SocketAddr, known: &Known) {
        self.avoided.rcu(|avoided| {
            let is_avoided = |address: &SocketAddr| address == failed || avoided.contains(address);
            let all: Vec<_> = known.addresses.iter().copied().filter(is_avoided).collect();
            // If all have failed, those that failed earlier may work again.
            if all.len() < known.addresses.len() { all } else { vec![*failed] }
        });
    }
}

/// Returns a new connection-pool group. Each upstream has its own, even if upstreams share an
/// address: their trust anchors may differ.
pub(super) fn new_group() -> u64 {
    static GROUPS: AtomicU64 = AtomicU64::new(1);
    GROUPS.fetch_add(1, Ordering::Relaxed)
}
