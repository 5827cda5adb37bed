//! A route with everything that its requests need: made once for a configuration, for each listener
//! and for each caller that has other rights than the rest.

use super::csrf::CsrfTokens;
use super::guard::Guard;
use super::header_redaction::{self, UpstreamTokens};
use super::links::LinkPlan;
use super::rejection::RejectionPolicy;
use super::upstream::UpstreamHandle;
use crate::config::{Caller, Client, Config, ListenAddress, ListenerId, Route};
use crate::endpoint;
use crate::metrics::{Metrics, RouteMetrics};
use crate::profile::Csrf;
use crate::redact::Secrets;
use crate::token::ClientHandle;
use crate::token::store::TokenStore;
use crate::traffic::{RouteTraffic, Traffic};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A route with everything that its requests on one listener need.
pub(super) struct RouteHandle {
    /// The route's name in metrics and logs.
    pub(super) name: String,
    pub(super) config: Route,
    /// Whether the caller may use fewer methods than others.
    pub(super) has_fewer_methods: bool,
    /// Number of segments to cut from the path; zero without `strip_path`.
    pub(super) cut: usize,
    pub(super) client: ClientHandle,
    /// Decides whether a refused token is rejected; shared by all listeners.
    pub(super) rejections: Arc<RejectionPolicy>,
    pub(super) upstream: Arc<UpstreamHandle>,
    /// CSRF tokens, if the profile may need them.
    pub(super) csrf: Option<Arc<CsrfTokens>>,
    /// Whether the upstream has asked for a CSRF token although with this profile bearerd sends
    /// none unless asked.
    pub(super) wants_csrf: AtomicBool,
    /// The upstream's host: the domain that its cookies may have.
    pub(super) cookie_domain: String,
    /// The tokens that go to the upstream.
    pub(super) tokens: UpstreamTokens,
    /// Secrets among the headers that the route adds.
    pub(super) secrets: Option<Secrets>,
    /// Rewriting of links, if it is on.
    pub(super) links: Option<Arc<LinkPlan>>,
    pub(super) guard: Arc<Guard>,
    pub(super) metrics: Arc<RouteMetrics>,
    /// Its last requests, on all listeners.
    pub(super) traffic: Arc<RouteTraffic>,
}

/// The parts of a table.
pub struct TableParts<'a> {
    /// The configuration of the routes.
    pub config: &'a Config,
    /// The check of callers.
    pub guard: &'a Arc<Guard>,
    /// The bound addresses, in the configuration's order.
    pub addresses: &'a [ListenAddress],
    /// Every route of the configuration.
    pub routes: &'a [RouteParts],
    /// Every client of the configuration.
    pub clients: &'a [ClientHandle],
    /// The metrics that count requests.
    pub metrics: &'a Metrics,
    /// The last requests.
    pub traffic: &'a Traffic,
}

/// A route with its running client and its upstream.
#[derive(Clone)]
pub struct RouteParts {
    /// The route as configured.
    pub config: Route,
    /// The client whose token its requests carry.
    pub client: ClientHandle,
    /// The upstream that its requests go to.
    pub upstream: Arc<UpstreamHandle>,
}

/// A route with everything that its handles on several listeners share.
pub(super) struct SharedRoute {
    pub(super) parts: RouteParts,
    /// Whether the caller may use fewer methods than others.
    has_fewer_methods: bool,
    rejections: Arc<RejectionPolicy>,
    csrf: Option<Arc<CsrfTokens>>,
    /// The route as each caller with a name may use it.
    of_callers: Vec<OfCaller>,
}

/// A route as a caller may use it.
enum OfCaller {
    /// As everybody.
    Whole,
    Narrowed(Box<SharedRoute>),
    Denied,
}

/// The CSRF tokens of each client at each upstream.
type CsrfOfClients = HashMap<(String, String), Option<Arc<CsrfTokens>>>;

