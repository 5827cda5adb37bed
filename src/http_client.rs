//! The library with which bearerd asks for things itself, built in one place: tokens at issuers, CSRF
//! tokens at upstreams.

use crate::config::{TlsVersion, Transport};
use crate::credential::CredentialError;
use crate::forward_proxy::ForwardProxy;
use crate::secret::Secret;
use crate::silence;
use crate::trust::{self, SystemAnchors, TrustError};
use reqwest::{Certificate, Client, Identity, Proxy, tls};
use std::error::Error;
use std::time::Duration;
use url::Url;
use zeroize::Zeroizing;

/// A client that can't be built.
#[derive(Debug, thiserror::Error)]
pub enum HttpClientError {
    /// `ca_file` or the system's trust anchors.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The certificate by which we prove ourselves.
    #[error(
        "cannot use the client's certificate and key: {0}; both must be PEM, and fit each other"
    )]
    Certificate(#[source] reqwest::Error),
    /// The certificate by which requests to the upstream prove themselves.
    #[error("cannot use the certificate and key towards the upstream: {0}; both must be PEM")]
    Pem(String),
    /// The forward proxy.
    #[error("cannot use the forward proxy: {0}")]
    Proxy(#[source] reqwest::Error),
    /// A file that says who we are, to the server or to the forward proxy.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The TLS library refuses the set-up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[source] reqwest::Error),
}

/// One crypto provider for all users of TLS in the process; it must stand before any of them.
pub fn set_up_tls() {
    pingora::tls::install_default_crypto_provider();
}

/// What a client may do, and for how long.
#[derive(Debug)]
pub(crate) struct Limits<'a> {
    /// Whom it asks. Where that is https, cleartext is refused.
    pub(crate) url: &'a Url,
    /// How that one is reached.
    pub(crate) transport: &'a Transport,
    /// The certificate chain and private key by which we prove ourselves, PEM.
    pub(crate) certificate: Option<(&'a str, &'a Secret)>,
    /// TCP and TLS.
    pub(crate) connect: Duration,
    /// From the first byte out to the last byte in.
    pub(crate) whole: Duration,
    /// Connections kept for the next request: none where minutes lie between two, for a kept one would
    /// be a dead one.
    pub(crate) kept: usize,
}

/// Builds a client. It follows no redirect, which would carry a credential to a place nobody
/// configured, and no proxy but that of the configuration.
pub(crate) fn build(limits: &Limits<'_>) -> Result<Client, HttpClientError> {
    let Transport { ca_file, min_tls, proxy } = limits.transport;
    let anchors = match ca_file {
        Some(path) => trust::read_pem(path)?,
        None => Vec::new(),
    };
    let anchors = anchors
        .iter()
        .map(|anchor| Certificate::from_der(anchor))
        .collect::<Result<Vec<_>, _>>()
        .map_err(HttpClientError::Tls)?;
    let builder = match limits.certificate {
        Some((chain, key)) => {
            let both = Zeroizing::new(format!("{}\n{}", key.expose(), chain));
            let identity = Identity::from_pem(both.as_bytes());
            Client::builder().identity(identity.map_err(HttpClientError::Certificate)?)
        }
        None => Client::builder(),
    };
    // Without a proxy of ours, none is read from the environment either.
    let builder = match proxy.to(limits.url) {
        Some(proxy) => builder.proxy(tunnel(proxy)?),
        None => builder.no_proxy(),
    };
    let has_own = !anchors.is_empty();
    let builder = match limits.url.scheme() {
        "https" => builder.https_only(true).tls_certs_merge(anchors),
        // There is nothing to verify, and so it needs no anchors.
        _ => builder.tls_certs_only(anchors),
    };
    let built = builder
        .user_agent(concat!("bearerd/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .tls_version_min(match min_tls {
            TlsVersion::V1_2 => tls::Version::TLS_1_2,
            TlsVersion::V1_3 => tls::Version::TLS_1_3,
        })
        .connect_timeout(limits.connect)
        .timeout(limits.whole)
        .tcp_keepalive(silence::PROBE_AFTER)
        .tcp_keepalive_interval(silence::PROBE_EVERY)
        .tcp_keepalive_retries(silence::PROBES)
        .tcp_user_timeout(silence::LONGEST)
        .pool_max_idle_per_host(limits.kept)
        .build();
    built.map_err(|error| {
        let is_of_trust = format!("{error:?}").contains("CA certificates");
        match is_of_trust && !has_own && SystemAnchors::load().is_empty() {
            true => TrustError::Nobody.into(),
            false => HttpClientError::Tls(error),
        }
    })
}

/// A proxy that is asked for tunnels.
fn tunnel(proxy: &ForwardProxy) -> Result<Proxy, HttpClientError> {
    let proxied = Proxy::https(format!("http://{}", proxy.authority()));
    let proxied = proxied.map_err(HttpClientError::Proxy)?;
    Ok(match proxy.authorization()? {
        Some(authorization) => proxied.custom_http_auth(authorization),
        None => proxied,
    })
}

/// The innermost cause, which is what helps: "connection refused", "UnknownIssuer".
pub(crate) fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// How a forward proxy says no to a tunnel, as far as the library tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelRefusal {
    /// By 407: it wants credentials, or other ones.
    Credentials,
    /// By any other status, or without a word.
    Other,
}

impl TunnelRefusal {
    /// Of a request whose innermost [`cause`] is told like this.
    pub(crate) fn of(cause: &str) -> Option<Self> {
        Some(match cause.strip_prefix("tunnel error: ")? {
            "proxy authorization required" => Self::Credentials,
            _ => Self::Other,
        })
    }
}
