//! What a configuration makes of requests: which route each takes, and all that goes with it.

use super::csrf::CsrfTokens;
use super::guard::Guard;
use super::links::LinkPlan;
use super::redaction;
use super::rejection::RejectionPolicy;
use super::respond::Problem;
use super::route::{Router, TargetError, leaves_authority};
use super::upstream::Upstream;
use crate::config::{ClientId, Config, ListenAddress, ListenerId, Route, UpstreamId};
use crate::endpoint;
use crate::error::ErrorKind;
use crate::metrics::{Metrics, RouteMetrics};
use crate::profile::Csrf;
use crate::redact::Secrets;
use crate::token::ClientHandle;
use crate::token::store::TokenStore;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A route with all that its requests to one listener need.
pub(super) struct RouteHandle {
    /// What it is called in metrics and logs.
    pub(super) name: String,
    pub(super) config: Route,
    /// Segments to cut from the path; zero without `strip_path`.
    pub(super) cut: usize,
    pub(super) client: ClientHandle,
    /// How it stands with that one's tokens, on whatever listener.
    pub(super) rejections: Arc<RejectionPolicy>,
    pub(super) upstream: Arc<Upstream>,
    /// Who speaks CSRF for the callers, where the profile may need it.
    pub(super) csrf: Option<Arc<CsrfTokens>>,
    /// Whether the upstream has asked for a CSRF token where none was sent by itself.
    pub(super) wants_csrf: AtomicBool,
    /// The upstream's host, for which its cookies may be.
    pub(super) cookie_domain: String,
    /// Where the tokens of other clients are that go to the same upstream.
    pub(super) neighbours: Vec<Arc<TokenStore>>,
    /// What is secret of the headers that it adds.
    pub(super) secrets: Option<Secrets>,
    /// Which links are rewritten, and to what.
    pub(super) links: Option<LinkPlan>,
    pub(super) guard: Arc<Guard>,
    pub(super) metrics: Arc<RouteMetrics>,
}

/// What one configuration makes of requests. A reload puts another in its place; requests keep the
/// route that they began with.
pub struct Table {
    pub(super) guard: Arc<Guard>,
    /// Requests under way at once.
    pub(super) limit: i64,
    /// In the configuration's order.
    listeners: Vec<Served>,
}

/// What is served on one listener.
struct Served {
    address: ListenAddress,
    router: Router,
    routes: Vec<Arc<RouteHandle>>,
}

impl Table {
    /// Puts routes, clients and upstreams together; both lists are in the configuration's order.
    /// `addresses` are where applications really connect, in that order, too.
    pub fn new(
        config: &Config,
        guard: &Arc<Guard>,
        addresses: &[ListenAddress],
        clients: &[ClientHandle],
        upstreams: &[Arc<Upstream>],
        metrics: &Metrics,
    ) -> Self {
        // One set of CSRF tokens a client and upstream, however many routes they share.
        let mut csrf_tokens: HashMap<(ClientId, UpstreamId), Option<Arc<CsrfTokens>>> =
            HashMap::new();
        let mut tokens = |route: &Route, upstream: &Upstream| {
            let name = config.upstreams.get(route.upstream.0).map(|upstream| &upstream.name)?;
            let new = || CsrfTokens::new(upstream, metrics.csrf(name)).map(Arc::new);
            csrf_tokens.entry((route.client, route.upstream)).or_insert_with(new).clone()
        };
        let mut handle = |route: &Route, rejections: &Arc<RejectionPolicy>, listener| {
            let upstream = upstreams.get(route.upstream.0)?.clone();
            let name = config.name_of(route);
            Some(Arc::new(RouteHandle {
                config: route.clone(),
                secrets: redaction::of_headers(&route.headers),
                cut: if route.strip_path { route.path.matches('/').count() } else { 0 },
                client: clients.get(route.client.0)?.clone(),
                neighbours: neighbours(config, route, clients),
                rejections: rejections.clone(),
                csrf: match route.profile.csrf {
                    Csrf::Off => None,
                    Csrf::IfAsked | Csrf::Managed => tokens(route, &upstream),
                },
                wants_csrf: AtomicBool::new(false),
                cookie_domain: endpoint::host(&config.upstreams.get(route.upstream.0)?.origin),
                upstream,
                links: LinkPlan::new(config, route, listener, guard, addresses),
                guard: guard.clone(),
                metrics: Arc::new(metrics.route(&name)),
                name,
            }))
        };
        let policies = config.routes.iter().map(|_| Arc::default()).collect::<Vec<_>>();
        let served = |(index, address): (usize, &ListenAddress)| {
            let listener = ListenerId(index);
            let routes = config.routes.iter().zip(&policies);
            let routes = routes.filter(|(route, _)| route.listen.contains(&listener));
            let routes =
                routes.filter_map(|(route, rejections)| handle(route, rejections, listener));
            let routes: Vec<_> = routes.collect();
            let router = Router::new(routes.iter().map(|route| route.config.path.as_str()));
            Served { address: address.clone(), router, routes }
        };
        Self {
            guard: guard.clone(),
            limit: config.limits.requests.into(),
            listeners: addresses.iter().enumerate().map(served).collect(),
        }
    }

    /// The route of a request to this listener.
    ///
    /// # Errors
    /// The answer to one that has none.
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
                Some(served) => format!("this path is not served here but on {}", served.address),
                None => "no configured route matches this path".to_owned(),
            };
            let detail = format!("{detail}; `bearerd check` lists the routes");
            Problem::new(ErrorKind::NoRoute, detail)
        })
    }
}

/// The tokens of the clients that other routes send to a route's upstream.
fn neighbours(config: &Config, route: &Route, clients: &[ClientHandle]) -> Vec<Arc<TokenStore>> {
    let is_other = |(index, _): &(usize, &ClientHandle)| {
        let goes_there =
            |other: &Route| other.upstream == route.upstream && other.client.0 == *index;
        *index != route.client.0 && config.routes.iter().any(goes_there)
    };
    let others = clients.iter().enumerate().filter(is_other);
    others.map(|(_, client)| client.store.clone()).collect()
}

impl Served {
    fn find(&self, target: &[u8]) -> Result<Option<&Arc<RouteHandle>>, TargetError> {
        let found = self.router.find(target)?;
        let route = found.and_then(|index| self.routes.get(index));
        if route.is_some_and(|route| route.cut > 0 && leaves_authority(target, route.cut)) {
            return Err(TargetError::Authority);
        }
        Ok(route)
    }
}
