//! Recovery from failed accepts.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::sleep;
use tracing::warn;

/// Pause after an accept that failed for lack of files or memory.
const PAUSE: Duration = Duration::from_secs(1);
/// Interval at which a listener is polled for connections while there is no free file.
const POLL: Duration = Duration::from_millis(50);

/// Waits after a failed accept until the next one may succeed. `evict` closes an idle connection,
/// which frees its file, and returns whether there was one.
pub(crate) async fn recover(listener: impl AsFd, error: &io::Error, evict: impl FnOnce() -> bool) {
    match Failure::of(error) {
        Failure::Connection => yield_now().await,
        // Without a free file, accept fails even if nobody connects.
        Failure::Resources if !has_waiting(listener) => sleep(POLL).await,
        // The file is free as soon as the connection's task has ended.
        Failure::Resources if evict() => yield_now().await,
        Failure::Resources => {
            warn!(
                "Cannot accept a connection: {error}; if the limit of open files is reached, raise it (systemd: LimitNOFILE, shell: ulimit -n)."
            );
            sleep(PAUSE).await;
        }
    }
}

/// Whether a connection waits to be accepted.
fn has_waiting(listener: impl AsFd) -> bool {
    let mut listeners = [PollFd::new(&listener, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // If polling fails, the caller goes on as if a connection waited.
    poll(&mut listeners, Some(&now)).map_or(true, |ready| ready > 0)
}

/// Cause of a failed accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// The connection ended before it was accepted; the next accept may succeed (accept(2), "Error
    /// handling").
    Connection,
    /// There are no files or no memory, or the listener is broken; the next accept fails, too.
    Resources,
}

impl Failure {
    fn of(error: &io::Error) -> Self {
        const OF_THE_CONNECTION: [Errno; 12] = [
            Errno::CONNABORTED,
            Errno::CONNRESET,
            Errno::INTR,
            Errno::PERM,
            Errno::PROTO,
            Errno::NETDOWN,
            Errno::NOPROTOOPT,
            Errno::HOSTDOWN,
            Errno::NONET,
            Errno::HOSTUNREACH,
            Errno::OPNOTSUPP,
            Errno::NETUNREACH,
        ];
        match Errno::from_io_error(error) {
            Some(errno) if OF_THE_CONNECTION.contains(&errno) => Self::Connection,
            _ => Self::Resources,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_waits_until_it_is_accepted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!has_waiting(&listener));
        let _caller = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(has_waiting(&listener));
        listener.accept().unwrap();
        assert!(!has_waiting(&listener));
    }

    #[test]
    fn only_a_want_of_files_or_memory_is_worth_a_pause() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::BADF] {
            assert_eq!(Failure::of(&errno.into()), Failure::Resources, "{errno}");
        }
        for errno in [Errno::CONNABORTED, Errno::CONNRESET, Errno::INTR, Errno::NETDOWN] {
            assert_eq!(Failure::of(&errno.into()), Failure::Connection, "{errno}");
        }
        assert_eq!(Failure::of(&io::Error::other("?")), Failure::Resources);
    }
}
