//! At which of our origins a caller finds a route: at the one that it uses, or at another listener's.

use super::super::guard::{Guard, name_of};
use crate::config::{ListenAddress, ListenerId, Route};
use http::HeaderValue;
use std::net::SocketAddr;
use std::sync::Arc;

/// Where a route is served, as seen from a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// On the same listener.
    Here,
    /// On another one.
    At(SocketAddr),
}

impl Door {
    /// How callers of `listener` get to a route; not at all, if it is served on other Unix sockets only:
    /// no URL leads to one.
    pub(super) fn to(
        route: &Route,
        listener: ListenerId,
        addresses: &[ListenAddress],
    ) -> Option<Self> {
        if route.listen.contains(&listener) {
            return Some(Self::Here);
        }
        first_tcp(route, addresses).map(Self::At)
    }
}

/// Knows our origins: the caller's own, and from that the other listeners'.
pub(super) struct Doorman {
    /// Knows the names that can be ours.
    guard: Arc<Guard>,
    /// The listener's address, if it is no Unix socket.
    here: Option<SocketAddr>,
    /// Our origin for callers that do not say how they reached us.
    fallback: String,
}

impl Doorman {
    pub(super) fn new(
        route: &Route,
        listener: ListenerId,
        guard: &Arc<Guard>,
        addresses: &[ListenAddress],
    ) -> Self {
        let here = addresses.get(listener.0).and_then(tcp);
        let fallback = here.or_else(|| first_tcp(route, addresses));
        let fallback = fallback.map(|address| format!("http://{address}"));
        let fallback = fallback.unwrap_or_else(|| "http://localhost".to_owned());
        Self { guard: guard.clone(), here, fallback }
    }

    /// Our origin for a caller that used this `Host`: that one, if it can be us.
    pub(super) fn own(&self, host: &HeaderValue) -> String {
        match host.to_str() {
            Ok(text) if self.guard.knows(text) => format!("http://{text}"),
            _ => self.fallback.clone(),
        }
    }

    /// The origin of a door, for callers that use `own`. The name that led them here leads to another
    /// port of this address, too. Another address has to be named; where callers may not, there is no way:
    /// at that port of this address there may be somebody else.
    pub(super) fn origin(&self, door: Door, own: &str) -> Option<String> {
        let Door::At(address) = door else {
            return Some(own.to_owned());
        };
        let is_here = self.here.is_some_and(|here| here.ip() == address.ip());
        if is_here || address.ip().is_unspecified() {
            let authority = own.strip_prefix("http://").unwrap_or(own);
            return Some(format!("http://{}:{}", name_of(authority), address.port()));
        }
        let literal = address.to_string();
        self.guard.knows(&literal).then(|| format!("http://{literal}"))
    }
}

fn tcp(address: &ListenAddress) -> Option<SocketAddr> {
    match address {
        ListenAddress::Tcp(address) => Some(*address),
        ListenAddress::Unix(_) => None,
    }
}

fn first_tcp(route: &Route, addresses: &[ListenAddress]) -> Option<SocketAddr> {
    route.listen.iter().find_map(|listener| addresses.get(listener.0).and_then(tcp))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::guard::Credential;

    fn doorman(here: Option<&str>, hosts: &[&str]) -> Doorman {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let guard = Arc::new(Guard::new(&hosts, Credential::default()));
        let here = here.map(|here| here.parse().unwrap());
        Doorman { guard, here, fallback: "http://localhost".to_owned() }
    }

    fn at(address: &str) -> Door {
        Door::At(address.parse().unwrap())
    }

    #[test]
    fn another_port_of_the_address_keeps_the_name_that_led_here() {
        let doorman = doorman(Some("127.0.0.1:8080"), &["localhost", "127.0.0.1", "127.0.0.2"]);
        let origin = |door| doorman.origin(door, "http://localhost:8080").unwrap();
        assert_eq!(origin(Door::Here), "http://localhost:8080");
        assert_eq!(origin(at("127.0.0.1:8180")), "http://localhost:8180");
        assert_eq!(origin(at("127.0.0.2:8080")), "http://127.0.0.2:8080");
        assert_eq!(origin(at("0.0.0.0:8180")), "http://localhost:8180");
        assert_eq!(
            doorman.origin(at("127.0.0.1:8180"), "http://127.0.0.1").unwrap(),
            "http://127.0.0.1:8180"
        );
    }

    #[test]
    fn no_link_leads_to_an_address_that_callers_may_not_name() {
        let doorman = doorman(Some("127.0.0.1:8080"), &["tenants.internal", "[::1]"]);
        let origin = |door| doorman.origin(door, "http://tenants.internal:8080");
        assert_eq!(origin(at("127.0.0.2:8080")), None);
        assert_eq!(origin(at("[::1]:8080")).as_deref(), Some("http://[::1]:8080"));
    }

    #[test]
    fn from_a_unix_socket_the_address_has_to_be_named() {
        let doorman = doorman(None, &["localhost", "127.0.0.1"]);
        assert_eq!(
            doorman.origin(at("127.0.0.1:8080"), "http://localhost").as_deref(),
            Some("http://127.0.0.1:8080")
        );
    }
}
