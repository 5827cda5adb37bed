//! Why the sidecar can't start, or can't go on.

use crate::credential::CredentialError;
use crate::http_client::HttpClientError;
use crate::secret_file::SecretFileError;
use crate::server::BindError;
use crate::token::oauth::SourceError;
use crate::trust::TrustError;
use std::io;

/// Why the sidecar can't start, or can't go on. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// An address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The local credential.
    #[error("access: {0}")]
    Access(#[from] SecretFileError),
    /// The system's trust anchors, when they are read once more.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A client's credential.
    #[error("client {client}: {source}")]
    Credential {
        /// The client's name.
        client: String,
        /// What is wrong.
        source: CredentialError,
    },
    /// A client's token endpoint.
    #[error("client {client}: {source}")]
    Issuer {
        /// The client's name.
        client: String,
        /// What is wrong.
        source: SourceError,
    },
    /// An upstream's trust anchors.
    #[error("upstream {upstream}: {source}")]
    Upstream {
        /// The upstream's name.
        upstream: String,
        /// What is wrong.
        source: HttpClientError,
    },
    /// A defect, found by any test.
    #[error("route {route}: its client or its upstream is not prepared; report this")]
    Unprepared {
        /// The route's path.
        route: String,
    },
    /// A thread that serves requests has ended by itself; the log says why.
    #[error("a worker ended by itself; see the log, and report this")]
    WorkerFailed,
    /// A defect, found by any test.
    #[error("cannot declare the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// No thread, no runtime.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}
