//! Errors of sending a request.

use crate::forward_proxy::TunnelError;
use crate::trust;
use http::StatusCode;
use std::error::Error;

/// Reason why a request has no answer.
#[derive(Debug)]
pub(crate) enum SendError {
    /// An error of the HTTP library.
    Library(reqwest::Error),
    /// The forward proxy did not open a tunnel.
    Tunnel(TunnelError),
    /// The answer did not arrive in time.
    Timeout,
    /// An error inside the tunnel: TLS, the connection or the answer.
    InTunnel(String),
}

impl SendError {
    /// An error inside the tunnel.
    pub(super) fn in_tunnel(error: &(dyn Error + 'static)) -> Self {
        Self::InTunnel(innermost(error))
    }

    /// Returns the innermost cause, for example "connection refused" or "UnknownIssuer".
    pub(crate) fn cause(self) -> String {
        match self {
            Self::Library(error) => innermost(&error.without_url()),
            Self::Tunnel(error) => error.to_string(),
            Self::Timeout => "no answer in time".into(),
            Self::InTunnel(cause) => cause,
        }
    }
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    trust::explanation(cause).unwrap_or_else(|| trust::plain(&cause.to_string()).to_owned())
}

/// Reason why a forward proxy refused a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelRefusal {
    /// Status 407: the credentials are missing or wrong.
    Credentials,
    /// Another status, an invalid answer, or none.
    Other,
}

impl TunnelRefusal {
    /// Returns the reason, or `None` if the proxy was not reached.
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
