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
    /// How many seconds the issuer's clock is ahead of the machine's: in its `Date`, in its tokens, and when it judges
    /// an assertion. Negative: behind.
    pub issuer_clock_s: i64,
    /// What the tenant's API does instead of its work.
    pub tenant: TenantFault,
    /// How long the tenant's API waits before it answers, in milliseconds.
    pub tenant_delay_ms: u64,
    /// How long after its header the body of [`TenantFault::LoginPage`] comes, in milliseconds: the answer of a client
    /// that looks at a body's first bytes is as late.
    pub login_page_delay_ms: u64,
    /// What a write needs besides its bearer token.
    pub csrf: CsrfRegime,
    /// That many next writes are refused though their CSRF token is good, and that token with them from then on. Counts
    /// down to 0.
    pub csrf_reject_next: u32,
    /// How the OData answers write the link to the next page. No fault, but every client has met one form only.
    pub next_links: NextLinks,
    /// Where the catalog says that assets are. No fault either.
    pub catalog_base: CatalogBase,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            // What XSUAA gives a client that asks for nothing special: 12 hours.
            token_lifetime: 43_200,
            issuer: IssuerFault::None,
            issuer_retry_after: None,
            issuer_delay_ms: 0,
            issuer_clock_s: 0,
            tenant: TenantFault::None,
            tenant_delay_ms: 0,
            login_page_delay_ms: 0,
            csrf: CsrfRegime::Stateless,
            csrf_reject_next: 0,
            next_links: NextLinks::Absolute,
            catalog_base: CatalogBase::Current,
        }
    }
}

/// Where the catalog says that assets are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatalogBase {
    /// Below `/api/v1/datasphere/consumption`.
    #[default]
    Current,
    /// Below `/dwaas-core/odata/v4/consumption`, as on newer tenants.
    DwaasCore,
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

/// What the tenant's API does instead of its work. Unless it says otherwise, it comes before the check of the bearer
/// token, as it would when the front door itself is ill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantFault {
    /// Its work.
    #[default]
    None,
    /// 401 to every token, in the words for a token that a new one could replace.
    Unauthorized,
    /// 401 to every token that passed the check: whoever is behind it may not come in, and no new token helps.
    RefuseAlways,
    /// 403 to every token that passed the check, if it was issued before this fault was set: the rights changed, and a
    /// new token has them. Setting it again changes nothing; setting another one in between does.
    ScopesChanged,
    /// 200 with the login page to a GET, 401 to anything else.
    LoginPage,
    /// 302 to the issuer's `/oauth/authorize`.
    LoginRedirect,
    /// 500 with an error body.
    InternalError,
    /// Takes the request and never answers.
    Hang,
}

/// What a write needs besides its bearer token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CsrfRegime {
    /// A CSRF token that was fetched with the same bearer token.
    #[default]
    Stateless,
    /// The same, and the two cookies of the session in which it was fetched.
    Session,
    /// Nothing. Who asks for a CSRF token gets none.
    Off,
}

/// How a link to the next page is written; OData allows all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NextLinks {
    /// `https://tenant/api/v1/…/SALES?$skip=500`
    #[default]
    Absolute,
    /// `/api/v1/…/SALES?$skip=500`
    AbsolutePath,
    /// `SALES?$skip=500`
    Relative,
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
