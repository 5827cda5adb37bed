//! An upstream.

use super::client::Client;
use super::transport::Transport;
use crate::secret_file::{CertificateAndKey, CertificateFiles, SecretFileError};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

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
