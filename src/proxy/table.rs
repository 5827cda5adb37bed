//! What a configuration makes of requests: which route each takes, and all that goes with it.

use super::csrf::Keeper;
use super::guard::Guard;
use super::links::Plan;
use super::route::Router;
use super::upstream::Upstream;
use crate::config::{ClientId, Config, ListenAddress, Route, UpstreamId};
use crate::metrics::{ClientMetrics, Metrics, RouteMetrics};
use crate::token::store::TokenStore;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// What the proxy sees of an OAuth client.
#[derive(Clone)]
pub struct ClientHandle {
    /// The client's name, for messages.
    pub name: String,
    /// Where its token is read.
    pub store: Arc<TokenStore>,
    /// How long a request may wait for one.
    pub wait: Duration,
    /// Where waits are counted.
    pub metrics: ClientMetrics,
}

/// A route with all that its requests need.
pub(super) struct RouteHandle {
    pub(super) config: Route,
    /// Segments to cut from the path; zero without `strip_path`.
    pub(super) cut: usize,
    pub(super) client: ClientHandle,
    pub(super) upstream: Arc<Upstream>,
    /// Who speaks CSRF for the callers, where the profile needs it.
    pub(super) csrf: Option<Arc<Keeper>>,
    /// Which links are rewritten, and to what.
    pub(super) links: Option<Plan>,
    pub(super) guard: Arc<Guard>,
    pub(super) metrics: Arc<RouteMetrics>,
}

/// What one configuration makes of requests. A reload puts another in its place; requests keep the
/// route that they began with.
pub struct Table {
    pub(super) guard: Arc<Guard>,
    /// Requests under way at once.
    pub(super) limit: i64,
    pub(super) router: Router,
    pub(super) routes: Vec<Arc<RouteHandle>>,
}

impl Table {
    /// Puts routes, clients and upstreams together; both lists are in the configuration's order.
    /// `addresses` are where applications really connect.
    pub fn new(
        config: &Config,
        guard: &Arc<Guard>,
        addresses: &[ListenAddress],
        clients: &[ClientHandle],
        upstreams: &[Arc<Upstream>],
        metrics: &Metrics,
    ) -> Self {
        // One keeper a client and upstream, however many routes they share.
        let mut keepers: HashMap<(ClientId, UpstreamId), Option<Arc<Keeper>>> = HashMap::new();
        let mut keeper = |route: &Route, upstream: &Upstream| {
            let name = config.upstreams.get(route.upstream.0).map(|upstream| &upstream.name)?;
            let new = || Keeper::new(upstream, metrics.csrf(name)).map(Arc::new);
            keepers.entry((route.client, route.upstream)).or_insert_with(new).clone()
        };
        let routes = config.routes.iter().filter_map(|route| {
            let upstream = upstreams.get(route.upstream.0)?.clone();
            Some(Arc::new(RouteHandle {
                config: route.clone(),
                cut: if route.strip_path { route.path.matches('/').count() } else { 0 },
                client: clients.get(route.client.0)?.clone(),
                csrf: route.profile.csrf.then(|| keeper(route, &upstream)).flatten(),
                upstream,
                links: Plan::new(config, route, guard, addresses),
                guard: guard.clone(),
                metrics: Arc::new(metrics.route(&route.path)),
            }))
        });
        Self {
            guard: guard.clone(),
            limit: config.limits.requests.into(),
            router: Router::new(config.routes.iter().map(|route| route.path.as_str())),
            routes: routes.collect(),
        }
    }
}
