//! Whether the process lives, is ready, or is degraded; and if not, what it waits for.

use crate::drain::Drain;
use crate::proxy::ClientHandle;
use arc_swap::ArcSwap;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A refresher beats every 5 s and its request takes at most 15 s; one that is silent for this long
/// is stuck.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(60);

/// Answers the probes.
#[derive(Clone)]
pub struct Readiness(Arc<State>);

struct State {
    pending: Mutex<BTreeSet<&'static str>>,
    clients: ArcSwap<Vec<ClientHandle>>,
    drain: Drain,
    was_ready: AtomicBool,
}

/// Something that has to happen before the sidecar is ready; it has, when this is dropped.
pub struct Pending {
    readiness: Readiness,
    name: &'static str,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.readiness.pending().remove(self.name);
    }
}

/// What a probe is told.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    /// Whether the answer is yes.
    pub ok: bool,
    /// One line that says why.
    pub text: String,
}

impl Report {
    const fn new(ok: bool, text: String) -> Self {
        Self { ok, text }
    }
}

impl Readiness {
    /// Ready when each of these clients has a usable token, nothing is pending, and no drain has begun.
    pub fn new(clients: Vec<ClientHandle>, drain: Drain) -> Self {
        Self(Arc::new(State {
            pending: Mutex::default(),
            clients: ArcSwap::from_pointee(clients),
            drain,
            was_ready: AtomicBool::new(false),
        }))
    }

    /// Holds readiness back until the guard is dropped.
    #[must_use]
    pub fn pending_until_dropped(&self, name: &'static str) -> Pending {
        self.pending().insert(name);
        Pending { readiness: self.clone(), name }
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, BTreeSet<&'static str>> {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Should this instance get traffic? A failing refresh with a valid token is *degraded*: it says
    /// so, and stays ready.
    pub fn ready(&self) -> Report {
        if self.0.drain.has_begun() {
            return Report::new(false, "not ready: draining".into());
        }
        let mut pending: Vec<String> = self.pending().iter().map(ToString::to_string).collect();
        let mut degraded = Vec::new();
        for client in self.clients().iter() {
            let news = client.store.news();
            let failure = news.failure.map(|failure| failure.message);
            for why in news.unreadable.into_iter().chain(news.untaken) {
                degraded.push(format!("new credential of {}: {why}", client.name));
            }
            match (client.store.is_usable(), failure) {
                (true, None) => {}
                (true, Some(why)) => degraded.push(format!("{}: {why}", client.name)),
                (false, None) => pending.push(format!("token of {}", client.name)),
                (false, Some(why)) => pending.push(format!("token of {}: {why}", client.name)),
            }
        }
        if !pending.is_empty() {
            return Report::new(false, format!("not ready, pending: {}", pending.join("; ")));
        }
        self.0.was_ready.store(true, Ordering::Relaxed);
        if degraded.is_empty() {
            Report::new(true, "ready".into())
        } else {
            Report::new(true, format!("ready, degraded: {}", degraded.join("; ")))
        }
    }

    /// Has this instance been ready at any time?
    pub fn started(&self) -> Report {
        if self.0.was_ready.load(Ordering::Relaxed) {
            return Report::new(true, "started".into());
        }
        self.ready()
    }

    /// Does the process still work? Only a stuck refresher says no.
    pub fn live(&self) -> Report {
        let clients = self.clients();
        let stuck =
            clients.iter().filter(|client| client.store.since_heartbeat() > HEARTBEAT_LIMIT);
        let stuck: Vec<_> = stuck.map(|client| client.name.as_str()).collect();
        if stuck.is_empty() {
            Report::new(true, "live".into())
        } else {
            Report::new(false, format!("refresher stuck: {}", stuck.join(", ")))
        }
    }

    /// From now on, these clients count.
    pub(crate) fn replace_clients(&self, clients: Vec<ClientHandle>) {
        self.0.clients.store(Arc::new(clients));
    }

    /// The clients, for the metrics that change without an event.
    pub(crate) fn clients(&self) -> Arc<Vec<ClientHandle>> {
        self.0.clients.load_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::metrics::Metrics;
    use crate::token::Token;
    use crate::token::store::{Failure, TokenStore};
    use http::HeaderValue;
    use tokio::time::{Instant, advance};

    fn readiness() -> (Readiness, Arc<TokenStore>, Drain) {
        let store = Arc::new(TokenStore::new());
        let drain = Drain::default();
        let client = ClientHandle {
            name: "c".into(),
            store: store.clone(),
            wait: Duration::ZERO,
            metrics: Metrics::new().unwrap().client("c"),
        };
        (Readiness::new(vec![client], drain.clone()), store, drain)
    }

    fn token() -> Token {
        Token {
            authorization: HeaderValue::from_static("Bearer x"),
            lifetime: Duration::from_secs(100),
            clock_skew: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_names_what_is_missing_and_follows_the_token() {
        let (readiness, store, drain) = readiness();
        let listeners = readiness.pending_until_dropped("listeners");
        assert_eq!(readiness.ready().text, "not ready, pending: listeners; token of c");
        store.publish(token(), Instant::now());
        assert_eq!(readiness.ready().text, "not ready, pending: listeners");
        assert!(!readiness.started().ok);
        drop(listeners);
        assert_eq!(readiness.ready(), Report::new(true, "ready".into()));

        let message = "the issuer is away".into();
        let next_attempt = Instant::now();
        store.fail(Failure { kind: ErrorKind::TokenUnavailable, next_attempt, message });
        let degraded = Report::new(true, "ready, degraded: c: the issuer is away".into());
        assert_eq!(readiness.ready(), degraded);

        advance(Duration::from_secs(91)).await;
        let text = "not ready, pending: token of c: the issuer is away";
        assert_eq!(readiness.ready(), Report::new(false, text.into()));
        assert!(readiness.started().ok, "once started, always started");

        store.publish(token(), Instant::now());
        assert!(readiness.ready().ok);
        drain.begin();
        assert_eq!(readiness.ready(), Report::new(false, "not ready: draining".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_silent_refresher_ends_liveness() {
        let (readiness, store, _) = readiness();
        advance(Duration::from_secs(60)).await;
        assert!(readiness.live().ok);
        advance(Duration::from_secs(1)).await;
        assert_eq!(readiness.live(), Report::new(false, "refresher stuck: c".into()));
        store.beat();
        assert!(readiness.live().ok);
    }
}
