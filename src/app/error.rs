//! Why the sidecar can't start, or can't go on.

use super::caller_credentials::CredentialsError;
use crate::audit::AuditError;
use crate::credential::CredentialError;
use crate::http_client::HttpClientError;
use crate::listener_tls::ListenerTlsError;
use crate::server::{BindError, InheritError};
use crate::token::oauth::SourceError;
use crate::trust::TrustError;
use std::io;

/// An error that ends the sidecar, or keeps it from starting.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// An address can't be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A socket of the service manager can't be used.
    #[error(transparent)]
    Inherit(#[from] InheritError),
    /// The certificate of a listener can't be used.
    #[error("{key}: {source}")]
    ListenerTls {
        /// The key of the listener in the configuration.
        key: &'static str,
        /// What is wrong.
        source: ListenerTlsError,
    },
    /// The credentials of callers can't be read, or two callers have the same one.
    #[error(transparent)]
    Callers(#[from] CredentialsError),
    /// The audit log can't be written.
    #[error("audit: {0}")]
    Audit(#[from] AuditError),
    /// The system's trust anchors can't be read again.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A client's credential can't be read.
    #[error("client {client}: {source}")]
    Credential {
        /// The client's name.
        client: String,
        /// What is wrong.
        source: CredentialError,
    },
    /// A client's token endpoint can't be used.
    #[error("client {client}: {source}")]
    Issuer {
        /// The client's name.
        client: String,
        /// What is wrong.
        source: SourceError,
    },
    /// An upstream can't be set up.
    #[error("upstream {upstream}: {source}")]
    Upstream {
        /// The upstream's name.
        upstream: String,
        /// What is wrong.
        source: HttpClientError,
    },
    /// A client or an upstream of a route was not prepared: a defect.
    #[error("route {route}: its client or its upstream is not prepared; report this")]
    Unprepared {
        /// The route's path.
        route: String,
    },
    /// A worker thread has stopped unexpectedly; the log says why.
    #[error("a worker thread stopped unexpectedly; see the log for the cause, and report this")]
    WorkerFailed,
    /// Prometheus does not accept a metric: a defect.
    #[error("cannot declare the metrics: {0}; please report this")]
    Metrics(#[from] prometheus::Error),
    /// A thread or a runtime can't be started.
    #[error("cannot start: {0}; check the limits of processes and of open files")]
    System(#[from] io::Error),
}
