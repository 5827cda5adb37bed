//! How many connections fit into the files that the process may open, and what to do when one can't be
//! accepted.
//!
//! A caller takes up to three files: its own connection, one to the upstream, and one that was kept there
//! for the next request. What strangers hold on either listener must leave these, and those by which tokens
//! are fetched and files are read.

use crate::proxy::upstream::MOST_HANDLES;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::sleep;
use tracing::warn;

/// How long to wait after an accept that failed for want of files or memory.
const PAUSE: Duration = Duration::from_secs(1);
/// How often to look whether somebody connects while there is no file.
const LOOK: Duration = Duration::from_millis(50);
/// Files for everything but callers and probes: logs, runtimes, listeners, watches, token requests, names, and second
/// handles on connections over which uploads go.
const RESERVE: u64 = 96 + MOST_HANDLES as u64;
/// Connections of the admin listener at once: some probes, scrapers and people.
const MOST_ADMIN: u64 = 64;
/// The files that a caller takes at most.
const FILES_A_CALLER: u64 = 3;
/// Idle upstream connections that a worker keeps: as many as a listener serves requests at once, by default.
/// With fewer, more requests at once would reconnect each time, at three times the cost of a request.
const MOST_POOLED: u64 = 1024;
/// Connections for each request that may be under way: pools keep some idle, and strangers make room for callers. A
/// header that has begun holds 30 KiB, so that memory must bound them as files do.
const CONNECTIONS_A_REQUEST: u64 = 8;
/// So many are allowed however few requests are.
const FEWEST_CONNECTIONS: u64 = 256;
/// Callers that find room in any case.
const FEWEST_CALLERS: u64 = 8;
/// With less room for callers than this, the log says so at the start.
const FEW_CALLERS: u64 = 256;

/// The most connections of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// On the admin listener.
    pub(crate) admin: usize,
    /// Of callers, in each worker.
    pub(crate) callers: usize,
    /// Idle ones to upstreams, in each worker.
    pub(crate) pooled: usize,
}

impl Room {
    /// What the process has, shared by so many workers, where so many requests may be under way at once.
    pub(crate) fn of_process(workers: usize, requests: u64) -> Self {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let callers = callers(files);
        if callers < FEW_CALLERS {
            warn!(
                files,
                callers,
                "The limit of open files leaves room for few callers at once; raise it (LimitNOFILE, ulimit -n)."
            );
        }
        Self::within(files, workers, requests)
    }

    fn within(files: u64, workers: usize, requests: u64) -> Self {
        let workers = u64::try_from(workers).unwrap_or(1).max(1);
        let wanted = requests.saturating_mul(CONNECTIONS_A_REQUEST).max(FEWEST_CONNECTIONS);
        let callers = (callers(files).min(wanted) / workers).max(FEWEST_CALLERS);
        let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        Self {
            admin: size(admin(files)),
            callers: size(callers),
            pooled: size(callers.min(MOST_POOLED)),
        }
    }
}

fn admin(files: u64) -> u64 {
    (files / 8).clamp(4, MOST_ADMIN)
}

fn callers(files: u64) -> u64 {
    (files.saturating_sub(RESERVE + admin(files)) / FILES_A_CALLER).max(FEWEST_CALLERS)
}

/// What to do after an accept that failed, until the next one is worth while. `evict` ends a connection that
/// can be missed, if there is one, and so frees its file.
pub(crate) async fn recover(listener: impl AsFd, error: &io::Error, evict: impl FnOnce() -> bool) {
    match Failure::of(error) {
        Failure::Connection => yield_now().await,
        // Without a file the system says so before it looks whether anybody connects.
        Failure::Resources if !is_awaited(listener) => sleep(LOOK).await,
        // The file is free as soon as the connection's task is gone.
        Failure::Resources if evict() => yield_now().await,
        Failure::Resources => {
            warn!("Cannot accept a connection: {error}; is the limit of open files too low?");
            sleep(PAUSE).await;
        }
    }
}

/// Whether somebody waits to be accepted.
fn is_awaited(listener: impl AsFd) -> bool {
    let mut listeners = [PollFd::new(&listener, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // What can't be asked counts as a yes: then it is as if there were no such look.
    poll(&mut listeners, Some(&now)).map_or(true, |ready| ready > 0)
}

/// Why a connection was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// It ended before it was accepted; the next one may be sound (accept(2), "Error handling").
    Connection,
    /// There are no files or no memory, or the listener is broken. The next one fails, too.
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
    fn all_connections_together_leave_the_reserve() {
        for files in [256, 1024, 4096, 65_536, 524_288, 1_048_576] {
            for workers in [1, 2, 8] {
                let room = Room::within(files, workers, u64::MAX);
                let of_callers = workers * (2 * room.callers + room.pooled);
                let left = files.checked_sub((room.admin + of_callers) as u64);
                let few = room.callers as u64 == FEWEST_CALLERS;
                assert!(few || left.is_some_and(|left| left >= RESERVE), "{files} {room:?}");
                assert!(room.pooled <= 1024 && room.admin <= 64, "{files} {room:?}");
            }
        }
        assert_eq!(Room::within(1024, 1, 1024), Room { admin: 64, callers: 277, pooled: 277 });
        assert_eq!(Room::within(65_536, 1, 48).callers, 384, "as many as the requests are worth");
        assert_eq!(Room::within(65_536, 2, 1).callers, 128);
        assert!(Room::within(u64::MAX, 1, u64::MAX).callers > 1 << 40, "no limit at all");
    }

    #[test]
    fn with_hardly_any_files_there_is_some_room_for_each() {
        for files in [0, 1, 64, 128] {
            let room = Room::within(files, 4, 1024);
            assert!(room.admin >= 4 && room.callers >= 8 && room.pooled >= 8, "{files} {room:?}");
        }
    }

    #[test]
    fn a_listener_is_awaited_as_long_as_somebody_is_not_accepted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!is_awaited(&listener));
        let _caller = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(is_awaited(&listener));
        listener.accept().unwrap();
        assert!(!is_awaited(&listener));
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
