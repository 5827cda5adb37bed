//! HTTP client for bearerd's own requests: its settings, its set-up, and sending.

use super::error::HttpClientError;
use super::send_error::SendError;
use super::tls;
use super::tunnelled::Tunnelled;
use super::user_agent::USER_AGENT;
use crate::config::Transport;
use crate::forward_proxy::Destination;
use crate::keepalive;
use crate::resolver::SystemResolver;
use crate::secret_file::CertificateAndKey;
use reqwest::{RequestBuilder, Response};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Settings of an HTTP client.
#[derive(Debug)]
pub(crate) struct HttpClientOptions<'a> {
    /// The server. If its URL is https, requests in cleartext are refused.
    pub(crate) url: &'a Url,
    /// Settings of the connection to the server.
    pub(crate) transport: &'a Transport,
    /// The client certificate.
    pub(crate) certificate: Option<&'a CertificateAndKey>,
    /// Timeout of a connection with its TLS handshake.
    pub(crate) connect: Duration,
    /// Timeout from the first byte sent to the last byte received.
    pub(crate) whole: Duration,
    /// The largest number of idle connections that are kept. Zero if requests are minutes apart,
    /// because a kept connection would often be dead by then.
    pub(crate) kept: usize,
}

/// HTTP client. It follows no redirect, which could carry a credential to a server that is not
/// configured, and uses no other proxy than the configured one.
#[derive(Clone)]
pub(crate) struct HttpClient {
    /// Builds all requests, and sends those that use no proxy.
    library: reqwest::Client,
    tunnelled: Option<Arc<Tunnelled>>,
}

/// Shows no keys and no credentials.
impl fmt::Debug for HttpClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("HttpClient")
    }
}

impl HttpClient {
    /// Sets up a client. Nothing is sent yet.
    ///
    /// # Errors
    /// The trust anchors, the certificate or the proxy's credentials can't be used.
    pub(crate) fn new(options: &HttpClientOptions<'_>) -> Result<Self, HttpClientError> {
        let tls = match options.url.scheme() {
            "https" => Some(tls::client_config(options.transport, options.certificate)?),
            _ => None,
        };
        Self::with(options, tls)
    }

    /// Sets up a client for a server with exactly this certificate.
    ///
    /// # Errors
    /// As before.
    pub(crate) fn pinned(
        options: &HttpClientOptions<'_>,
        certificate: CertificateDer<'static>,
    ) -> Result<Self, HttpClientError> {
        Self::with(options, Some(tls::pinned_config(certificate)))
    }

    fn with(
        options: &HttpClientOptions<'_>,
        tls: Option<ClientConfig>,
    ) -> Result<Self, HttpClientError> {
        let builder = match &tls {
            Some(tls) => {
                reqwest::Client::builder().https_only(true).tls_backend_preconfigured(tls.clone())
            }
            // Cleartext needs no trust anchors.
            None => reqwest::Client::builder().tls_certs_only([]),
        };
        let tunnelled = match options.transport.proxy.proxy_for(options.url).zip(tls) {
            Some((proxy, tls)) => Some(Arc::new(Tunnelled {
                proxy: (proxy.host.clone(), proxy.port),
                destination: Destination::new(options.url, proxy)?,
                server: options.url.clone(),
                tls: Arc::new(tls),
                connect: options.connect,
                whole: options.whole,
            })),
            None => None,
        };
        let library = builder
            // Keeps the library from using the proxy of the environment.
            .no_proxy()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(SystemResolver::instead(&options.transport.connect_to))
            .connect_timeout(options.connect)
            .timeout(options.whole)
            .tcp_keepalive(keepalive::PROBE_AFTER)
            .tcp_keepalive_interval(keepalive::PROBE_EVERY)
            .tcp_keepalive_retries(keepalive::PROBES)
            .tcp_user_timeout(keepalive::LONGEST)
            .pool_max_idle_per_host(options.kept)
            .build()
            .map_err(HttpClientError::Tls)?;
        Ok(Self { library, tunnelled })
    }

    /// Starts a GET request, for [`HttpClient::send`].
    pub(crate) fn get(&self, url: Url) -> RequestBuilder {
        self.library.get(url)
    }

    /// Starts a POST request, for [`HttpClient::send`].
    pub(crate) fn post(&self, url: Url) -> RequestBuilder {
        self.library.post(url)
    }

    /// Sends a request, and waits for the header of its answer.
    ///
    /// # Errors
    /// There is no answer.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, SendError> {
        let request = request.build().map_err(SendError::Library)?;
        match &self.tunnelled {
            Some(tunnelled) => tunnelled.send(request).await,
            None => self.library.execute(request).await.map_err(SendError::Library),
        }
    }
}
