//! The parsed configuration: real addresses, durations and header names, nothing left to check.

use super::access::Access;
use super::audit::Audit;
use super::caller::{Caller, UNNAMED};
use super::client::Client;
use super::fault::Fault;
use super::listener::{AdminListener, TlsSettings};
use super::route::{Route, name_of};
use super::upstream::Upstream;
use super::value::{ListenAddress, ListenerId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tracing::level_filters::LevelFilter;
use url::Url;

/// A whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Addresses to which callers connect; never empty. A [`ListenerId`] is an index of this list.
    pub listen: Vec<ListenAddress>,
    /// TLS of the listeners that have it.
    pub tls: BTreeMap<ListenerId, TlsSettings>,
    /// Threads that serve requests; at least one.
    pub workers: usize,
    /// The callers that may connect, and what they must present.
    pub access: Access,
    /// Callers with names. If there is one, nobody else may send requests.
    pub callers: Vec<Caller>,
    /// The audit log, if there is one.
    pub audit: Option<Audit>,
    /// Limits of concurrent requests.
    pub limits: Limits,
    /// The listener of probes and metrics.
    pub admin: AdminListener,
    /// OAuth clients.
    pub clients: Vec<Arc<Client>>,
    /// Services that requests are sent to.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Paths that are served; never empty.
    pub routes: Vec<Route>,
    /// Whether the process restricts itself to the files that it needs.
    pub sandbox: bool,
    /// Level and format of the log.
    pub log: Log,
    /// Times of a graceful end.
    pub shutdown: ShutdownTimes,
    /// The environment variables that the file refers to. Their values may be secrets.
    pub references: BTreeSet<String>,
    /// What is allowed, but is probably a mistake.
    pub warnings: Vec<Fault>,
}

impl Config {
    /// The addresses that serve a route.
    pub fn addresses_of(&self, route: &Route) -> impl Iterator<Item = &ListenAddress> {
        route.listen.iter().filter_map(|listener| self.listen.get(listener.0))
    }

    /// The URL of a listener for callers, or the path of a Unix socket. `address` is the
    /// listener's, with its real port.
    pub fn url_of(&self, listener: ListenerId, address: &ListenAddress) -> String {
        match address {
            ListenAddress::Tcp(address) => format!("{}://{address}", self.scheme_of(listener)),
            ListenAddress::Unix(_) => address.to_string(),
        }
    }

    /// The scheme of a listener's URLs.
    pub fn scheme_of(&self, listener: ListenerId) -> &'static str {
        if self.tls.contains_key(&listener) { "https" } else { "http" }
    }

    /// The name of a route in metrics and logs: its path. If a route of another listener has the
    /// same path, the route's first address precedes the path.
    pub fn name_of(&self, route: &Route) -> String {
        name_of(route, &self.routes, &self.listen)
    }

    /// Whether callers must present a credential.
    pub fn asks_for_credentials(&self) -> bool {
        !self.callers.is_empty()
            || self.access.basic.is_some()
            || self.access.api_key_file.is_some()
    }

    /// The names of all callers in metrics and logs. Without a caller with a name, there are none.
    pub fn caller_names(&self) -> impl Iterator<Item = &str> {
        let has_names = !self.callers.is_empty();
        let unnamed = has_names && self.access.files().next().is_some();
        let named = self.callers.iter().map(|caller| caller.name.as_str());
        named.chain(unnamed.then_some(UNNAMED))
    }

    /// The user ids that may connect to a Unix socket, besides that of this process.
    pub fn uids(&self) -> Vec<u32> {
        let of_callers = self.callers.iter().flat_map(|caller| &caller.uids);
        self.access.uids.iter().chain(of_callers).copied().collect()
    }

    /// The clients whose tokens a route's requests may carry.
    pub fn clients_of<'a>(&'a self, route: &'a Route) -> impl Iterator<Item = &'a Arc<Client>> {
        let of_callers = self.callers.iter().filter(|caller| caller.may_use(route));
        std::iter::once(&route.client).chain(of_callers.filter_map(|caller| caller.client.as_ref()))
    }

    /// The origin that an upstream takes from this client's key, if one does.
    pub fn pinned_origin(&self, client: &Arc<Client>) -> Option<&Url> {
        let is_of = |upstream: &&Arc<Upstream>| {
            upstream.origin_client.as_ref().is_some_and(|known| Arc::ptr_eq(known, client))
        };
        self.upstreams.iter().find(is_of).map(|upstream| &upstream.origin)
    }
}

/// Limits of concurrent requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Concurrent requests on each listener.
    pub requests: u32,
}

/// Level and format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least severe level that is written.
    pub level: LevelFilter,
    /// The form of a line.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON anywhere else.
    Auto,
    /// One JSON object per line.
    Json,
    /// Text for people.
    Text,
}

/// Times of a graceful end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownTimes {
    /// The time for which requests are still accepted while `/readyz` already answers 503.
    pub lame_duck: Duration,
    /// The time limit of requests in flight after `lame_duck`.
    pub grace: Duration,
}
