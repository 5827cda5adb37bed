//! Which URLs become which on one route, for the callers of one listener.

use super::multipart_batch_request::RequestUrls;
use super::origin::OriginMap;
use super::own_origin::{OriginResolver, RouteOrigin};
use crate::config::{Config, ListenAddress, ListenerId, Route};
use crate::profile::Links;
use crate::proxy::guard::Guard;
use arc_swap::ArcSwapOption;
use http::header::HOST;
use http::{HeaderMap, HeaderValue};
use std::cmp::Reverse;
use std::sync::Arc;
use url::Url;

/// What is rewritten on a route, and to what, for the callers of one listener.
pub(in crate::proxy) struct LinkPlan {
    /// The formats of bodies in which links are rewritten.
    pub(super) formats: Links,
    targets: Vec<Target>,
    /// The route's path, if it is cut from requests.
    prefix: Option<String>,
    /// The origin of the route's upstream.
    upstream: Url,
    /// The routes that callers of this listener can reach, the longest path first.
    routes: Vec<ReachableRoute>,
    resolver: OriginResolver,
    /// The maps for the latest `Host`; callers rarely use two.
    latest: ArcSwapOption<Maps>,
}

/// An upstream, and where callers find it on the sidecar.
struct Target {
    upstream: Url,
    origin: RouteOrigin,
    /// The path on the sidecar that the upstream does not have.
    path: String,
}

/// A route, and the URL that its path stands for.
struct ReachableRoute {
    origin: RouteOrigin,
    path: String,
    url: String,
}

/// What URLs become, for callers that reach the sidecar at one origin.
pub(super) struct Maps {
    host: HeaderValue,
    /// In responses: the upstreams' URLs become the sidecar's.
    pub(super) to_caller: Arc<OriginMap>,
    /// In requests: the sidecar's URLs become the upstream's.
    pub(super) to_upstream: RequestUrls,
}

impl LinkPlan {
    /// The plan of a route, for the callers of `listener`. `None` if links are off.
    pub(in crate::proxy) fn new(
        config: &Config,
        route: &Route,
        listener: ListenerId,
        guard: &Arc<Guard>,
        addresses: &[ListenAddress],
    ) -> Option<Self> {
        if !route.links {
            return None;
        }
        // The route's own upstream comes first: if two upstreams share an origin, the links stay
        // with the route's own client.
        let (own_first, others): (Vec<_>, Vec<_>) =
            config.upstreams.iter().partition(|upstream| Arc::ptr_eq(upstream, &route.upstream));
        let upstreams = own_first.into_iter().chain(others);
        let targets = upstreams.filter_map(|upstream| {
            // Another upstream needs a route. A route on this listener that cuts nothing is best.
            let leads_there = |other: &&Route| Arc::ptr_eq(&other.upstream, upstream);
            let routes = config.routes.iter().filter(leads_there);
            let routes = routes.filter_map(|other| {
                Some((RouteOrigin::of(other, listener, config, addresses)?, other))
            });
            let (origin, best) = if Arc::ptr_eq(upstream, &route.upstream) {
                (RouteOrigin::SameListener, route)
            } else {
                routes.min_by_key(|(origin, other)| {
                    (*origin != RouteOrigin::SameListener, other.strip_path)
                })?
            };
            Some(Target { upstream: upstream.origin.clone(), origin, path: cut_path(best) })
        });
        let routes = config.routes.iter().filter_map(|route| {
            let path = if route.strip_path { "" } else { &route.path };
            let url = format!("{}{path}", route.upstream.origin.origin().ascii_serialization());
            let origin = RouteOrigin::of(route, listener, config, addresses)?;
            Some(ReachableRoute { origin, path: route.path.clone(), url })
        });
        let mut routes: Vec<_> = routes.collect();
        routes.sort_by_key(|route| Reverse(route.path.len()));
        Some(Self {
            formats: route.profile.links,
            targets: targets.collect(),
            prefix: route.strip_path.then(|| route.path.clone()),
            upstream: route.upstream.origin.clone(),
            routes,
            resolver: OriginResolver::new(route, listener, guard, config, addresses),
            latest: ArcSwapOption::empty(),
        })
    }

    /// The maps for a request. The sidecar's origin is the one that the caller used, if it can be
    /// the sidecar's.
    pub(super) fn maps(&self, request: &HeaderMap) -> Arc<Maps> {
        let host = request.get(HOST).cloned().unwrap_or_else(|| HeaderValue::from_static(""));
        if let Some(latest) = self.latest.load_full().filter(|latest| latest.host == host) {
            return latest;
        }
        let own = self.resolver.own(&host);
        let pairs = self.targets.iter().filter_map(|target| {
            let upstream = target.upstream.origin().ascii_serialization();
            let origin = self.resolver.resolve(target.origin, &own)?;
            Some((upstream, format!("{origin}{}", target.path)))
        });
        let maps = Arc::new(Maps {
            host,
            to_caller: Arc::new(OriginMap::new(pairs, self.prefix.clone())),
            to_upstream: self.request_urls(&own),
        });
        self.latest.store(Some(maps.clone()));
        maps
    }

    /// What the sidecar's URLs become in requests. `own` is the sidecar's origin.
    fn request_urls(&self, own: &str) -> RequestUrls {
        let upstream = self.upstream.origin().ascii_serialization();
        let authority = |origin: &str| {
            origin.split_once("://").map(|(_, authority)| authority.to_owned()).unwrap_or_default()
        };
        let host = (authority(own), authority(&upstream));
        // Absolute paths lose the part that the route cuts.
        let paths = self.prefix.iter().map(|prefix| (prefix.clone(), String::new()));
        let routes = self.routes.iter().filter_map(|route| {
            let origin = self.resolver.resolve(route.origin, own)?;
            Some((format!("{origin}{}", route.path), route.url.clone()))
        });
        let urls = paths.chain(routes).chain([(own.to_owned(), upstream)]);
        RequestUrls { urls: Arc::new(OriginMap::new(urls, None)), host }
    }
}

/// The part of a route's path that its upstream does not have.
fn cut_path(route: &Route) -> String {
    if route.strip_path { route.path.clone() } else { String::new() }
}
