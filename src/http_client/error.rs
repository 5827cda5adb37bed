//! Errors of setting up an HTTP client.

use crate::secret_file::SecretFileError;
use crate::trust::TrustError;

/// Reason why an HTTP client can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum HttpClientError {
    /// The `ca_file` or the system's trust anchors can't be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The client certificate or its key can't be used.
    #[error(
        "cannot use the client's certificate and key: {0}; both must be PEM, and belong together"
    )]
    Certificate(String),
    /// The client certificate for the upstream, or its key, can't be used.
    #[error("cannot use the certificate and key for the upstream: {0}; both must be PEM")]
    Pem(String),
    /// The file of a certificate, or of the forward proxy's credentials, can't be used.
    #[error(transparent)]
    SecretFile(#[from] SecretFileError),
    /// The TLS library refuses the set-up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[source] reqwest::Error),
}
