//! The addresses of a name: refreshed in the background, and kept if the resolver fails.
//!
//! New addresses of a name are used within [`STALE`], or at once if the old ones no longer answer.

use crate::clock::Instant;
use crate::no_answer::NoAnswer;
use crate::resolver::look_up_all;
use crate::throttle::Throttle;
use arc_swap::ArcSwapOption;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::warn;

/// How long addresses are used before they are looked up again. The system's resolver does not
/// report their TTL.
const KEPT: Duration = Duration::from_secs(15);
/// The age up to which addresses are used while newer ones are looked up. A request after a longer
/// pause waits for the lookup.
const STALE: Duration = Duration::from_secs(30);
/// The least time between lookups that are made because no address accepts a connection.
const DOUBT: Duration = Duration::from_secs(1);
/// The timeout of a lookup.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A name and its addresses.
pub(super) struct Addresses {
    pub(super) host: String,
    /// What is looked up: the name, or others instead of it.
    hosts: Vec<String>,
    pub(super) port: u16,
    known: ArcSwapOption<Known>,
    asking: Mutex<()>,
    refreshing: AtomicBool,
    failure_log: Throttle,
}

/// The addresses that a lookup returned.
#[derive(Debug)]
pub(super) struct Known {
    at: Instant,
    /// The addresses, at least one.
    pub(super) addresses: Box<[SocketAddr]>,
    /// When another lookup may return something new.
    settled_until: Instant,
}

impl Known {
    /// Whether another lookup may help if none of these addresses works.
    pub(super) fn is_doubtful(&self) -> bool {
        Instant::now() >= self.settled_until
    }

    fn is_younger(&self, age: Duration) -> bool {
        self.at.elapsed() <= age
    }
}

/// Marks a background lookup as running until it is dropped.
struct Refreshing<'a>(&'a AtomicBool);

impl Drop for Refreshing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum ResolveError {
    /// The resolver returned an error.
    #[error("cannot resolve {host}: {source}")]
    Lookup {
        /// The configured name.
        host: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// The resolver did not answer in time.
    #[error("cannot resolve {host}: no answer in time")]
    Timeout {
        /// The configured name.
        host: String,
    },
    /// The name exists, but has no address.
    #[error("{host} has no address")]
    NoAddress {
        /// The configured name.
        host: String,
    },
}

impl ResolveError {
    /// Why the upstream cannot be reached.
    pub(in crate::proxy) fn failure(&self) -> NoAnswer {
        match self {
            Self::Lookup { source, .. } => NoAnswer::of(source),
            Self::Timeout { .. } => NoAnswer::DnsSilent,
            Self::NoAddress { .. } => NoAnswer::UnknownName,
        }
    }
}

impl Addresses {
    /// Creates the addresses of a name, or of other hosts instead of it, without a lookup.
    pub(super) fn new(host: String, instead: &[String], port: u16) -> Arc<Self> {
        let hosts = if instead.is_empty() { vec![host] } else { instead.to_vec() };
        Arc::new(Self {
            host: hosts.join(", "),
            hosts,
            port,
            known: ArcSwapOption::empty(),
            asking: Mutex::new(()),
            refreshing: AtomicBool::new(false),
            failure_log: Throttle::new(),
        })
    }

    /// Returns the known addresses, unless they are too old. May start a lookup in the background.
    pub(super) async fn get(self: &Arc<Self>) -> Result<Arc<Known>, ResolveError> {
        match self.known.load_full().filter(|known| known.is_younger(STALE)) {
            Some(known) => {
                if !known.is_younger(KEPT) && !self.refreshing.swap(true, Ordering::AcqRel) {
                    tokio::spawn(self.clone().refresh());
                }
                Ok(known)
            }
            // Boxed, since nearly every request finds known addresses.
            None => Box::pin(self.newer(|known| known.is_younger(STALE), Duration::ZERO)).await,
        }
    }

    /// Returns the addresses of a newer lookup than this one, whose addresses all failed.
    pub(super) async fn after(&self, that: &Known) -> Result<Arc<Known>, ResolveError> {
        self.newer(|known| known.at > that.at, DOUBT).await
    }

    /// Returns addresses that are new enough. Concurrent requests share one lookup. If it fails,
    /// the known addresses stay in use.
    async fn newer(
        &self,
        is_enough: impl Fn(&Known) -> bool,
        settled: Duration,
    ) -> Result<Arc<Known>, ResolveError> {
        let asking = async {
            let _first = self.asking.lock().await;
            match self.known.load_full().filter(|known| is_enough(known)) {
                Some(known) => Ok(known),
                None => self.look_up(settled).await,
            }
        };
        match (self.in_time(asking).await, self.known.load_full()) {
            (Err(error), Some(known)) => Ok(self.keep(&known, &error)),
            (asked, _) => asked,
        }
    }

    /// Looks the name up again. If that fails, the known addresses stay in use.
    async fn refresh(self: Arc<Self>) {
        // Dropped even on panic: otherwise the name would never be looked up again.
        let _ended = Refreshing(&self.refreshing);
        let looked_up = self.in_time(self.look_up(Duration::ZERO)).await;
        if let (Err(error), Some(known)) = (looked_up, self.known.load_full()) {
            self.keep(&known, &error);
        }
    }

