//! Errors of sending a request.

use crate::forward_proxy::TunnelError;
use crate::no_answer::NoAnswer;
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
    InTunnel(NoAnswer),
}

impl SendError {
    /// An error inside the tunnel.
    pub(super) fn in_tunnel(error: &(dyn Error + 'static)) -> Self {
        Self::InTunnel(NoAnswer::of(error))
    }

    /// Returns why the server did not answer, unless the forward proxy refused.
    pub(crate) fn failure(&self) -> Option<NoAnswer> {
        Some(match self {
            Self::Library(error) if error.is_timeout() && error.is_connect() => {
                NoAnswer::ConnectTimeout
            }
            Self::Library(error) if error.is_timeout() => NoAnswer::ReadTimeout,
            Self::Library(error) => NoAnswer::of(error),
            Self::Tunnel(TunnelError::Connect(error)) => {
                NoAnswer::Proxy(Box::new(NoAnswer::of(error)))
            }
            Self::Tunnel(_) => return None,
            Self::Timeout => NoAnswer::ReadTimeout,
            Self::InTunnel(failure) => failure.clone(),
        })
    }

    /// Returns what the server did, as the end of a sentence that begins with its name.
    pub(crate) fn predicate(&self) -> String {
        match (self.failure(), self) {
            (Some(failure), _) => failure.predicate(),
            (None, Self::Tunnel(error)) => format!("was not reached: {error}"),
            (None, _) => "did not answer".to_owned(),
        }
    }
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
