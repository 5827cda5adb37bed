//! Causes of failed requests, in words that a person can act on.

use crate::error::ErrorKind;
use crate::metrics::labels::RequestOutcome;
use http::StatusCode;
use serde::{Serialize, Serializer};
use std::fmt;
use std::time::Duration;

/// The time after which a caller that leaves without an answer counts as one that gave up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a request failed that was to go to the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The tenant answered with this status: 5xx, 401 or 403.
    Answer(u16),
    /// The tenant did not answer, or with a login page.
    Kind(CauseKind),
}

/// A cause without a status of the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CauseKind {
    /// No connection.
    Unreachable,
    /// No trusted TLS.
    Tls,
    /// No answer in time.
    Timeout,
    /// The forward proxy did not connect.
    Proxy,
    /// A login page instead of data.
    LoginPage,
    /// The answer broke off.
    Incomplete,
    /// The caller gave up before there was an answer.
    GivenUp,
    /// There was no token.
    NoToken,
    /// The issuer refuses the client.
    Refused,
}

impl Cause {
    /// Returns the cause of a failure. `None` if the request did not fail, or not on the way to the
    /// tenant.
    pub(crate) const fn of(
        status: Option<StatusCode>,
        outcome: RequestOutcome,
        took: Duration,
    ) -> Option<Self> {
        let kind = match (outcome, status) {
            // Also if the caller left before the answer's end: the tenant has answered.
            (RequestOutcome::Forwarded | RequestOutcome::DownstreamClosed, Some(status)) => {
                return match status.as_u16() {
                    code @ (401 | 403 | 500..=599) => Some(Self::Answer(code)),
                    _ => None,
                };
            }
            (RequestOutcome::DownstreamClosed, None) if took.as_secs() >= PATIENCE.as_secs() => {
                CauseKind::GivenUp
            }
            (
                RequestOutcome::Forwarded
                | RequestOutcome::DownstreamClosed
                | RequestOutcome::Aborted,
                _,
            ) => return None,
            (RequestOutcome::UpstreamIncomplete, _) => CauseKind::Incomplete,
            (RequestOutcome::Local(kind), _) => match kind {
                ErrorKind::UpstreamUnreachable => CauseKind::Unreachable,
                ErrorKind::UpstreamTls => CauseKind::Tls,
                ErrorKind::UpstreamTimeout => CauseKind::Timeout,
                ErrorKind::UpstreamProxy => CauseKind::Proxy,
                ErrorKind::LoginPage => CauseKind::LoginPage,
                ErrorKind::TokenUnavailable => CauseKind::NoToken,
                ErrorKind::CredentialRejected => CauseKind::Refused,
                _ => return None,
            },
        };
        Some(Self::Kind(kind))
    }

    /// Whether the token is missing, which the client's own state says already.
    pub(crate) const fn is_about_token(self) -> bool {
        matches!(self, Self::Kind(CauseKind::NoToken | CauseKind::Refused))
    }

    /// Returns what to do.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Answer(401) => {
                "do token_url and url belong to the same tenant? `bearerd doctor` shows the token's zone"
            }
            Self::Answer(403) => "check the roles and scopes of the OAuth client in the tenant",
            Self::Answer(503) => {
                "the tenant is overloaded or in maintenance: see SAP's status page, and retry later"
            }
            Self::Answer(_) => {
                "the tenant fails: see SAP's status page, or report it with a correlation id"
            }
            Self::Kind(CauseKind::Unreachable) => {
                "check the upstream's url, the DNS and the network; `bearerd doctor` tries each step"
            }
            Self::Kind(CauseKind::Tls) => {
                "check the upstream's ca_file and this machine's clock; `bearerd doctor` shows the certificate"
            }
            Self::Kind(CauseKind::GivenUp) => {
                "the tenant is slow or hangs: give the tool a longer timeout, or report it to SAP"
            }
            Self::Kind(CauseKind::Timeout) => {
                "the tenant is slow: raise timeouts.read for long queries, or report it to SAP"
            }
            Self::Kind(CauseKind::Proxy) => "check the forward proxy and its credentials",
            Self::Kind(CauseKind::LoginPage) => {
                "the tenant does not accept the token on this path: check the purpose of the OAuth client"
            }
            Self::Kind(CauseKind::Incomplete) => {
                "the tenant, or a proxy on the way, broke off its answers: look for time or size limits"
            }
            Self::Kind(CauseKind::NoToken | CauseKind::Refused) => "see the OAuth client",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(status) => write!(formatter, "{status} from the tenant"),
            Self::Kind(kind) => formatter.write_str(match kind {
                CauseKind::Unreachable => "the tenant cannot be reached",
                CauseKind::Tls => "no trusted TLS connection to the tenant",
                CauseKind::Timeout => "the tenant did not answer in time",
                CauseKind::Proxy => "the forward proxy did not connect",
                CauseKind::LoginPage => "the tenant answers with a login page",
                CauseKind::Incomplete => "the tenant broke off its answer",
                CauseKind::GivenUp => "no answer before the caller gave up",
                CauseKind::NoToken => "no usable token",
                CauseKind::Refused => "the issuer refuses the OAuth client",
            }),
        }
    }
}

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
