//! The parsed configuration: real addresses, durations and header names, nothing left to check.

use super::access::{Access, BasicAccess, CallerLimits, CertificateName, UNNAMED};
use super::fault::Fault;
use super::listener::{AdminListener, TlsSettings};
use super::value::{ListenAddress, ListenerId, TlsVersion};
use crate::credential::CredentialSource;
use crate::forward_proxy::{ForwardProxy, ProxyChoice};
use crate::profile::{Methods, Profile};
use crate::secret_file::{CertificateAndKey, CertificateFiles, SecretFileError};
use http::{HeaderName, HeaderValue};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
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

/// An OAuth client at an issuer.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// The name in the file, in metrics and in logs.
    pub name: String,
    /// The source of the client's identity: token endpoint, id and credential.
    pub source: CredentialSource,
    /// Scopes to request. Without them, the key's scopes, or else all scopes of the client.
    pub scope: Option<String>,
    /// Additional parameters of the token request.
    pub token_params: Vec<(String, String)>,
    /// The day on which the OAuth client itself expires, if the configuration names it.
    pub expires_on: Option<SystemTime>,
    /// Fraction of a token's lifetime after which the next token is fetched.
    pub refresh_at: f64,
    /// The longest time a request waits for a usable token.
    pub wait: Duration,
    /// TLS and forward proxy on the way to the token endpoint.
    pub transport: Transport,
}

/// A service that requests are sent to.
///
/// Until [`Draft::resolve`](super::Draft::resolve) the origin may be unknown, and `O` is `()`.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream<O = Url> {
    /// The name in the file.
    pub name: String,
    /// Scheme, host and port; the host is never empty.
    pub origin: O,
    /// The client whose key names the origin, if the configuration does not state it. That client's
    /// tokens must not go to another origin.
    pub origin_client: Option<Arc<Client>>,
    /// Timeouts of requests and connections.
    pub timeouts: Timeouts,
    /// Limit of concurrent requests, if there is one.
    pub in_flight: Option<InFlightLimits>,
    /// Path where CSRF tokens are fetched, if bearerd manages them; begins with `/`.
    pub csrf_fetch_path: Option<String>,
    /// TLS and forward proxy on the way to the upstream.
    pub transport: Transport,
    /// Whether bearerd offers HTTP/2.
    pub http2: bool,
    /// Files of bearerd's certificate chain and private key for mutual TLS, PEM.
    pub certificate: Option<CertificateFiles>,
}

impl Upstream {
    /// Files whose content decides how the upstream is reached.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let certificate = self.certificate.iter().flat_map(CertificateFiles::paths);
        self.transport.files().chain(certificate)
    }

    /// Reads the certificate chain and the private key for mutual TLS, PEM.
    pub(crate) fn read_certificate(&self) -> Result<Option<CertificateAndKey>, SecretFileError> {
        self.certificate.as_ref().map(CertificateFiles::read).transpose()
    }
}

/// TLS and forward proxy on the way to a server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transport {
    /// File of additional trust anchors, PEM.
    pub ca_file: Option<PathBuf>,
    /// The lowest version of TLS.
    pub min_tls: TlsVersion,
    /// The forward proxy, if there is one.
    pub proxy: ProxyChoice,
    /// Names and addresses to connect to, instead of the URL's host. TLS is verified for that host.
    pub connect_to: Vec<String>,
}

impl Transport {
    /// Files whose content decides how the server is reached.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let credentials = self.proxy.proxy().and_then(ForwardProxy::credentials_file);
        self.ca_file.as_deref().into_iter().chain(credentials)
    }
}

/// Limit of concurrent requests to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlightLimits {
    /// The largest number of requests in flight; at least one.
    pub most: usize,
    /// The largest number of requests in the queue.
    pub queue: usize,
    /// The longest time a request waits in the queue.
    pub wait: Duration,
}

/// Timeouts of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The time limit for opening the TCP connection, and again for the TLS handshake.
    pub connect: Duration,
    /// The longest pause between two reads of the response.
    pub read: Duration,
    /// The longest pause between two writes of the request.
    pub write: Duration,
    /// The longest time an unused connection is kept open.
    pub idle: Duration,
}

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
    /// The upstream to which requests are sent: one of [`Config::upstreams`].
    pub upstream: U,
    /// The client whose token is injected: one of [`Config::clients`].
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

/// Limits of concurrent requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Concurrent requests on each listener.
    pub requests: u32,
}

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

/// The audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Where it is written.
    pub target: AuditTarget,
    /// The routes that are audited. `None` means all of them.
    pub routes: Option<Vec<RouteRef>>,
    /// Whether a write waits until its line is on the disk.
    pub sync: bool,
    /// The length of a file, after which another one begins.
    pub max_size: u64,
    /// What happens to a write whose line can't be written.
    pub on_failure: OnAuditFailure,
}

/// Where the audit log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditTarget {
    /// Files in this folder.
    Folder(PathBuf),
    /// Standard error.
    Stderr,
}

/// What happens to a write whose line in the audit log can't be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnAuditFailure {
    /// It is refused.
    Refuse,
    /// It is sent, with a warning in the log.
    Warn,
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

/// The name of one of these routes.
pub(super) fn name_of<U>(route: &Route<U>, all: &[Route<U>], listen: &[ListenAddress]) -> String {
    let is_shared = all.iter().filter(|other| other.path == route.path).count() > 1;
    let address = route.listen.first().and_then(|listener| listen.get(listener.0));
    match address.filter(|_| is_shared) {
        Some(address) => format!("{address}{}", route.path),
        None => route.path.clone(),
    }
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

impl Upstream<()> {
    /// The upstream with its origin. If there is a `client`, its key names the origin.
    pub(super) fn at(self, origin: Url, client: Option<Arc<Client>>) -> Upstream {
        let Self {
            name, timeouts, in_flight, csrf_fetch_path, transport, http2, certificate, ..
        } = self;
        Upstream {
            name,
            origin,
            origin_client: client,
            timeouts,
            in_flight,
            csrf_fetch_path,
            transport,
            http2,
            certificate,
        }
    }
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
