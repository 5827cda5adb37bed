//! The routing table: which route a request takes, and everything that the route needs.

use super::csrf::CsrfTokens;
use super::guard::Guard;
use super::header_redaction::{self, UpstreamTokens};
use super::links::LinkPlan;
use super::problem::Problem;
use super::rejection::RejectionPolicy;
use super::route::{Router, TargetError, leaves_authority};
use super::upstream::UpstreamHandle;
use crate::config::{Config, ListenAddress, ListenerId, Route};
use crate::endpoint;
use crate::error::ErrorKind;
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
    pub(super) links: Option<LinkPlan>,
    pub(super) guard: Arc<Guard>,
    pub(super) metrics: Arc<RouteMetrics>,
    /// Its last requests, on all listeners.
    pub(super) traffic: Arc<RouteTraffic>,
}

/// The routes of one configuration. A reload replaces the table; a request keeps the route that it
/// started with.
pub struct Table {
    pub(super) guard: Arc<Guard>,
    /// Limit of concurrent requests on a listener.
    pub(super) limit: i64,
    /// Listeners in the configuration's order.
    listeners: Vec<Served>,
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

/// The largest number of routes that an answer lists.
const MOST_LISTED: usize = 8;

/// The routes of one listener.
struct Served {
    address: ListenAddress,
    router: Router,
    routes: Vec<Arc<RouteHandle>>,
}

impl Table {
    /// Puts routes, clients and upstreams together.
    pub fn new(parts: &TableParts<'_>) -> Self {
        let shared = shared(parts);
        let served = |(index, address): (usize, &ListenAddress)| {
            let listener = ListenerId(index);
            let on_listener = |route: &&SharedRoute| route.parts.config.listen.contains(&listener);
            let routes = shared.iter().filter(on_listener);
            let routes = routes.map(|route| Arc::new(route.handle(parts, listener)));
            let routes: Vec<_> = routes.collect();
            let router = Router::new(routes.iter().map(|route| route.config.path.as_str()));
            Served { address: address.clone(), router, routes }
        };
        Self {
            guard: parts.guard.clone(),
            limit: parts.config.limits.requests.into(),
            listeners: parts.addresses.iter().enumerate().map(served).collect(),
        }
    }

    /// The route of a request to this listener.
    ///
    /// # Errors
    /// The answer to a request without a route.
    pub(super) fn find(
        &self,
        listener: ListenerId,
        target: &[u8],
    ) -> Result<Arc<RouteHandle>, Problem> {
        let served = self.listeners.get(listener.0);
        let found = served.map_or(Ok(None), |served| served.find(target));
        let found = found.map_err(|why| Problem::new(ErrorKind::BadRequest, why.to_string()))?;
        found.cloned().ok_or_else(|| {
            let elsewhere =
                self.listeners.iter().find(|served| matches!(served.find(target), Ok(Some(_))));
            let detail = match elsewhere {
                Some(served) => {
                    format!("this path is not served on this listener, only on {}", served.address)
                }
                None => "this sidecar has no route for this path".to_owned(),
            };
            let listed = served.and_then(Served::listed);
            let listed = listed.unwrap_or_else(|| "`bearerd check` lists the routes".to_owned());
            let detail =
                format!("{detail}; {listed}; correct the path in the tool, or add a route");
            Problem::new(ErrorKind::NoRoute, detail)
        })
    }
}

/// A route with everything that its handles on several listeners share.
struct SharedRoute<'a> {
    parts: &'a RouteParts,
    rejections: Arc<RejectionPolicy>,
    csrf: Option<Arc<CsrfTokens>>,
}

/// Prepares every route. Routes with the same client and upstream share one set of CSRF tokens.
fn shared<'a>(parts: &TableParts<'a>) -> Vec<SharedRoute<'a>> {
    let mut csrf_tokens: HashMap<(&str, &str), Option<Arc<CsrfTokens>>> = HashMap::new();
    let mut tokens = |route: &'a RouteParts| {
        let (client, upstream) = (&*route.config.client.name, &*route.config.upstream.name);
        let new = || CsrfTokens::new(&route.upstream, parts.metrics.csrf(upstream)).map(Arc::new);
        csrf_tokens.entry((client, upstream)).or_insert_with(new).clone()
    };
    let shared = |route: &'a RouteParts| SharedRoute {
        parts: route,
        rejections: Arc::default(),
        csrf: match route.config.profile.csrf {
            Csrf::Off => None,
            Csrf::IfAsked | Csrf::Managed => tokens(route),
        },
    };
    parts.routes.iter().map(shared).collect()
}

impl SharedRoute<'_> {
    /// The handle of the route on one listener.
    fn handle(&self, parts: &TableParts<'_>, listener: ListenerId) -> RouteHandle {
        let RouteParts { config: route, client, upstream } = self.parts;
        let name = parts.config.name_of(route);
        RouteHandle {
            config: route.clone(),
            secrets: header_redaction::secrets_in_headers(&route.headers),
            cut: if route.strip_path { route.path.matches('/').count() } else { 0 },
            client: client.clone(),
            tokens: UpstreamTokens::new(client.store.clone(), self.neighbours(parts.routes)),
            rejections: self.rejections.clone(),
            csrf: self.csrf.clone(),
            wants_csrf: AtomicBool::new(false),
            cookie_domain: endpoint::host(&route.upstream.origin),
            upstream: upstream.clone(),
            links: LinkPlan::new(parts.config, route, listener, parts.guard, parts.addresses),
            guard: parts.guard.clone(),
            metrics: Arc::new(parts.metrics.route(&name)),
            traffic: parts.traffic.route(&name, &route.upstream.name),
            name,
        }
    }

    /// The tokens of other clients that go to the same upstream.
    fn neighbours(&self, routes: &[RouteParts]) -> Vec<Arc<TokenStore>> {
        let mut stores: Vec<Arc<TokenStore>> = Vec::new();
        for other in
            routes.iter().filter(|other| Arc::ptr_eq(&other.upstream, &self.parts.upstream))
        {
            let is_store = |known: &Arc<TokenStore>| Arc::ptr_eq(known, &other.client.store);
            if !is_store(&self.parts.client.store) && !stores.iter().any(is_store) {
                stores.push(other.client.store.clone());
            }
        }
        stores
    }
}

impl Served {
    /// Names the routes, unless other machines reach this listener.
    fn listed(&self) -> Option<String> {
        let is_local = match &self.address {
            ListenAddress::Tcp(address) => address.ip().is_loopback(),
            ListenAddress::Unix(_) => true,
        };
        let paths = self.routes.iter().map(|route| route.config.path.as_str());
        let paths: Vec<_> = paths.take(MOST_LISTED).collect();
        let more = self.routes.len().saturating_sub(paths.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        is_local.then(|| format!("its routes are {}{more}", paths.join(", ")))
    }

    fn find(&self, target: &[u8]) -> Result<Option<&Arc<RouteHandle>>, TargetError> {
        let found = self.router.find(target)?;
        let route = found.and_then(|index| self.routes.get(index));
        if route.is_some_and(|route| route.cut > 0 && leaves_authority(target, route.cut)) {
            return Err(TargetError::Authority);
        }
        Ok(route)
    }
}
