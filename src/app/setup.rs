//! A configuration with everything that was read and started for it. A reload creates another one,
//! which takes over the parts that have not changed.

use super::caller_credentials::CallerCredentials;
use super::client::{ClientSlot, RunningClient};
use super::control::Control;
use super::error::AppError;
use super::listener_certificates::{self, ListenerCertificates};
use super::transport_inputs::TransportInputs;
use super::upstream::PreparedUpstream;
use crate::config::{self, Config, ListenAddress, Route};
use crate::metrics::Metrics;
use crate::proxy::{RouteParts, Table, TableParts};
use crate::token::ClientHandle;
use crate::token::store::TokenStore;
use crate::traffic::Traffic;
use std::sync::Arc;
use tracing::warn;

/// A configuration with all that was read for it. Nothing runs, and nothing was sent.
pub(super) struct Prepared {
    config: Config,
    pub(super) inputs: TransportInputs,
    local: CallerCredentials,
    tls: ListenerCertificates,
    clients: Vec<ClientWithRoutes>,
    upstreams: Vec<PreparedUpstream>,
}

/// A client and the routes that carry its token.
struct ClientWithRoutes {
    config: Arc<config::Client>,
    slot: ClientSlot,
    routes: Vec<(Route, PreparedUpstream)>,
}

/// A configuration in force.
pub(super) struct Setup {
    pub(super) config: Config,
    pub(super) inputs: TransportInputs,
    pub(super) local: CallerCredentials,
    pub(super) tls: ListenerCertificates,
    pub(super) clients: Vec<Arc<RunningClient>>,
    upstreams: Vec<PreparedUpstream>,
    routes: Vec<RouteParts>,
}

impl Prepared {
    /// Reads what the configuration points at. Clients and upstreams that are the same `before`
    /// stay in use.
    pub(super) fn new(config: Config, before: Option<&Setup>) -> Result<Self, AppError> {
        let local = CallerCredentials::prepare(&config, before.map(|before| &before.local))?;
        let tls = listener_certificates::prepare(&config, before.map(|before| &before.tls))?;
        let anchors = before.map(|before| &before.inputs.anchors);
        let inputs = TransportInputs::read(&config, anchors)?;
        if inputs.anchors.is_empty() {
            warn!(
                "The system has no trust anchors, so bearerd trusts only those of `ca_file`; to add others, set SSL_CERT_FILE to a file of certificates."
            );
        }
        let mut clients = Vec::new();
        for client in &config.clients {
            let before = before.map(|before| (&before.clients[..], &before.inputs));
            let slot = ClientSlot::new(client, config.pinned_origin(client), &inputs, before)?;
            clients.push(ClientWithRoutes { config: client.clone(), slot, routes: Vec::new() });
        }
        let mut upstreams = Vec::new();
        for upstream in &config.upstreams {
            let before = before.map(|before| (&before.upstreams[..], &before.inputs));
            upstreams.push(PreparedUpstream::new(upstream, &inputs, before)?);
        }
        for route in &config.routes {
            let is_client =
                |client: &&mut ClientWithRoutes| Arc::ptr_eq(&client.config, &route.client);
            let is_upstream =
                |known: &&PreparedUpstream| Arc::ptr_eq(&known.config, &route.upstream);
            let client = clients.iter_mut().find(is_client);
            let (Some(client), Some(upstream)) = (client, upstreams.iter().find(is_upstream))
            else {
                return Err(AppError::Unprepared { route: route.path.clone() });
            };
            client.routes.push((route.clone(), upstream.clone()));
        }
        Ok(Self { config, inputs, local, tls, clients, upstreams })
    }

    /// Starts the clients that do not run yet. Returns the setup, and the clients that were
    /// started.
    pub(super) fn start(
        self,
        metrics: &Metrics,
        control: &Control,
    ) -> (Setup, Vec<Arc<RunningClient>>) {
        metrics.create_series(&self.config);
        let (mut clients, mut started, mut routes) = (Vec::new(), Vec::new(), Vec::new());
        for client in self.clients {
            let (running, is_new) = client.slot.start(metrics, control);
            if is_new {
                started.push(running.clone());
            }
            routes.extend(client.routes.into_iter().map(|(config, upstream)| RouteParts {
                config,
                client: running.handle.clone(),
                upstream: upstream.service,
            }));
            clients.push(running);
        }
        let Self { config, inputs, local, tls, upstreams, .. } = self;
        let local = local.start(metrics, control);
        (Setup { config, inputs, local, tls, clients, upstreams, routes }, started)
    }
}

impl Setup {
    /// The clients as the proxy and readiness see them.
    pub(super) fn handles(&self) -> Vec<ClientHandle> {
        self.clients.iter().map(|client| client.handle.clone()).collect()
    }

    /// Makes clients of one upstream remove each other's tokens from answers across a reload. The
    /// upstream may send back an old client's token on a new route, and a new client's token to a
    /// request that is still in flight.
    pub(super) fn remember(&self, before: &Self) {
        for (upstream, store) in self.stores() {
            for (known, other) in before.stores() {
                let is_same = upstream.name == known.name || upstream.origin == known.origin;
                if is_same && !Arc::ptr_eq(store, other) {
                    store.add_secrets_of(other);
                    other.add_secrets_of(store);
                }
            }
        }
    }

    /// Each upstream with each place of the tokens that its requests may carry.
    fn stores(&self) -> Vec<(&config::Upstream, &Arc<TokenStore>)> {
        let mut stores: Vec<(&config::Upstream, &Arc<TokenStore>)> = Vec::new();
        for route in &self.routes {
            let upstream = &*route.config.upstream;
            for client in self.config.clients_of(&route.config) {
                let is_client = |running: &&Arc<RunningClient>| running.config.name == client.name;
                let Some(running) = self.clients.iter().find(is_client) else { continue };
                let store = &running.handle.store;
                let is_known = |(known, other): &(&config::Upstream, &Arc<TokenStore>)| {
                    known.name == upstream.name && Arc::ptr_eq(other, store)
                };
                if !stores.iter().any(is_known) {
                    stores.push((upstream, store));
                }
            }
        }
        stores
    }

    /// The routes as the proxy serves them.
    pub(super) fn table(
        &self,
        addresses: &[ListenAddress],
        metrics: &Metrics,
        traffic: &Traffic,
        before: Option<&Table>,
    ) -> Table {
        let parts = TableParts {
            config: &self.config,
            guard: &self.local.guard,
            addresses,
            routes: &self.routes,
            clients: &self.handles(),
            metrics,
            traffic,
        };
        Table::new(&parts, before)
    }
}
