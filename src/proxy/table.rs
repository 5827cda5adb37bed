//! The routing table: which route a request takes, and whose rights it has there.

use super::caller::CallerHandle;
use super::credentials::Who;
use super::guard::Guard;
use super::problem::Problem;
use super::route::{Router, TargetError, leaves_authority};
use super::route_handle::{RouteHandle, SharedRoute, TableParts, shared};
use crate::config::{CallerId, CallerLimits, ListenAddress, ListenerId, UNNAMED};
use crate::error::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

/// The routes of one configuration. A reload replaces the table; a request keeps the route that it
/// started with.
pub struct Table {
    pub(super) guard: Arc<Guard>,
    /// Limit of concurrent requests on a listener.
    pub(super) limit: i64,
    /// Listeners in the configuration's order.
    listeners: Vec<Served>,
    /// Callers in the configuration's order.
    callers: Vec<Arc<CallerHandle>>,
    /// The caller without a name, if there are callers with names.
    unnamed: Option<Arc<CallerHandle>>,
}

/// The largest number of routes that an answer lists.
const MOST_LISTED: usize = 8;

/// The routes of one listener.
struct Served {
    address: ListenAddress,
    router: Router,
    routes: Vec<Arc<RouteHandle>>,
    /// The routes as each caller with a name may use them, in the order of `routes`.
    of_callers: Vec<Vec<Option<Arc<RouteHandle>>>>,
}

impl Table {
    /// Puts routes, clients, upstreams and callers together. The callers continue those of
    /// `before`: they keep what they have used of their limits.
    pub fn new(parts: &TableParts<'_>, before: Option<&Self>) -> Self {
        let shared = shared(parts);
        let served = |(index, address): (usize, &ListenAddress)| {
            let listener = ListenerId(index);
            let is_served = |route: &&SharedRoute| route.parts.config.listen.contains(&listener);
            let on_listener: Vec<_> = shared.iter().filter(is_served).collect();
            let routes = on_listener.iter().map(|route| Arc::new(route.handle(parts, listener)));
            let routes: Vec<_> = routes.collect();
            let of_caller = |caller: usize| {
                let routes = on_listener.iter().zip(&routes);
                let handle =
                    |(route, whole): (&&SharedRoute, _)| route.handle_of(caller, whole, parts);
                routes.map(handle).collect()
            };
            let of_callers = (0..parts.config.callers.len()).map(of_caller).collect();
            let router = Router::new(routes.iter().map(|route| route.config.path.as_str()));
            Served { address: address.clone(), router, routes, of_callers }
        };
        let callers = &parts.config.callers;
        let before = |name: &str| before.and_then(|before| before.caller_named(name));
        let handle = |name: &str, limits: CallerLimits| {
            let (metrics, traffic) = (parts.metrics.caller(name), parts.traffic.caller(name));
            Arc::new(CallerHandle::new(name, limits, metrics, traffic, before(name)))
        };
        Self {
            guard: parts.guard.clone(),
            limit: parts.config.limits.requests.into(),
            listeners: parts.addresses.iter().enumerate().map(served).collect(),
            callers: callers.iter().map(|caller| handle(&caller.name, caller.limits)).collect(),
            unnamed: parts
                .config
                .caller_names()
                .find(|name| *name == UNNAMED)
                .map(|name| handle(name, CallerLimits::default())),
        }
    }

    /// Whether an address is one of this sidecar's own listeners.
    pub(super) fn is_own(&self, address: SocketAddr) -> bool {
        let address = reached(address);
        self.listeners.iter().any(|served| match &served.address {
            ListenAddress::Tcp(own) if own.port() == address.port() => {
                reached(*own) == address || own.ip().is_unspecified() && is_of_this_machine(address)
            }
            _ => false,
        })
    }

    /// The caller; `None` if no caller has a name.
    pub(super) fn caller(&self, who: Option<Who>) -> Option<&Arc<CallerHandle>> {
        match who? {
            Who::Unnamed => self.unnamed.as_ref(),
            Who::Named(CallerId(index)) => self.callers.get(index),
        }
    }

    fn caller_named(&self, name: &str) -> Option<&CallerHandle> {
        let mut all = self.callers.iter().chain(&self.unnamed);
        all.find(|caller| caller.name == name).map(|caller| &**caller)
    }

