//! The parsed configuration: real addresses, durations and header names, nothing left to check.
//!
//! The way here is file → `node` tree → environment and flags laid over it (`overlay`) →
//! `read`, which walks it by the tables of `file` and reports every [`Fault`] at once.

mod fault;
mod file;
mod node;
mod overlay;
mod read;
mod reference;
mod section;
mod value;

pub use fault::{Fault, Faults, Place};
pub use overlay::Flags;
pub use overlay::unknown_variables;
pub use reference::reference;
pub use value::ListenAddress;

use crate::credential::{CredentialError, Source, read_certificate};
use crate::environment::Environment;
use crate::forward_proxy::{ForwardProxy, ProxyChoice};
use crate::profile::{Methods, Profile};
use crate::secret::Secret;
use http::{HeaderName, HeaderValue};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tracing::level_filters::LevelFilter;
use url::Url;

/// Everything bearerd was told.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where applications connect; never empty. A [`ListenerId`] is an index of this list.
    pub listen: Vec<ListenAddress>,
    /// Threads that serve requests; at least one.
    pub workers: usize,
    /// Who may call.
    pub access: Access,
    /// How much at once.
    pub limits: Limits,
    /// Where probes and Prometheus connect.
    pub admin_listen: SocketAddr,
    /// OAuth clients.
    pub clients: Vec<Arc<Client>>,
    /// Services that requests are sent to.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Which requests go where; never empty.
    pub routes: Vec<Route>,
    /// Whether the process gives up what it does not need.
    pub sandbox: bool,
    /// What is logged, and how.
    pub log: Log,
    /// How the process ends.
    pub shutdown: Shutdown,
}

/// Names a listener of this configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub usize);

/// An OAuth client at an issuer.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// The name in the file, in metrics and in logs.
    pub name: String,
    /// Where its identity is kept: token endpoint, id, and what proves it.
    pub source: Source,
    /// Scopes to ask for, or those of the key, or all the client has.
    pub scope: Option<String>,
    /// More parameters of the token request.
    pub token_params: Vec<(String, String)>,
    /// When the OAuth client itself expires, where the user told.
    pub expires_on: Option<SystemTime>,
    /// Fraction of a token's lifetime after which the next is fetched.
    pub refresh_at: f64,
    /// How long a request may wait for a first token.
    pub wait: Duration,
    /// How the token endpoint is reached.
    pub transport: Transport,
    /// The origin that an upstream took from this client's key. A key that names another one is
    /// another client: its token must not go to this one.
    pub api_origin: Option<Url>,
}

/// A service behind the sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// The name in the file.
    pub name: String,
    /// Scheme, host and port; the host is never empty.
    pub origin: Url,
    /// Time-outs towards it.
    pub timeouts: Timeouts,
    /// How many requests it gets at once.
    pub in_flight: Option<InFlight>,
    /// Where CSRF tokens are fetched, if they are managed; begins with `/`.
    pub csrf_fetch_path: Option<String>,
    /// How it is reached.
    pub transport: Transport,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
    /// Certificate chain and private key by which we prove ourselves to it, PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl Upstream {
    /// The files that say how it is reached, by content.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let certificate = self.certificate.iter().flat_map(|(chain, key)| [&**chain, &**key]);
        self.transport.files().chain(certificate)
    }

    /// Reads the certificate chain and the key by which we prove ourselves, PEM.
    pub(crate) fn read_certificate(&self) -> Result<Option<(String, Secret)>, CredentialError> {
        self.certificate.as_ref().map(|(chain, key)| read_certificate(chain, key)).transpose()
    }
}

/// How a server is reached.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transport {
    /// More trust anchors, PEM.
    pub ca_file: Option<PathBuf>,
    /// The least version of TLS.
    pub min_tls: TlsVersion,
    /// The forward proxy on the way.
    pub proxy: ProxyChoice,
}

impl Transport {
    /// The files that say how, by content.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let credentials = self.proxy.proxy().and_then(ForwardProxy::credentials_file);
        self.ca_file.as_deref().into_iter().chain(credentials)
    }
}

