//! A route, and what else names it.

use super::client::Client;
use super::upstream::Upstream;
use super::value::{ListenAddress, ListenerId};
use crate::profile::{Methods, Profile};
use http::{HeaderName, HeaderValue};
use std::sync::Arc;
use std::time::Duration;

/// A path, and the treatment of requests to it.
///
/// Until [`Draft::resolve`](super::Draft::resolve) `U` is a position in the list of upstreams.
#[derive(Clone, Debug, PartialEq)]
pub struct Route<U = Arc<Upstream>> {
    /// The path as configured: begins with `/`, ends without it.
    pub path: String,
    /// Listeners that serve the route, in ascending order; never empty. Paths are unique on each
    /// listener.
    pub listen: Vec<ListenerId>,
    /// The upstream to which requests are sent: one of `Config::upstreams`.
    pub upstream: U,
    /// The client whose token is injected: one of `Config::clients`.
    pub client: Arc<Client>,
    /// The API family.
    pub profile: &'static Profile,
    /// Methods that are allowed; a subset of the profile's.
    pub methods: Methods,
    /// Whether `path` is removed from requests to the upstream.
    pub strip_path: bool,
    /// Whether links to the upstreams are rewritten in the places that the profile knows.
    pub links: bool,
    /// Whether HTML is passed on unchecked. Otherwise a page is checked: it may be the login page.
    pub html: bool,
    /// Whether batches are forwarded without a check of the requests in them.
    pub unchecked_batches: bool,
    /// Retries of reads that a busy upstream answers with 429 or 503, if there are any.
    pub retry: Option<Retry>,
    /// Headers that are added to each request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Route<usize> {
    /// The route with its upstream from this list. `None` if that upstream has a fault.
    pub(super) fn to(self, upstreams: &[Option<Arc<Upstream>>]) -> Option<Route> {
        Some(Route {
            path: self.path,
            listen: self.listen,
            upstream: upstreams.get(self.upstream)?.clone()?,
            client: self.client,
            profile: self.profile,
            methods: self.methods,
            strip_path: self.strip_path,
            links: self.links,
            html: self.html,
            unchecked_batches: self.unchecked_batches,
            retry: self.retry,
            headers: self.headers,
        })
    }
}

/// A reference to a route. No other route has both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRef {
    /// The route's path.
    pub path: String,
    /// The route's listeners.
    pub listen: Vec<ListenerId>,
}

impl RouteRef {
    /// Whether it refers to this route.
    pub fn names<U>(&self, route: &Route<U>) -> bool {
        (&self.path, &self.listen) == (&route.path, &route.listen)
    }
}

/// Retries of a GET or HEAD after 429 or 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Largest number of attempts; at least two.
    pub attempts: u32,
    /// Total waiting time of a request.
    pub max_wait: Duration,
}

impl Retry {
    /// The largest value of `attempts` that can be configured.
    pub const MOST_ATTEMPTS: u32 = 10;
}

/// The name of one of these routes.
pub(super) fn name_of<U>(route: &Route<U>, all: &[Route<U>], listen: &[ListenAddress]) -> String {
    let is_shared = all.iter().filter(|other| other.path == route.path).count() > 1;
    let address = route.listen.first().and_then(|listener| listen.get(listener.0));
    match address.filter(|_| is_shared) {
        Some(address) => format!("{address}{}", route.path),
        None => route.path.clone(),
    }
}