    /// Looks the name up. The result is treated as settled for this long.
    async fn look_up(&self, settled: Duration) -> Result<Arc<Known>, ResolveError> {
        let host = || self.host.clone();
        let found = look_up_all(&self.hosts, self.port).await;
        let found = found.map_err(|source| ResolveError::Lookup { host: host(), source })?;
        let addresses: Box<[_]> = found.into();
        if addresses.is_empty() {
            return Err(ResolveError::NoAddress { host: host() });
        }
        Ok(self.set(addresses, settled))
    }

    async fn in_time<T>(
        &self,
        asking: impl Future<Output = Result<T, ResolveError>>,
    ) -> Result<T, ResolveError> {
        let timed_out = |_| ResolveError::Timeout { host: self.host.clone() };
        timeout(RESOLVE_TIMEOUT, asking).await.map_err(timed_out)?
    }

    /// Keeps the known addresses as if they had just been looked up, so that requests do not wait
    /// for a resolver that does not answer.
    fn keep(&self, known: &Known, error: &ResolveError) -> Arc<Known> {
        if self.failure_log.try_pass() {
            warn!(host = self.host, "Still using the known addresses; the lookup failed: {error}.");
        }
        let settled = match error {
            ResolveError::Timeout { .. } => KEPT,
            ResolveError::Lookup { .. } | ResolveError::NoAddress { .. } => DOUBT,
        };
        self.set(known.addresses.clone(), settled)
    }

    fn set(&self, addresses: Box<[SocketAddr]>, settled: Duration) -> Arc<Known> {
        let at = Instant::now();
        let known = Arc::new(Known { at, addresses, settled_until: at + settled });
        self.known.store(Some(known.clone()));
        known
    }

    /// Pretends that a lookup returned these addresses this long ago.
    #[cfg(test)]
    pub(super) fn pretend(&self, age: Duration, addresses: impl Into<Box<[SocketAddr]>>) {
        let (at, addresses) = (Instant::now() - age, addresses.into());
        self.known.store(Some(Arc::new(Known { at, addresses, settled_until: at })));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD_ADDRESS: [u8; 4] = [127, 0, 0, 7];
    const NEW_ADDRESS: [u8; 4] = [127, 0, 0, 1];

    /// A name whose old address was looked up this long ago.
    fn known(host: &str, age: Duration) -> Arc<Addresses> {
        let addresses = Addresses::new(host.to_owned(), &[], 9);
        addresses.pretend(age, [(OLD_ADDRESS, 9).into()]);
        addresses
    }

    async fn address(addresses: &Arc<Addresses>) -> SocketAddr {
        addresses.get().await.unwrap().addresses[0]
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_an_error() {
        let error = Addresses::new("no-such-host.invalid".into(), &[], 9).get().await.unwrap_err();
        assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
    }

    #[tokio::test]
    async fn old_addresses_are_used_while_newer_ones_are_looked_up() {
        let addresses = known("127.0.0.1", (KEPT + STALE) / 2);
        assert_eq!(
            address(&addresses).await,
            (OLD_ADDRESS, 9).into(),
            "nobody waits for the resolver"
        );
        let renewed = async {
            while address(&addresses).await != (NEW_ADDRESS, 9).into() {
                tokio::task::yield_now().await;
            }
        };
        timeout(RESOLVE_TIMEOUT, renewed).await.expect("the name is looked up again");
    }

    #[tokio::test]
    async fn after_a_long_pause_newer_addresses_are_waited_for() {
        assert_eq!(address(&known("127.0.0.1", STALE * 2)).await, (NEW_ADDRESS, 9).into());
    }

    #[tokio::test]
    async fn after_a_sleep_of_the_machine_newer_addresses_are_waited_for() {
        let addresses = known("127.0.0.1", Duration::ZERO);
        crate::clock::machine::sleep(STALE * 2);
        assert_eq!(
            address(&addresses).await,
            (NEW_ADDRESS, 9).into(),
            "it may be elsewhere by now"
        );
    }

    #[tokio::test]
    async fn addresses_that_failed_are_looked_up_again_once_for_all_requests() {
        let addresses = known("127.0.0.1", Duration::ZERO);
        let old = addresses.get().await.unwrap();
        assert!(old.is_doubtful());
        let (one, other) = tokio::join!(addresses.after(&old), addresses.after(&old));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(one.addresses[..], [(NEW_ADDRESS, 9).into()]);
        assert!(Arc::ptr_eq(&one, &other) && !one.is_doubtful());
    }

    #[tokio::test]
    async fn known_addresses_outlive_a_resolver_that_fails() {
        for age in [(KEPT + STALE) / 2, STALE * 2] {
            let addresses = known("no-such-host.invalid", age);
            assert_eq!(address(&addresses).await, (OLD_ADDRESS, 9).into());
            let kept = async {
                while !addresses.known.load_full().unwrap().is_younger(KEPT) {
                    tokio::task::yield_now().await;
                }
            };
            timeout(RESOLVE_TIMEOUT * 2, kept).await.expect("they count as new again");
        }
    }
}
