//! Callers with names: how each is recognized, and what it may do.

use super::access::BasicAccess;
use super::client::Client;
use super::route::{Route, RouteRef};
use super::value::ListenerId;
use crate::profile::Methods;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The name in metrics, log and audit log of the caller that `access` allows.
pub const UNNAMED: &str = "unnamed";

/// A caller with a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    /// The name in the file, in metrics and in logs.
    pub name: String,
    /// The file of its API keys.
    pub api_key_file: Option<PathBuf>,
    /// Its user name, and the file of its passwords.
    pub basic: Option<BasicAccess>,
    /// Its user ids on Unix sockets.
    pub uids: Vec<u32>,
    /// A name in its certificate.
    pub certificate: Option<CertificateName>,
    /// The routes that it may use. `None` means all of them.
    pub routes: Option<Vec<RouteRef>>,
    /// The methods that it may use. `None` means all that the route allows.
    pub methods: Option<Methods>,
    /// The client whose token its requests carry. `None` means the route's.
    pub client: Option<Arc<Client>>,
    /// Limits of its requests.
    pub limits: CallerLimits,
}

impl Caller {
    /// The files that hold its credentials.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let password_file = self.basic.as_ref().and_then(BasicAccess::password_file);
        self.api_key_file.as_deref().into_iter().chain(password_file)
    }

    /// Whether the caller may use a route.
    pub fn may_use<U>(&self, route: &Route<U>) -> bool {
        let is_named = |routes: &Vec<RouteRef>| routes.iter().any(|named| named.names(route));
        self.routes.as_ref().is_none_or(is_named) && !self.methods_on(route).is_empty()
    }

    fn methods_on<U>(&self, route: &Route<U>) -> Methods {
        self.methods.map_or(route.methods, |own| own.and(route.methods))
    }

    /// A route as this caller may use it; `None` if it may not.
    pub fn narrow(&self, route: &Route) -> Option<Route> {
        if !self.may_use(route) {
            return None;
        }
        // An unchecked batch would reach other paths with other methods.
        let is_narrow = self.routes.is_some() || self.methods.is_some();
        Some(Route {
            methods: self.methods_on(route),
            client: self.client.as_ref().unwrap_or(&route.client).clone(),
            unchecked_batches: route.unchecked_batches && !is_narrow,
            ..route.clone()
        })
    }
}

/// The index of a caller in [`Config::callers`](super::Config::callers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallerId(pub usize);

/// A name in a caller's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateName {
    /// The name.
    pub name: SubjectName,
    /// The listener whose authorities sign it. `None` if all listeners have the same ones.
    pub listener: Option<ListenerId>,
}

impl CertificateName {
    /// Whether a certificate could be that of both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let is_same = self.listener.zip(other.listener).is_none_or(|(one, other)| one == other);
        self.name == other.name && is_same
    }
}

/// A subject alternative name of a certificate (RFC 5280 section 4.2.1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectName {
    /// A URI.
    Uri(String),
    /// A DNS name, in lower case.
    Dns(String),
}

impl fmt::Display for SubjectName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(uri) => write!(formatter, "URI {uri}"),
            Self::Dns(name) => write!(formatter, "DNS name {name}"),
        }
    }
}

/// Limits of a caller's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallerLimits {
    /// Concurrent requests.
    pub requests: Option<u32>,
    /// Requests in a time.
    pub rate: Option<Rate>,
}

/// A number of requests in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The number; at least one.
    pub requests: u32,
    /// The time.
    pub period: Duration,
}

/// Formats the rate as in the configuration.
impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.period.as_secs() {
            1 => "s",
            60 => "min",
            _ => "h",
        };
        write!(formatter, "{}/{unit}", self.requests)
    }
}
