//! The library with which bearerd asks for things itself, built in one place: tokens at issuers, CSRF
//! tokens at upstreams.

mod tunnelled;

use crate::config::{TlsVersion, Transport};
use crate::forward_proxy::{Destination, TunnelError};
use crate::keepalive;
use crate::resolver::SystemResolver;
use crate::secret_file::{CertificateAndKey, SecretFileError};
use crate::trust::{self, SystemAnchors, TrustError, Verifier};
use http::StatusCode;
use reqwest::{RequestBuilder, Response};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tunnelled::Tunnelled;
use url::Url;

/// What bearerd calls itself.
const NAME: &str = concat!("bearerd/", env!("CARGO_PKG_VERSION"));

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
    Certificate(String),
    /// The certificate by which requests to the upstream prove themselves.
    #[error("cannot use the certificate and key towards the upstream: {0}; both must be PEM")]
    Pem(String),
    /// The file of a certificate, or of the forward proxy's credentials.
    #[error(transparent)]
    SecretFile(#[from] SecretFileError),
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
    /// The certificate that bearerd shows.
    pub(crate) certificate: Option<&'a CertificateAndKey>,
    /// TCP and TLS.
    pub(crate) connect: Duration,
    /// From the first byte out to the last byte in.
    pub(crate) whole: Duration,
    /// Connections kept for the next request: none where minutes lie between two, for a kept one would
    /// be a dead one.
    pub(crate) kept: usize,
}

/// Asks for things. It follows no redirect, which would carry a credential to a place nobody configured, and goes
/// through no proxy but that of the configuration.
#[derive(Clone)]
pub(crate) struct Client {
    /// Makes requests, and sends them where there is no proxy on the way.
    library: reqwest::Client,
    tunnelled: Option<Arc<Tunnelled>>,
}

/// No keys, no credentials.
impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Client")
    }
}

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What the library says.
    Library(reqwest::Error),
    /// The forward proxy did not lead there.
    Tunnel(TunnelError),
    /// It was not there in time.
    Timeout,
    /// Behind the proxy: TLS, the connection, the answer.
    Other(String),
}

impl Client {
    /// A client for these.
    pub(crate) fn new(limits: &Limits<'_>) -> Result<Self, HttpClientError> {
        let (builder, tls) = match limits.url.scheme() {
            "https" => {
                let tls = tls(limits.transport, limits.certificate)?;
                let builder = reqwest::Client::builder().https_only(true);
                (builder.tls_backend_preconfigured(tls.clone()), Some(tls))
            }
            // There is nothing to verify, and so it needs no anchors.
            _ => (reqwest::Client::builder().tls_certs_only([]), None),
        };
        let tunnelled = match limits.transport.proxy.to(limits.url).zip(tls) {
            Some((proxy, tls)) => Some(Arc::new(Tunnelled {
                proxy: (proxy.host.clone(), proxy.port),
                destination: Destination::new(limits.url, proxy)?,
                server: limits.url.clone(),
                tls: Arc::new(tls),
                connect: limits.connect,
                whole: limits.whole,
            })),
            None => None,
        };
        let library = builder
            // None is read from the environment either.
            .no_proxy()
            .user_agent(NAME)
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(SystemResolver)
            .connect_timeout(limits.connect)
            .timeout(limits.whole)
            .tcp_keepalive(keepalive::PROBE_AFTER)
            .tcp_keepalive_interval(keepalive::PROBE_EVERY)
            .tcp_keepalive_retries(keepalive::PROBES)
            .tcp_user_timeout(keepalive::LONGEST)
            .pool_max_idle_per_host(limits.kept)
            .build()
            .map_err(HttpClientError::Tls)?;
        Ok(Self { library, tunnelled })
    }

    /// A GET request, for [`Client::send`].
    pub(crate) fn get(&self, url: Url) -> RequestBuilder {
        self.library.get(url)
    }

    /// A POST request, for [`Client::send`].
    pub(crate) fn post(&self, url: Url) -> RequestBuilder {
        self.library.post(url)
    }

    /// Sends a request, and reads the header of its answer.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let request = request.build().map_err(Failure::Library)?;
        match &self.tunnelled {
            Some(tunnelled) => tunnelled.send(request).await,
            None => self.library.execute(request).await.map_err(Failure::Library),
        }
    }
}

impl Failure {
    /// What helps: "connection refused", "UnknownIssuer".
    pub(crate) fn cause(self) -> String {
        match self {
            Self::Library(error) => cause(error),
            Self::Tunnel(error) => error.to_string(),
            Self::Timeout => "no answer in time".into(),
            Self::Other(cause) => cause,
        }
    }
}

/// TLS as a client that trusts the system's anchors and those of `ca_file`, and proves itself with a certificate
/// and its key, PEM.
pub(crate) fn tls(
    transport: &Transport,
    certificate: Option<&CertificateAndKey>,
) -> Result<ClientConfig, HttpClientError> {
    let mut roots = SystemAnchors::at_hand()?.store();
    if let Some(path) = &transport.ca_file {
        roots.add_parsable_certificates(trust::read_pem(path)?);
    }
    // It can't be made without anybody to trust.
    let verifier = Verifier::new(roots).map_err(|_| TrustError::Nobody)?;
    let versions = match transport.min_tls {
        TlsVersion::V1_2 => rustls::ALL_VERSIONS,
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let builder = ClientConfig::builder_with_protocol_versions(versions)
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let Some(CertificateAndKey { chain, key }) = certificate else {
        return Ok(builder.with_no_client_auth());
    };
    let wrong = |error: &dyn Error| HttpClientError::Certificate(error.to_string());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
    let chain = chain.map_err(|error| wrong(&error))?;
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes());
    let key = key.map_err(|error| wrong(&error))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| wrong(&error))
}

/// The innermost cause, which is what helps: "connection refused", "UnknownIssuer".
pub(crate) fn cause(error: reqwest::Error) -> String {
    innermost(&error.without_url())
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    trust::words(cause).unwrap_or_else(|| cause.to_string())
}

/// How a forward proxy says no to a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelRefusal {
    /// By 407: it wants credentials, or other ones.
    Credentials,
    /// By any other status, or without a word.
    Other,
}

impl TunnelRefusal {
    /// Of a tunnel that was not opened; nothing if the proxy was not reached.
    pub(crate) fn of(error: &TunnelError) -> Option<Self> {
        match error {
            TunnelError::Connect(_) => None,
            TunnelError::Refused { status: StatusCode::PROXY_AUTHENTICATION_REQUIRED, .. } => {
                Some(Self::Credentials)
            }
            TunnelError::Refused { .. } | TunnelError::NotHttp | TunnelError::NoAnswer(_) => {
                Some(Self::Other)
            }
        }
    }
}
