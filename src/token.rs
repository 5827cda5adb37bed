//! Tokens: what they are, where they come from, when the next one is due, and who holds the current one.
//!
//! [`refresher`] asks a [`TokenSource`] when its [`plan`] says so, which follows the rules of [`schedule`],
//! and publishes to the [`store`], from which the proxy reads; [`rotation`] brings it a new source when the
//! client's credential changes. Nothing here knows of requests.

pub mod advice;
pub mod answer;
pub mod claims;
pub mod expiry;
mod handle;
pub mod oauth;
pub mod plan;
pub mod refresher;
pub mod rotation;
pub mod schedule;
pub mod store;
mod valid;

pub use handle::ClientHandle;

use crate::error::ErrorKind;
use crate::http_client::TunnelRefusal;
use crate::metrics::labels::TokenRequestOutcome;
use http::{HeaderValue, StatusCode};
use schedule::RetryClass;
use std::time::Duration;

/// An access token as the issuer gave it.
#[derive(Clone, Debug)]
pub struct Token {
    /// The whole `Authorization` value, marked sensitive so that nothing prints it.
    pub authorization: HeaderValue,
    /// How long it is valid from the moment of its answer.
    pub lifetime: Duration,
    /// How far the issuer's clock is ahead of ours, in seconds, where it told its time.
    pub clock_skew: Option<f64>,
}

impl Token {
    /// The token alone. Name the reason where you call it.
    pub fn text(&self) -> &str {
        let value = self.authorization.to_str().unwrap_or_default();
        value.strip_prefix("Bearer ").unwrap_or(value)
    }
}

/// Where tokens come from.
#[async_trait::async_trait]
pub trait TokenSource: Send + Sync + 'static {
    /// Asks for one token. Bounded in time and size by the source itself.
    ///
    /// # Errors
    /// What went wrong, by kind: the caller decides from it when to ask again.
    async fn fetch(&self) -> Result<Token, TokenError>;

    /// What to do about an error, where it is a known one.
    fn advice(&self, _error: &TokenError) -> Option<&'static str> {
        None
    }

    /// How far the issuer's clock is ahead of ours now, in seconds, if any of its answers showed its time: a
    /// refusal does, too.
    fn clock_skew(&self) -> Option<f64> {
        None
    }
}

/// Why there is no new token. Messages never hold a secret, a token or an issuer's whole answer.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No connection: name, network, TLS.
    #[error("cannot reach the token endpoint: {0}")]
    Connect(String),
    /// The forward proxy on the way there says no.
    #[error("the forward proxy refuses the way to the token endpoint")]
    Proxy(TunnelRefusal),
    /// No whole answer in time.
    #[error("the token endpoint did not answer in time")]
    Timeout,
    /// 429.
    #[error("the issuer limits the rate of token requests (429)")]
    RateLimited {
        /// What the issuer asked for in `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// 408 and 5xx.
    #[error("the issuer is in trouble ({status})")]
    Server {
        /// The answer's status.
        status: StatusCode,
        /// What the issuer asked for in `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// 400, 401 and 403: the issuer knows this client, or its credential, not.
    #[error("the issuer refuses the client ({status}{reason})")]
    Refused {
        /// The answer's status.
        status: StatusCode,
        /// The issuer's own words, such as ", invalid_client: Bad credentials", or nothing.
        reason: String,
    },
    /// Any other status: this is no token endpoint.
    #[error("the token endpoint answered {status}; check token_url")]
    NotAnIssuer {
        /// The answer's status.
        status: StatusCode,
    },
    /// A status of success, but not with a token.
    #[error("the issuer's answer holds no usable token: {0}")]
    Invalid(InvalidAnswer),
    /// The source panicked: a defect in bearerd.
    #[error("the token source failed; please report this")]
    Panicked,
}

/// What is wrong with a token answer whose status is one of success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAnswer {
    /// More than 64 KiB.
    #[error("it is larger than 64 KiB")]
    TooLarge,
    /// A compression that was not asked for, and that bearerd does not know; or it is broken.
    #[error("it is compressed, which was not asked for, and can't be inflated")]
    Encoding,
    /// HTML from a login page or a corporate proxy, or anything else that is no JSON object.
    #[error("it is not a JSON object (a login page or a proxy's page?)")]
    NotJson,
    /// No `access_token`, or one that is empty or no text.
    #[error("`access_token` is missing or empty (is the client authorised for this tenant?)")]
    NoAccessToken,
    /// Characters that no header may carry.
    #[error("`access_token` holds characters that a bearer token cannot have")]
    NotABearerToken,
    /// RFC 6749 section 7.1: a client must not use a token type it does not understand.
    #[error("`token_type` is not bearer")]
    TokenType,
    /// Zero, negative or no number.
    #[error("`expires_in` is not a positive number")]
    Lifetime,
    /// By the issuer's clock and by ours.
    #[error("its token has expired already")]
    Expired,
}

impl TokenError {
    /// How the request ended, as a label.
    pub const fn outcome(&self) -> TokenRequestOutcome {
        match self {
            Self::Connect(_) => TokenRequestOutcome::ConnectError,
            Self::Proxy(_) => TokenRequestOutcome::ProxyRefused,
            Self::Timeout => TokenRequestOutcome::Timeout,
            Self::RateLimited { .. } => TokenRequestOutcome::RateLimited,
            Self::Server { .. } => TokenRequestOutcome::ServerError,
            Self::Refused { .. } => TokenRequestOutcome::Refused,
            Self::NotAnIssuer { .. } => TokenRequestOutcome::NotAnIssuer,
            Self::Invalid(_) => TokenRequestOutcome::InvalidAnswer,
            Self::Panicked => TokenRequestOutcome::Panicked,
        }
    }

    /// How to wait before asking again.
    pub fn retry_class(&self) -> RetryClass {
        match self {
            Self::Connect(_) | Self::Timeout => RetryClass::Connection,
            Self::RateLimited { retry_after } => RetryClass::RateLimited(*retry_after),
            Self::Server { retry_after: Some(asked), .. } => RetryClass::RateLimited(Some(*asked)),
            Self::Server { status, .. } => match status.as_u16() {
                408 | 502 | 504 => RetryClass::Connection,
                _ => RetryClass::Server,
            },
            Self::Invalid(_) | Self::Panicked => RetryClass::Server,
            Self::Proxy(TunnelRefusal::Other) => RetryClass::Server,
            // Nor is a proxy to see wrong credentials over and over: their account may be locked for that.
            Self::Refused { .. }
            | Self::NotAnIssuer { .. }
            | Self::Proxy(TunnelRefusal::Credentials) => RetryClass::Refused,
        }
    }

    /// What a request without a token is told.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { .. } => ErrorKind::CredentialRejected,
            _ => ErrorKind::TokenUnavailable,
        }
    }
}
