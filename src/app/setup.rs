//! What one configuration became. A reload makes another, which takes over what has not changed.

use super::client::{PreparedClient, RunningClient};
use super::local::{self, RunningLocal};
use super::{AppError, Control};
use crate::config::{self, Client, Config, ListenAddress};
use crate::files::read_small;
use crate::metrics::Metrics;
use crate::proxy::Table;
use crate::proxy::guard::Guard;
use crate::proxy::upstream::Upstream;
use crate::secret::Secret;
use crate::token::ClientHandle;
use crate::token::store::TokenStore;
use crate::trust::{SystemAnchors, TrustError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::warn;

/// What each file holds that says how a server is reached. One that can't be read is not there.
pub(super) type Files = BTreeMap<PathBuf, Secret>;

/// What stands outside of the configuration and says how servers are reached.
#[derive(Clone, PartialEq)]
pub(super) struct Surroundings {
    pub(super) files: Files,
    pub(super) anchors: SystemAnchors,
}

impl Surroundings {
    /// Reads all of it, once more if there are anchors from `before`.
    pub(super) fn of(config: &Config, before: Option<&SystemAnchors>) -> Result<Self, TrustError> {
        let anchors = before.map_or_else(|| Ok(SystemAnchors::load()), SystemAnchors::again)?;
        Ok(Self { files: files(config), anchors })
    }

    /// Whether both say the same to whom these files matter.
    fn are_alike<'a>(&self, other: &Self, mut files: impl Iterator<Item = &'a Path>) -> bool {
        self.anchors == other.anchors
            && files.all(|path| self.files.get(path) == other.files.get(path))
    }
}

/// Reads trust anchors, certificates and credentials for proxies.
fn files(config: &Config) -> Files {
    let clients = config.clients.iter().flat_map(|client| client.transport.files());
    let upstreams = config.upstreams.iter().flat_map(config::Upstream::files);
    let read = |path: &Path| Some((path.to_owned(), Secret::new(read_small(path).ok()?)));
    clients.chain(upstreams).filter_map(read).collect()
}

/// A configuration with all that was read for it. Nothing runs, and nothing was sent.
pub(super) struct Prepared {
    config: Config,
    pub(super) surroundings: Surroundings,
    guard: Arc<Guard>,
    /// The watch over the local credential, if it goes on as it is.
    local: Option<Arc<RunningLocal>>,
    clients: Vec<MaybeRunning>,
    upstreams: Vec<Arc<Upstream>>,
}

enum MaybeRunning {
    Running(Arc<RunningClient>),
    Prepared(Box<PreparedClient>),
}

/// A configuration in force.
pub(super) struct Setup {
    pub(super) config: Config,
    pub(super) surroundings: Surroundings,
    pub(super) guard: Arc<Guard>,
    pub(super) local: Option<Arc<RunningLocal>>,
    pub(super) clients: Vec<Arc<RunningClient>>,
    upstreams: Vec<Arc<Upstream>>,
}

impl Prepared {
    /// Reads what the configuration points at. Clients and upstreams that are the same `before` go
    /// on as they are.
    pub(super) fn new(config: Config, before: Option<&Setup>) -> Result<Self, AppError> {
        let guard = local::guard(&config.access, before)?;
        let local = local::same(&config.access, before).and_then(|before| before.local.clone());
        let anchors = before.map(|before| &before.surroundings.anchors);
        let surroundings = Surroundings::of(&config, anchors)?;
        if surroundings.anchors.is_empty() {
            warn!(
                "The system has no trust anchors, so that only those of `ca_file` count; does SSL_CERT_FILE name a file of certificates?"
            );
        }
        let running = |wanted: &Client| {
            let before = before?;
            let known = before.clients.iter().find(|client| client.config == *wanted)?;
            let goes_on = surroundings.are_alike(&before.surroundings, wanted.transport.files());
            goes_on.then(|| known.clone())
        };
        let clients = config.clients.iter().map(|client| match running(client) {
            Some(running) => Ok(MaybeRunning::Running(running)),
            None => Ok(MaybeRunning::Prepared(Box::new(PreparedClient::new(client)?))),
        });
        let clients = clients.collect::<Result<_, AppError>>()?;
        let upstreams = config.upstreams.iter().map(|wanted| {
            let namesake = before.and_then(|before| {
                let mut both = before.config.upstreams.iter().zip(&before.upstreams);
                let is_it = |known: &config::Upstream| {
                    known.name == wanted.name && known.origin == wanted.origin
                };
                let (known, upstream) = both.find(|(known, _)| is_it(known))?;
                let goes_on =
                    known == wanted && surroundings.are_alike(&before.surroundings, wanted.files());
                Some((upstream, goes_on))
            });
            match namesake {
                Some((known, true)) => Ok(known.clone()),
                _ => Upstream::new(wanted)
                    .map(|new| Arc::new(new.succeeding(namesake.map(|(known, _)| &**known))))
                    .map_err(|source| AppError::Upstream { upstream: wanted.name.clone(), source }),
            }
        });
        let upstreams = upstreams.collect::<Result<_, AppError>>()?;
        Ok(Self { config, surroundings, guard, local, clients, upstreams })
    }

    /// Starts the clients that do not run yet, and tells which ones these are.
    pub(super) fn start(
        self,
        metrics: &Metrics,
        control: &Control,
    ) -> (Setup, Vec<Arc<RunningClient>>) {
        metrics.create_series(&self.config);
        let mut newcomers = Vec::new();
        let start = |client| match client {
            MaybeRunning::Running(running) => running,
            MaybeRunning::Prepared(prepared) => {
                let started = Arc::new(prepared.start(metrics, control));
                newcomers.push(started.clone());
                started
            }
        };
        let clients = self.clients.into_iter().map(start).collect();
        let Self { config, surroundings, guard, local, upstreams, .. } = self;
        let local = local.or_else(|| RunningLocal::start(&config.access, &guard, metrics, control));
        (Setup { config, surroundings, guard, local, clients, upstreams }, newcomers)
    }
}

impl Setup {
    /// What the proxy sees of the clients.
    pub(super) fn handles(&self) -> Vec<ClientHandle> {
        self.clients.iter().map(|client| client.handle.clone()).collect()
    }

    /// An upstream that had tokens of the clients `before` may send them back to callers of other clients' routes,
    /// and to those of requests under way what it gets now.
    pub(super) fn remember(&self, before: &Self) {
        for (upstream, store) in self.stores() {
            for (known, other) in before.stores() {
                let is_it = upstream.name == known.name || upstream.origin == known.origin;
                if is_it && !Arc::ptr_eq(store, other) {
                    store.remember(other);
                    other.remember(store);
                }
            }
        }
    }

    /// Of each route, the upstream and where its tokens are.
    fn stores(&self) -> impl Iterator<Item = (&config::Upstream, &Arc<TokenStore>)> {
        self.config.routes.iter().filter_map(|route| {
            let client = self.clients.get(route.client.0)?;
            Some((self.config.upstreams.get(route.upstream.0)?, &client.handle.store))
        })
    }

    /// What the proxy makes of requests.
    pub(super) fn table(&self, addresses: &[ListenAddress], metrics: &Metrics) -> Table {
        Table::new(&self.config, &self.guard, addresses, &self.handles(), &self.upstreams, metrics)
    }
}
