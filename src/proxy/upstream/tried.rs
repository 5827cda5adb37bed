//! What one request has tried in order to reach its upstream.

use super::resolved_addresses::Known;
use pingora::Error;
use std::net::SocketAddr;
use std::sync::Arc;

/// The addresses and trust anchors that one request has tried.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Tried {
    /// The latest address, and the resolver's answer that it came from.
    pub(super) latest: Option<(SocketAddr, Arc<Known>)>,
    /// Addresses that could not be connected to.
    pub(super) failed: Vec<SocketAddr>,
    /// Whether the resolver may know other addresses by now.
    pub(super) needs_lookup: bool,
    /// Why the latest connection failed. The request ends with this if there is no other address.
    pub(super) failure: Option<Box<Error>>,
    /// Whether the private trust anchors are used.
    pub(super) is_private: Option<bool>,
    /// Whether the next attempt needs a new connection: the pooled ones may be dead.
    pub(super) needs_new_connection: bool,
    /// Whether the latest attempt used a pooled connection.
    pub(in crate::proxy) is_pooled: bool,
}

impl Tried {
    /// All addresses that were tried, in their order.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let latest = self.latest.iter().map(|(address, _)| *address);
        let mut addresses = self.failed.clone();
        addresses.extend(latest.filter(|latest| !self.failed.contains(latest)));
        addresses
    }

    /// The next untried address; recently failed ones last.
    pub(super) fn next_address(&self, known: &Known, avoided: &[SocketAddr]) -> Option<SocketAddr> {
        let untried = known.addresses.iter().filter(|address| !self.failed.contains(address));
        untried
            .clone()
            .find(|address| !avoided.contains(address))
            .or_else(|| untried.clone().next())
            .copied()
    }
}
