//! How soon a connection is given up whose packets vanish: a NAT, a firewall or a VPN has forgotten it, or this machine
//! is on another network. Nobody says so, and without this each request over it would wait for its own time-out.
//!
//! The system asks for a sign of life where nothing is under way, and waits for acknowledgements where something is.
//! A peer that lives acknowledges both, however long it thinks.

use pingora::protocols::TcpKeepalive;
use std::time::Duration;

/// When nothing has come for this long, the other end is asked whether it is still there.
pub(crate) const PROBE_AFTER: Duration = Duration::from_secs(5);
/// It is asked again this often.
pub(crate) const PROBE_EVERY: Duration = Duration::from_secs(3);
/// And so many times.
pub(crate) const PROBES: u32 = 3;
/// The end of the last probe's time: less than 15 s. Where there is a `TCP_USER_TIMEOUT`, Linux looks at it instead of
/// the number of probes, at the time of each (tcp(7)): one second more would be three.
pub(crate) const LONGEST: Duration = PROBE_AFTER.saturating_add(PROBE_EVERY.saturating_mul(PROBES));

/// For connections over which requests go that fit into the receiver's buffers.
pub(crate) const fn keepalive() -> TcpKeepalive {
    keepalive_of(LONGEST)
}

/// For those with bodies that do not. A peer may keep its window shut for a while, which to the system looks like one
/// that acknowledges nothing: it has as long as a write.
pub(crate) fn keepalive_of_uploads(write: Duration) -> TcpKeepalive {
    keepalive_of(write.max(LONGEST))
}

const fn keepalive_of(user_timeout: Duration) -> TcpKeepalive {
    TcpKeepalive { idle: PROBE_AFTER, interval: PROBE_EVERY, count: PROBES as usize, user_timeout }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_path_is_found_within_15_s() {
        assert!(LONGEST < Duration::from_secs(15));
        assert_eq!(keepalive().user_timeout, LONGEST);
    }

    #[test]
    fn an_upload_may_stand_still_for_as_long_as_a_write() {
        let minute = Duration::from_secs(60);
        assert_eq!(keepalive_of_uploads(minute).user_timeout, minute);
        assert_eq!(keepalive_of_uploads(Duration::ZERO).user_timeout, LONGEST);
    }
}