    /// The route of a request to this listener, as its caller may use it.
    ///
    /// # Errors
    /// The answer to a request without a route, or whose caller may not use it.
    pub(super) fn find(
        &self,
        listener: ListenerId,
        caller: Option<CallerId>,
        target: &[u8],
    ) -> Result<Arc<RouteHandle>, Problem> {
        let served = self.listeners.get(listener.0);
        let found = served.map_or(Ok(None), |served| served.find(target));
        let found = found.map_err(|why| Problem::new(ErrorKind::BadRequest, why.to_string()))?;
        if let Some((served, index)) = served.zip(found) {
            let route = served.route(index, caller);
            return route.cloned().ok_or_else(|| self.not_allowed(served, caller));
        }
        Err({
            let elsewhere =
                self.listeners.iter().find(|served| matches!(served.find(target), Ok(Some(_))));
            let detail = match elsewhere {
                Some(served) => {
                    format!("this path is not served on this listener, only on {}", served.address)
                }
                None => "this sidecar has no route for this path".to_owned(),
            };
            let listed = served.and_then(|served| served.listed(caller));
            let listed = listed.unwrap_or_else(|| "`bearerd check` lists the routes".to_owned());
            let detail =
                format!("{detail}; {listed}; correct the path in the tool, or add a route");
            Problem::new(ErrorKind::NoRoute, detail)
        })
    }

    /// The answer to a caller that may not use a route.
    fn not_allowed(&self, served: &Served, caller: Option<CallerId>) -> Problem {
        // Only a caller with a name has fewer routes.
        let caller_handle = caller.and_then(|CallerId(index)| self.callers.get(index));
        let name = caller_handle.map_or("", |caller| caller.name.as_str());
        let listed = served
            .listed(caller)
            .unwrap_or_else(|| "`bearerd check` lists what each caller may do".to_owned());
        let detail = format!(
            "caller {name} may not use the route of this path; {listed}; correct the path in the tool, or allow more in `callers.{name}` of bearerd's configuration"
        );
        Problem::new(ErrorKind::CallerNotAllowed, detail)
    }
}

impl Served {
    /// A route as a caller may use it.
    fn route(&self, index: usize, caller: Option<CallerId>) -> Option<&Arc<RouteHandle>> {
        match caller {
            None => self.routes.get(index),
            Some(CallerId(caller)) => self.of_callers.get(caller)?.get(index)?.as_ref(),
        }
    }

    /// Names the routes of a caller, unless other machines reach this listener.
    fn listed(&self, caller: Option<CallerId>) -> Option<String> {
        let is_local = match &self.address {
            ListenAddress::Tcp(address) => address.ip().is_loopback(),
            ListenAddress::Unix(_) => true,
        };
        let routes = (0..self.routes.len()).filter_map(|index| self.route(index, caller));
        let paths: Vec<_> = routes.map(|route| route.config.path.as_str()).collect();
        if paths.is_empty() {
            return Some("it has no route on this listener".to_owned()).filter(|_| is_local);
        }
        let more = paths.len().saturating_sub(MOST_LISTED);
        let paths = paths.get(..paths.len() - more).unwrap_or_default();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        is_local.then(|| format!("its routes are {}{more}", paths.join(", ")))
    }

    /// The position of the route of a target.
    fn find(&self, target: &[u8]) -> Result<Option<usize>, TargetError> {
        let found = self.router.find(target)?;
        let route = found.and_then(|index| self.routes.get(index));
        if route.is_some_and(|route| route.cut > 0 && leaves_authority(target, route.cut)) {
            return Err(TargetError::Authority);
        }
        Ok(found)
    }
}

/// The address that a connection to this one reaches: the machine itself for "all addresses", and
/// that of IPv4 for one that is mapped into IPv6.
fn reached(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Whether an address belongs to this machine: then packets to it come from it.
fn is_of_this_machine(address: SocketAddr) -> bool {
    if address.ip().is_loopback() {
        return true;
    }
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Connecting a UDP socket sends nothing.
    let from = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(address)?;
        socket.local_addr()
    });
    from.is_ok_and(|from| from.ip() == address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_known_in_each_of_its_forms() {
        for (text, is_reached) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::ffff:127.0.0.1]:8080", "127.0.0.1:8080"),
            ("[::ffff:0.0.0.0]:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("10.0.0.1:1", "10.0.0.1:1"),
        ] {
            assert_eq!(reached(text.parse().unwrap()), is_reached.parse().unwrap(), "{text}");
        }
    }
}
