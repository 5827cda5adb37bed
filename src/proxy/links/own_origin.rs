//! The sidecar's own origins: the one that a caller uses, and those of other listeners.

use crate::config::{Config, ListenAddress, ListenerId, Route};
use crate::proxy::guard::{Guard, name_of};
use http::HeaderValue;
use std::net::SocketAddr;
use std::sync::Arc;

/// The listener that serves a route, as seen from another listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteOrigin {
    SameListener,
    OtherListener(Listener),
}

/// Another listener: its scheme and its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listener {
    scheme: &'static str,
    address: SocketAddr,
}

impl RouteOrigin {
    /// Where callers of `listener` reach a route. `None` if only other Unix sockets serve it: no
    /// URL leads to a Unix socket.
    pub(super) fn of(
        route: &Route,
        listener: ListenerId,
        config: &Config,
        addresses: &[ListenAddress],
    ) -> Option<Self> {
        if route.listen.contains(&listener) {
            return Some(Self::SameListener);
        }
        let scheme = config.scheme_of(listener);
        first_tcp(route, scheme, config, addresses).map(Self::OtherListener)
    }
}

/// Finds the sidecar's origins: the caller's own, and from that the other listeners'.
pub(super) struct OriginResolver {
    /// The guard, which knows the sidecar's names.
    guard: Arc<Guard>,
    /// The listener's address, unless it is a Unix socket.
    here: Option<SocketAddr>,
    /// The scheme of the listener's URLs.
    scheme: &'static str,
    /// The origin for callers that send no `Host` that can be the sidecar's.
    fallback: String,
}

impl OriginResolver {
    pub(super) fn new(
        route: &Route,
        listener: ListenerId,
        guard: &Arc<Guard>,
        config: &Config,
        addresses: &[ListenAddress],
    ) -> Self {
        let here = addresses.get(listener.0).and_then(tcp);
        let scheme = config.scheme_of(listener);
        let fallback = here.map(|address| Listener { scheme, address });
        let fallback = fallback.or_else(|| first_tcp(route, scheme, config, addresses));
        let fallback = fallback.map(|Listener { scheme, address }| format!("{scheme}://{address}"));
        let fallback = fallback.unwrap_or_else(|| "http://localhost".to_owned());
        Self { guard: guard.clone(), here, scheme, fallback }
    }

    /// The sidecar's origin for a caller that sent this `Host`: that host, if it can be the
    /// sidecar's.
    pub(super) fn own(&self, host: &HeaderValue) -> String {
        match host.to_str() {
            Ok(text) if self.guard.knows(text) => format!("{}://{text}", self.scheme),
            _ => self.fallback.clone(),
        }
    }

    /// The origin of a route, for callers that use `own`.
    ///
    /// For another port of the same address, the caller's own name is kept. For another address,
    /// the address itself is the host. `None` if `access.hosts` does not list it: the caller's name
    /// with that port may be another server.
    pub(super) fn resolve(&self, route: RouteOrigin, own: &str) -> Option<String> {
        let RouteOrigin::OtherListener(Listener { scheme, address }) = route else {
            return Some(own.to_owned());
        };
        let is_here = self.here.is_some_and(|here| here.ip() == address.ip());
        if is_here || address.ip().is_unspecified() {
            let authority = own.split_once("://").map_or(own, |(_, authority)| authority);
            return Some(format!("{scheme}://{}:{}", name_of(authority), address.port()));
        }
        let literal = address.to_string();
        self.guard.knows(&literal).then(|| format!("{scheme}://{literal}"))
    }
}

fn tcp(address: &ListenAddress) -> Option<SocketAddr> {
    match address {
        ListenAddress::Tcp(address) => Some(*address),
        ListenAddress::Unix(_) => None,
    }
}

/// The route's first TCP listener with this scheme, or else its first one: a link from a listener
/// with TLS must not lead a caller's credential into clear text where TLS is served, too.
fn first_tcp(
    route: &Route,
    scheme: &str,
    config: &Config,
    addresses: &[ListenAddress],
) -> Option<Listener> {
    let listeners = || {
        route.listen.iter().filter_map(|listener| {
            let address = addresses.get(listener.0).and_then(tcp)?;
            Some(Listener { scheme: config.scheme_of(*listener), address })
        })
    };
    listeners().find(|listener| listener.scheme == scheme).or_else(|| listeners().next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::credentials::Credentials;

    fn resolver(here: Option<&str>, hosts: &[&str]) -> OriginResolver {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let guard = Arc::new(Guard::new(&hosts, Credentials::default()));
        let here = here.map(|here| here.parse().unwrap());
        OriginResolver { guard, here, scheme: "http", fallback: "http://localhost".to_owned() }
    }

    fn at(address: &str) -> RouteOrigin {
        over("http", address)
    }

    fn over(scheme: &'static str, address: &str) -> RouteOrigin {
        RouteOrigin::OtherListener(Listener { scheme, address: address.parse().unwrap() })
    }

    #[test]
    fn a_listener_with_tls_has_https_links() {
        let resolver = resolver(Some("127.0.0.1:8443"), &["localhost", "127.0.0.1"]);
        let resolver = OriginResolver { scheme: "https", ..resolver };
        let own = resolver.own(&HeaderValue::from_static("localhost:8443"));
        assert_eq!(own, "https://localhost:8443");
        assert_eq!(resolver.resolve(at("127.0.0.1:8080"), &own).unwrap(), "http://localhost:8080");
        let other = over("https", "127.0.0.1:8444");
        assert_eq!(resolver.resolve(other, &own).unwrap(), "https://localhost:8444");
    }

    #[test]
    fn another_port_of_the_address_keeps_the_name_that_led_here() {
        let resolver = resolver(Some("127.0.0.1:8080"), &["localhost", "127.0.0.1", "127.0.0.2"]);
        let origin = |route| resolver.resolve(route, "http://localhost:8080").unwrap();
        assert_eq!(origin(RouteOrigin::SameListener), "http://localhost:8080");
        assert_eq!(origin(at("127.0.0.1:8180")), "http://localhost:8180");
        assert_eq!(origin(at("127.0.0.2:8080")), "http://127.0.0.2:8080");
        assert_eq!(origin(at("0.0.0.0:8180")), "http://localhost:8180");
        assert_eq!(
            resolver.resolve(at("127.0.0.1:8180"), "http://127.0.0.1").unwrap(),
            "http://127.0.0.1:8180"
        );
    }

    #[test]
    fn no_link_leads_to_an_address_that_callers_may_not_name() {
        let resolver = resolver(Some("127.0.0.1:8080"), &["tenants.internal", "[::1]"]);
        let origin = |route| resolver.resolve(route, "http://tenants.internal:8080");
        assert_eq!(origin(at("127.0.0.2:8080")), None);
        assert_eq!(origin(at("[::1]:8080")).as_deref(), Some("http://[::1]:8080"));
    }

    #[test]
    fn from_a_unix_socket_the_address_has_to_be_named() {
        let resolver = resolver(None, &["localhost", "127.0.0.1"]);
        assert_eq!(
            resolver.resolve(at("127.0.0.1:8080"), "http://localhost").as_deref(),
            Some("http://127.0.0.1:8080")
        );
    }
}
