//! DemoFaults on demand, of the issuer and of the tenant.

use serde::{Deserialize, Serialize};

/// The faults to apply. The default has none. The JSON form refuses unknown fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DemoFaults {
    /// Lifetime of the tokens issued from now on, in seconds. With 0, they expire at once.
    pub token_lifetime: u64,
    /// The fault of the token endpoint.
    pub issuer: IssuerFault,
    /// Value of `Retry-After` with [`IssuerFault::TooManyRequests`] and
    /// [`IssuerFault::Unavailable`]: seconds, an HTTP date, or anything else that a client should
    /// survive.
    pub issuer_retry_after: Option<String>,
    /// Delay of the token endpoint's responses, in milliseconds.
    pub issuer_delay_ms: u64,
    /// Seconds by which the issuer's clock is ahead of the machine's, or behind it if negative. It
    /// counts for `Date`, for tokens and for the check of assertions.
    pub issuer_clock_s: i64,
    /// The fault of the tenant's API.
    pub tenant: TenantFault,
    /// Delay of the responses of the tenant's API, in milliseconds.
    pub tenant_delay_ms: u64,
    /// Delay between the header and the body of [`TenantFault::LoginPage`], in milliseconds. A
    /// proxy that inspects the first bytes of a body is delayed by it.
    pub login_page_delay_ms: u64,
    /// The CSRF protection of writes.
    pub csrf: CsrfRegime,
    /// Number of further writes that are refused although their CSRF token is valid. Their tokens
    /// become invalid. The number counts down to 0.
    pub csrf_reject_next: u32,
    /// The form of links to the next page in OData. It is not a fault, but a client may support
    /// only one form.
    pub next_links: NextLinks,
    /// The base of the URLs in the catalog. It is not a fault, but tenants differ in it.
    pub catalog_base: CatalogBase,
}

impl Default for DemoFaults {
    fn default() -> Self {
        Self {
            // XSUAA's default, 12 hours.
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

/// The base of the URLs of assets in the catalog.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatalogBase {
    /// `/api/v1/datasphere/consumption`.
    #[default]
    Current,
    /// `/dwaas-core/odata/v4/consumption`, as on newer tenants.
    DwaasCore,
}

/// Fault of the token endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IssuerFault {
    /// No fault.
    #[default]
    None,
    /// 429, as for more than 60 requests a second of a subaccount, with `Retry-After` if one is
    /// set.
    TooManyRequests,
    /// 500 with an error body.
    InternalError,
    /// 503, with `Retry-After` if one is set.
    Unavailable,
    /// Accepts the request and never answers.
    Hang,
    /// 200 with an HTML page, as from an intercepting corporate proxy.
    Html,
    /// 200 with an empty `access_token`. Tenants in SAP's own (Neo) data centres answer a client
    /// without rights like this.
    EmptyToken,
    /// 401 "Bad credentials" to every client, as after the expiry of the client itself.
    RefuseClient,
}

/// Fault of the tenant's API. It applies before the check of the bearer token, as if the approuter
/// itself failed, unless its description says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantFault {
    /// No fault.
    #[default]
    None,
    /// 401 to every token, with the message for a token that should be replaced by a new one.
    Unauthorized,
    /// 401 to every valid token, because its user is not allowed. A new token does not help.
    RefuseAlways,
    /// 403 to every valid token that was issued before this fault was set: the rights changed, and
    /// a new token has them. Setting the fault again has no effect, unless another one was set in
    /// between.
    ScopesChanged,
    /// 200 with the login page to a GET, 401 to other methods.
    LoginPage,
    /// 302 to the issuer's `/oauth/authorize`.
    LoginRedirect,
    /// 500 with an error body.
    InternalError,
    /// Accepts the request and never answers.
    Hang,
}

/// CSRF protection of writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CsrfRegime {
    /// A write needs a CSRF token that was fetched with the same bearer token.
    #[default]
    Stateless,
    /// A write also needs the two cookies of the session in which the token was fetched.
    Session,
    /// A write needs nothing, and no CSRF tokens are issued.
    Off,
}

/// Form of a link to the next page. OData allows all of them.
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