/// Prepares every route. Routes with the same client and upstream share one set of CSRF tokens.
pub(super) fn shared(parts: &TableParts<'_>) -> Vec<SharedRoute> {
    let mut csrf = HashMap::new();
    let mut shared = |whole: &RouteParts| {
        let rejections = Arc::default();
        let mut of_caller = |caller: &Caller| {
            let Some(config) = caller.narrow(&whole.config) else { return OfCaller::Denied };
            if config == whole.config {
                return OfCaller::Whole;
            }
            let is_client = |client: &&ClientHandle| client.name == config.client.name;
            let Some(client) = parts.clients.iter().find(is_client) else {
                return OfCaller::Denied;
            };
            let is_same = client.name == whole.client.name;
            let route =
                RouteParts { config, client: client.clone(), upstream: whole.upstream.clone() };
            OfCaller::Narrowed(Box::new(SharedRoute {
                has_fewer_methods: route.config.methods != whole.config.methods,
                rejections: if is_same { Arc::clone(&rejections) } else { Arc::default() },
                csrf: csrf_tokens(&route, parts.metrics, &mut csrf),
                of_callers: Vec::new(),
                parts: route,
            }))
        };
        let of_callers = parts.config.callers.iter().map(&mut of_caller).collect();
        let csrf = csrf_tokens(whole, parts.metrics, &mut csrf);
        SharedRoute { parts: whole.clone(), has_fewer_methods: false, rejections, csrf, of_callers }
    };
    parts.routes.iter().map(&mut shared).collect()
}

/// The CSRF tokens of a route, if its profile may need them.
fn csrf_tokens(
    route: &RouteParts,
    metrics: &Metrics,
    known: &mut CsrfOfClients,
) -> Option<Arc<CsrfTokens>> {
    if route.config.profile.csrf == Csrf::Off {
        return None;
    }
    let upstream = route.config.upstream.name.clone();
    let new = || CsrfTokens::new(&route.upstream, metrics.csrf(&upstream)).map(Arc::new);
    known.entry((route.client.name.clone(), upstream.clone())).or_insert_with(new).clone()
}

impl SharedRoute {
    /// The handle of the route on one listener.
    pub(super) fn handle(&self, parts: &TableParts<'_>, listener: ListenerId) -> RouteHandle {
        let (config, addresses) = (parts.config, parts.addresses);
        let links = LinkPlan::new(config, &self.parts.config, listener, parts.guard, addresses);
        self.handle_with(links.map(Arc::new), parts)
    }

    fn handle_with(&self, links: Option<Arc<LinkPlan>>, parts: &TableParts<'_>) -> RouteHandle {
        let RouteParts { config: route, client, upstream } = &self.parts;
        let name = parts.config.name_of(route);
        RouteHandle {
            config: route.clone(),
            has_fewer_methods: self.has_fewer_methods,
            secrets: header_redaction::secrets_in_headers(&route.headers),
            cut: if route.strip_path { route.path.matches('/').count() } else { 0 },
            client: client.clone(),
            tokens: UpstreamTokens::new(client.store.clone(), self.neighbours(parts, client)),
            rejections: self.rejections.clone(),
            csrf: self.csrf.clone(),
            wants_csrf: AtomicBool::new(false),
            cookie_domain: endpoint::host(&route.upstream.origin),
            upstream: upstream.clone(),
            links,
            guard: parts.guard.clone(),
            metrics: Arc::new(parts.metrics.route(&name)),
            traffic: parts.traffic.route(&name, &route.upstream.name),
            name,
        }
    }

    /// The handle of the route as a caller may use it; `None` if it may not.
    pub(super) fn handle_of(
        &self,
        caller: usize,
        whole: &Arc<RouteHandle>,
        parts: &TableParts<'_>,
    ) -> Option<Arc<RouteHandle>> {
        match self.of_callers.get(caller)? {
            OfCaller::Whole => Some(whole.clone()),
            OfCaller::Narrowed(route) => {
                // Links are the same for all callers, and hold a line for each route.
                Some(Arc::new(route.handle_with(whole.links.clone(), parts)))
            }
            OfCaller::Denied => None,
        }
    }

    /// The tokens of other clients that go to the same upstream.
    fn neighbours(&self, parts: &TableParts<'_>, own: &ClientHandle) -> Vec<Arc<TokenStore>> {
        let mut stores: Vec<Arc<TokenStore>> = Vec::new();
        let is_same = |other: &&RouteParts| Arc::ptr_eq(&other.upstream, &self.parts.upstream);
        for other in parts.routes.iter().filter(is_same) {
            for client in parts.config.clients_of(&other.config) {
                let Some(client) = parts.client(client) else { continue };
                let is_store = |known: &Arc<TokenStore>| Arc::ptr_eq(known, &client.store);
                if !is_store(&own.store) && !stores.iter().any(is_store) {
                    stores.push(client.store.clone());
                }
            }
        }
        stores
    }
}

impl TableParts<'_> {
    /// The running client of this configuration.
    fn client(&self, config: &Client) -> Option<&ClientHandle> {
        self.clients.iter().find(|client| client.name == config.name)
    }
}
