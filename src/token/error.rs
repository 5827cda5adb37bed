//! Failures of token requests: which of them are retried, and how.

use super::retry::RetryClass;
use crate::error::ErrorKind;
use crate::http_client::TunnelRefusal;
use crate::metrics::labels::TokenRequestOutcome;
use crate::no_answer::NoAnswer;
use http::StatusCode;
use std::time::Duration;

/// The beginning of the message that the issuer does not accept the client or its credential.
pub const REFUSED: &str = "the issuer refuses the client";

/// A failed token request. Messages never hold a secret, a token or an issuer's whole answer.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No connection: name, network, TLS.
    #[error("the token endpoint {}", .0.predicate())]
    Connect(NoAnswer),
    /// The forward proxy refused the tunnel.
    #[error("the forward proxy refused to connect to the token endpoint")]
    Proxy(TunnelRefusal),
    /// No whole answer in time.
    #[error("the token endpoint {}", .0.predicate())]
    Timeout(NoAnswer),
    /// 429.
    #[error("the issuer limits the rate of token requests (429)")]
    RateLimited {
        /// The answer's `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// 408 and 5xx.
    #[error("the issuer cannot answer now ({status})")]
    Server {
        /// The answer's status.
        status: StatusCode,
        /// The answer's `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// 400, 401 and 403: the issuer does not accept the client or its credential.
    #[error("{REFUSED} ({status}{reason})", REFUSED = REFUSED)]
    Refused {
        /// The answer's status.
        status: StatusCode,
        /// The issuer's own words, for example ", invalid_client: Bad credentials", or nothing.
        reason: String,
    },
    /// Any other status: the server is not a token endpoint.
    #[error("the server of token_url answered {status}: it is no token endpoint")]
    NotAnIssuer {
        /// The answer's status.
        status: StatusCode,
    },
    /// A status of success without a usable token.
    #[error("the issuer's answer holds no usable token: {0}")]
    Invalid(InvalidAnswer),
    /// The source panicked: a defect in bearerd.
    #[error("the token source failed; please report this")]
    Panicked,
}

/// Fault in a token answer whose status is one of success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAnswer {
    /// More than 64 KiB.
    #[error("it is larger than 64 KiB")]
    TooLarge,
    /// A compression that was not requested and that bearerd does not know, or broken data.
    #[error("it is compressed, which was not requested, and cannot be decompressed")]
    Encoding,
    /// HTML of a login page or of a corporate proxy, or anything else that is not a JSON object.
    #[error("it is not a JSON object")]
    NotJson,
    /// No `access_token`, or one that is empty or not text.
    #[error("`access_token` is missing or empty")]
    NoAccessToken,
    /// Characters that no header may carry.
    #[error("`access_token` holds characters that a bearer token cannot have")]
    NotABearerToken,
    /// A token type that bearerd does not know, and so must not use (RFC 6749 section 7.1).
    #[error("`token_type` is not bearer")]
    TokenType,
    /// Zero, negative or not a number.
    #[error("`expires_in` is not a positive number")]
    Lifetime,
    /// A token that has expired by the issuer's clock and by the local one.
    #[error("its token has expired already")]
    Expired,
}

impl TokenError {
    /// Returns the outcome of the request, as a label.
    pub const fn outcome(&self) -> TokenRequestOutcome {
        match self {
            Self::Connect(_) => TokenRequestOutcome::ConnectError,
            Self::Proxy(_) => TokenRequestOutcome::ProxyRefused,
            Self::Timeout(_) => TokenRequestOutcome::Timeout,
            Self::RateLimited { .. } => TokenRequestOutcome::RateLimited,
            Self::Server { .. } => TokenRequestOutcome::ServerError,
            Self::Refused { .. } => TokenRequestOutcome::Refused,
            Self::NotAnIssuer { .. } => TokenRequestOutcome::NotAnIssuer,
            Self::Invalid(_) => TokenRequestOutcome::InvalidAnswer,
            Self::Panicked => TokenRequestOutcome::Panicked,
        }
    }

    /// Returns how the request is retried. Every failure is; the class decides how soon.
    pub fn retry_class(&self) -> RetryClass {
        match self {
            Self::Connect(_) | Self::Timeout(_) => RetryClass::Connection,
            Self::RateLimited { retry_after } => RetryClass::RateLimited(*retry_after),
            Self::Server { retry_after: Some(asked), .. } => RetryClass::RateLimited(Some(*asked)),
            Self::Server { status, .. } => match status.as_u16() {
                408 | 502 | 504 => RetryClass::Connection,
                _ => RetryClass::Server,
            },
            Self::Invalid(_) | Self::Panicked => RetryClass::Server,
            Self::Proxy(TunnelRefusal::Other) => RetryClass::Server,
            // A forward proxy may lock the account after repeated wrong credentials, too.
            Self::Refused { .. }
            | Self::NotAnIssuer { .. }
            | Self::Proxy(TunnelRefusal::Credentials) => RetryClass::Refused,
        }
    }

    /// Returns the kind of the local answer to a request that gets no token.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { .. } => ErrorKind::CredentialRejected,
            _ => ErrorKind::TokenUnavailable,
        }
    }
}
