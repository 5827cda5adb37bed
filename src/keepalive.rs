//! How soon a connection is given up whose packets vanish: a NAT, a firewall or a VPN has forgotten
//! it, or this machine is on another network. No error is reported then, and each request on it
//! would wait for its own timeout.
//!
//! The system sends probes on an idle connection, and waits for acknowledgements on a busy one. A
//! live peer acknowledges both, however long it takes to respond.

use pingora::protocols::TcpKeepalive;
use std::time::Duration;

/// The idle time after which the first probe is sent.
pub(crate) const PROBE_AFTER: Duration = Duration::from_secs(5);
/// The time between probes.
pub(crate) const PROBE_EVERY: Duration = Duration::from_secs(3);
/// The number of probes.
pub(crate) const PROBES: u32 = 3;
/// The time after which a dead connection is given up: less than 15 s. With a `TCP_USER_TIMEOUT`,
/// Linux checks that instead of the number of probes (tcp(7)). Linux checks it only when it sends a
/// probe, so a limit one second longer would detect a dead connection three seconds later.
pub(crate) const LONGEST: Duration = PROBE_AFTER.saturating_add(PROBE_EVERY.saturating_mul(PROBES));

/// The keepalive of connections whose requests fit into the receiver's buffers.
pub(crate) const fn for_requests() -> TcpKeepalive {
    options(LONGEST)
}

/// The keepalive of connections with larger bodies. A peer may keep its window closed for a while,
/// which to the system looks like missing acknowledgements: it has as long as a write.
pub(crate) fn for_uploads(write: Duration) -> TcpKeepalive {
    options(write.max(LONGEST))
}

const fn options(user_timeout: Duration) -> TcpKeepalive {
    TcpKeepalive { idle: PROBE_AFTER, interval: PROBE_EVERY, count: PROBES as usize, user_timeout }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_path_is_found_within_15_s() {
        assert!(LONGEST < Duration::from_secs(15));
        assert_eq!(for_requests().user_timeout, LONGEST);
    }

    #[test]
    fn an_upload_may_stand_still_for_as_long_as_a_write() {
        let minute = Duration::from_secs(60);
        assert_eq!(for_uploads(minute).user_timeout, minute);
        assert_eq!(for_uploads(Duration::ZERO).user_timeout, LONGEST);
    }
}