/// A version of TLS (RFC 5246, RFC 8446).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// How many requests an upstream gets at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Under way; at least one.
    pub most: usize,
    /// Waiting for their turn.
    pub queue: usize,
    /// How long each waits.
    pub wait: Duration,
}

/// Time-outs towards an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP connection, and again the TLS handshake.
    pub connect: Duration,
    /// Between two reads.
    pub read: Duration,
    /// Between two writes.
    pub write: Duration,
    /// How long an unused connection is kept.
    pub idle: Duration,
}

/// Which requests go where.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The path as configured: begins with `/`, ends without it.
    pub path: String,
    /// Where it is served, in ascending order; never empty. On each listener, paths are unique.
    pub listen: Vec<ListenerId>,
    /// Where matching requests go: one of [`Config::upstreams`].
    pub upstream: Arc<Upstream>,
    /// The client whose token they carry: one of [`Config::clients`].
    pub client: Arc<Client>,
    /// How the API family behaves.
    pub profile: &'static Profile,
    /// What may be called; within the profile's methods.
    pub methods: Methods,
    /// Whether `path` is cut from what goes upstream.
    pub strip_path: bool,
    /// Whether links of the upstreams' are rewritten, as far as the profile goes.
    pub links: bool,
    /// Whether pages are served; elsewhere they are looked at, for they may be the login page.
    pub html: bool,
    /// Whether batches pass without a look at the requests inside of them.
    pub unchecked_batches: bool,
    /// Whether reads are sent again that the upstream has no time for.
    pub retry: Option<Retry>,
    /// Headers added to each request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// Sending a GET or HEAD again after a 429 or 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How often it is sent at most; at least two.
    pub attempts: u32,
    /// How long one request waits in all.
    pub max_wait: Duration,
}

impl Retry {
    /// No policy sends a request more often.
    pub const MOST_ATTEMPTS: u32 = 10;
}

/// Who may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// The names that callers may have in `Host`, without a port.
    pub hosts: Vec<String>,
    /// A local user name, and the file that holds its password.
    pub basic: Option<(String, PathBuf)>,
    /// The file that holds a local API key.
    pub api_key_file: Option<PathBuf>,
    /// Who may connect to a Unix socket besides this process's own user.
    pub uids: Vec<u32>,
}

/// How much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests under way.
    pub requests: u32,
}

/// What is logged, and how.
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
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// How long to accept requests while already saying "not ready".
    pub lame_duck: Duration,
    /// How long requests in flight may take after that.
    pub grace: Duration,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read {}: {source}; give the path of a configuration file with --config", path.display())]
    Unreadable {
        /// The path as given.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The content is wrong.
    #[error(transparent)]
    Faults(#[from] Faults),
}

impl Config {
    /// The addresses that a route is served on.
    pub fn addresses_of(&self, route: &Route) -> impl Iterator<Item = &ListenAddress> {
        route.listen.iter().filter_map(|listener| self.listen.get(listener.0))
    }

    /// How a route is called in metrics and logs: by its path, which another listener's route may have,
    /// too; then with its first address before it.
    pub fn name_of(&self, route: &Route) -> String {
        let namesakes = self.routes.iter().filter(|other| other.path == route.path).count();
        match self.addresses_of(route).next().filter(|_| namesakes > 1) {
            Some(address) => format!("{address}{}", route.path),
            None => route.path.clone(),
        }
    }

    /// Reads a file, or without one the environment alone.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(
        file: Option<&Path>,
        environment: &Environment,
        flags: &Flags,
    ) -> Result<Self, ConfigError> {
        let text = match file {
            Some(path) => crate::files::read_small(path)
                .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?,
            None => String::new(),
        };
        let name = file.map_or_else(String::new, |path| path.display().to_string());
        Ok(Self::parse(&name, &text, environment, flags)?)
    }

    /// Parses the text of a file. `name` is used in messages only.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn parse(
        name: &str,
        text: &str,
        environment: &Environment,
        flags: &Flags,
    ) -> Result<Self, Faults> {
        let mut tree =
            if text.trim().is_empty() { node::Node::empty_map() } else { node::parse(name, text)? };
        let mut faults = Faults::default();
        overlay::apply(&mut tree, environment, flags, &mut faults);
        read::config(&tree, environment, faults)
    }
}
