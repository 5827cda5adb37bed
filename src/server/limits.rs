//! Limits on the number of connections, from the number of files that the process may open.
//!
//! A caller takes up to three files: its own connection, one to the upstream, and one that is kept
//! there for the next request. Connections that send nothing must leave room for these, and for the
//! files that token requests and the configuration need.

use crate::proxy::upstream::MOST_HANDLES;
use rustix::process::{Resource, getrlimit};
use tracing::warn;

/// Files for everything but callers and probes: logs, runtimes, listeners, watches, token requests,
/// name lookups, and duplicated descriptors of connections with uploads.
const RESERVE: u64 = 96 + MOST_HANDLES as u64;
/// The largest number of connections on the admin listener, for probes, scrapers and people.
const MOST_ADMIN: u64 = 64;
/// The largest number of files that one caller takes.
const FILES_A_CALLER: u64 = 3;
/// The largest number of idle upstream connections of a worker, which is the default of
/// `limits.requests`. With fewer, concurrent requests would have to reconnect, which triples the
/// cost of a request.
const MOST_POOLED: u64 = 1024;
/// How many connections are allowed for each concurrent request. Callers keep idle connections,
/// and silent ones are evicted to make room. A partial header holds 30 KiB, so memory must limit
/// the connections too.
const CONNECTIONS_A_REQUEST: u64 = 8;
/// The fewest connections that are allowed, for any limit of requests.
const FEWEST_CONNECTIONS: u64 = 256;
/// The fewest callers that are allowed, for any limit of files.
const FEWEST_CALLERS: u64 = 8;
/// Number of callers below which a warning is logged at the start.
const FEW_CALLERS: u64 = 256;

/// The largest number of connections of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionLimits {
    /// Connections on the admin listener.
    pub(crate) admin: usize,
    /// Callers' connections in each worker.
    pub(crate) callers: usize,
    /// Idle upstream connections in each worker.
    pub(crate) pooled: usize,
}

impl ConnectionLimits {
    /// Returns the limits of this process with `workers` workers, of which all together serve at
    /// most `requests` requests at once.
    pub(crate) fn of_process(workers: usize, requests: u64) -> Self {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let callers = callers(files);
        if callers < FEW_CALLERS {
            warn!(
                files,
                callers,
                "The limit of open files allows only a few callers at once; raise it (systemd: LimitNOFILE, shell: ulimit -n)."
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_connections_together_leave_the_reserve() {
        for files in [256, 1024, 4096, 65_536, 524_288, 1_048_576] {
            for workers in [1, 2, 8] {
                let limits = ConnectionLimits::within(files, workers, u64::MAX);
                let of_callers = workers * (2 * limits.callers + limits.pooled);
                let left = files.checked_sub((limits.admin + of_callers) as u64);
                let few = limits.callers as u64 == FEWEST_CALLERS;
                assert!(few || left.is_some_and(|left| left >= RESERVE), "{files} {limits:?}");
                assert!(limits.pooled <= 1024 && limits.admin <= 64, "{files} {limits:?}");
            }
        }
        assert_eq!(
            ConnectionLimits::within(1024, 1, 1024),
            ConnectionLimits { admin: 64, callers: 277, pooled: 277 }
        );
        assert_eq!(
            ConnectionLimits::within(65_536, 1, 48).callers,
            384,
            "as many as the limit of requests allows"
        );
        assert_eq!(ConnectionLimits::within(65_536, 2, 1).callers, 128);
        assert!(
            ConnectionLimits::within(u64::MAX, 1, u64::MAX).callers > 1 << 40,
            "no limit at all"
        );
    }

    #[test]
    fn with_hardly_any_files_there_is_some_room_for_each() {
        for files in [0, 1, 64, 128] {
            let limits = ConnectionLimits::within(files, 4, 1024);
            assert!(
                limits.admin >= 4 && limits.callers >= 8 && limits.pooled >= 8,
                "{files} {limits:?}"
            );
        }
    }
}
