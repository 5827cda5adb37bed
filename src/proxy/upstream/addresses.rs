//! The addresses of a name: looked up ahead of need, kept for a while, and kept on when the resolver fails.
//!
//! A name that moves is followed within [`STALE`]; at once, when nobody is at its old addresses any more.

use crate::clock::Instant;
use crate::resolver::look_up;
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

/// How long an answer of the resolver is used before it is asked again; the system's resolver does not tell how long
/// it holds.
const KEPT: Duration = Duration::from_secs(15);
/// Up to this age it is used while the resolver is asked; a request after a longer pause waits for the newer one.
const STALE: Duration = Duration::from_secs(30);
/// When addresses lead nowhere, the resolver is asked anew; as long as that goes on, no more often than this.
const DOUBT: Duration = Duration::from_secs(1);
/// How long the resolver may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A name, and what is known of it.
pub(super) struct Addresses {
    pub(super) host: String,
    pub(super) port: u16,
    known: ArcSwapOption<Known>,
    asking: Mutex<()>,
    refreshing: AtomicBool,
    failure_log: Throttle,
}

/// What the resolver said.
#[derive(Debug)]
pub(super) struct Known {
    at: Instant,
    /// At least one.
    pub(super) addresses: Box<[SocketAddr]>,
    /// Until then, it is no use to ask again.
    settled_until: Instant,
}

impl Known {
    /// Whether it is worth while to ask the resolver anew, if these lead nowhere.
    pub(super) fn is_doubtful(&self) -> bool {
        Instant::now() >= self.settled_until
    }

    fn is_younger(&self, age: Duration) -> bool {
        self.at.elapsed() <= age
    }
}

/// Looking a name up again is under way, until this is dropped.
struct Refreshing<'a>(&'a AtomicBool);

impl Drop for Refreshing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Why there is no address.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    /// The resolver says so.
    #[error("cannot resolve {host}: {source}")]
    Lookup {
        /// The configured name.
        host: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// The resolver does not answer.
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

impl Addresses {
    /// Nothing is looked up yet.
    pub(super) fn new(host: String, port: u16) -> Arc<Self> {
        Arc::new(Self {
            host,
            port,
            known: ArcSwapOption::empty(),
            asking: Mutex::new(()),
            refreshing: AtomicBool::new(false),
            failure_log: Throttle::new(),
        })
    }

    /// Known ones at once, even while newer ones are being looked up, unless they are too old.
    pub(super) async fn get(self: &Arc<Self>) -> Result<Arc<Known>, ResolveError> {
        match self.known.load_full().filter(|known| known.is_younger(STALE)) {
            Some(known) => {
                if !known.is_younger(KEPT) && !self.refreshing.swap(true, Ordering::AcqRel) {
                    tokio::spawn(self.clone().refresh());
                }
                Ok(known)
            }
            // Boxed, since nearly every request finds them.
            None => Box::pin(self.newer(|known| known.is_younger(STALE), Duration::ZERO)).await,
        }
    }

    /// Those of a newer answer than this one, which led nowhere.
    pub(super) async fn after(&self, that: &Known) -> Result<Arc<Known>, ResolveError> {
        self.newer(|known| known.at > that.at, DOUBT).await
    }

    /// Those that are new enough. Of many requests one asks the resolver, and those behind it share the answer. Where
    /// there is none, the known ones are used on.
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

    /// Looks the name up anew; the known addresses stay when that fails.
    async fn refresh(self: Arc<Self>) {
        // However it ends: otherwise the name would never be looked up again.
        let _ended = Refreshing(&self.refreshing);
        let looked_up = self.in_time(self.look_up(Duration::ZERO)).await;
        if let (Err(error), Some(known)) = (looked_up, self.known.load_full()) {
            self.keep(&known, &error);
        }
    }

    /// The resolver's answer, which then counts as settled for so long.
    async fn look_up(&self, settled: Duration) -> Result<Arc<Known>, ResolveError> {
        let host = || self.host.clone();
        let found = look_up(&self.host, self.port).await;
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

    /// Uses known addresses on, as if they had been looked up now. Requests do not wait for a resolver over and over
    /// that does not answer.
    fn keep(&self, known: &Known, error: &ResolveError) -> Arc<Known> {
        if self.failure_log.try_pass() {
            warn!(host = self.host, "Using the known addresses on: {error}.");
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

    /// Takes these for what the resolver said so long ago.
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

    /// A name that had an old address so long ago.
    fn known(host: &str, age: Duration) -> Arc<Addresses> {
        let addresses = Addresses::new(host.to_owned(), 9);
        addresses.pretend(age, [(OLD_ADDRESS, 9).into()]);
        addresses
    }

    async fn address(addresses: &Arc<Addresses>) -> SocketAddr {
        addresses.get().await.unwrap().addresses[0]
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_an_error_and_no_panic() {
        let error = Addresses::new("no-such-host.invalid".into(), 9).get().await.unwrap_err();
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
        timeout(RESOLVE_TIMEOUT, renewed).await.expect("the name is looked up anew");
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
    async fn what_led_nowhere_is_asked_for_anew_once_for_all() {
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
