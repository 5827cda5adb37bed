//! Faults on demand: what an issuer or a tenant does on a bad day.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What should go wrong. The default is a good day; the JSON form refuses unknown fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// How long the tokens issued from now on live, in seconds. 0 makes tokens that have expired when they arrive.
    pub token_lifetime: u64,
    /// What the token endpoint does instead of its work.
    pub issuer: IssuerFault,
    /// Sent as `Retry-After` with [`IssuerFault::TooManyRequests`] and [`IssuerFault::Unavailable`]: seconds or an HTTP
    /// date, or whatever else a client should survive.
    pub issuer_retry_after: Option<String>,
    /// How long the token endpoint waits before it answers, in milliseconds.
    pub issuer_delay_ms: u64,
    /// What the tenant's API does instead of its work.
    pub tenant: TenantFault,
    /// How long the tenant's API waits before it answers, in milliseconds.
    pub tenant_delay_ms: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            // What XSUAA gives a client that asks for nothing special: 12 hours.
            token_lifetime: 43_200,
            issuer: IssuerFault::None,
            issuer_retry_after: None,
            issuer_delay_ms: 0,
            tenant: TenantFault::None,
            tenant_delay_ms: 0,
        }
    }
}

/// What the token endpoint does instead of its work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IssuerFault {
    /// Its work.
    #[default]
    None,
    /// 429: more than the subaccount's 60 requests a second, with `Retry-After` if one is set.
    TooManyRequests,
    /// 500 with an error body.
    InternalError,
    /// 503, with `Retry-After` if one is set.
    Unavailable,
    /// Takes the request and never answers.
    Hang,
    /// 200 with an HTML page, as an intercepting corporate proxy answers.
    Html,
    /// 200 with an empty `access_token`, as tenants in SAP's own (Neo) data centres answer a client without rights.
    EmptyToken,
    /// 401 "Bad credentials" to everyone, as after the client's own expiry.
    RefuseClient,
}

/// What the tenant's API does instead of its work. It comes before the check of the bearer token, as it would when the
/// front door itself is ill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantFault {
    /// Its work.
    #[default]
    None,
    /// 401 to every token.
    Unauthorized,
    /// 200 with the login page to a GET, 401 to anything else.
    LoginPage,
    /// 302 to the issuer's `/oauth/authorize`.
    LoginRedirect,
    /// 500 with an error body.
    InternalError,
    /// Takes the request and never answers.
    Hang,
}

/// Waits as long as a `…_delay_ms` says.
pub(super) async fn delay(milliseconds: u64) {
    if milliseconds > 0 {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
}

/// Never ends by itself: the client gives up, or the tenant stops.
pub(super) async fn hang<T>() -> T {
    std::future::pending().await
}
