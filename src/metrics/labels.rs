//! Values of labels: one closed set a type.
//!
//! Other rooms produce these values. They stand here, beside the families that they are labels of,
//! so that [`metrics`](super) imports none of those rooms.

use crate::error::ErrorKind;
use strum::{IntoStaticStr, VariantArray};

/// A closed set of label values: the names of its variants in snake case.
pub trait Label: VariantArray + Copy + Into<&'static str> + 'static {
    /// Returns the value of the label.
    fn label(self) -> &'static str {
        self.into()
    }
}

impl<T: VariantArray + Copy + Into<&'static str> + 'static> Label for T {}

/// Outcome of a request; a label of `requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// The upstream's answer was passed on whole, with any status.
    Forwarded,
    /// bearerd answered itself.
    Local(ErrorKind),
    /// The upstream broke off its answer, and the caller's connection was closed.
    UpstreamIncomplete,
    /// The caller closed its connection.
    DownstreamClosed,
    /// The request had no other outcome: the end of the shutdown's grace, or a panic.
    Aborted,
}

impl RequestOutcome {
    /// Returns the value of the label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Local(kind) => kind.label(),
            Self::UpstreamIncomplete => "upstream_incomplete",
            Self::DownstreamClosed => "downstream_closed",
            Self::Aborted => "aborted",
        }
    }
}

/// Outcome of a reload of the configuration; a label of `config_reloads_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ConfigReload {
    /// The new configuration is in force.
    Success,
    /// The configuration has not changed.
    Unchanged,
    /// The configuration, or a file that it names, is wrong.
    Invalid,
    /// A new client gets no token.
    NoToken,
    /// The change needs a restart.
    NeedsRestart,
}

/// Outcome of the change of a credential; a label of `credential_reloads_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum CredentialReload {
    /// The new credential brought a token, and is in use.
    Success,
    /// The new credential cannot be read or understood; the old one stays.
    Unreadable,
    /// The issuer refuses the new credential; the old one stays.
    Refused,
    /// The issuer could not be reached, or failed; the old one stays.
    Failed,
}

/// Outcome of a token request; a label of `token_requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum TokenRequestOutcome {
    /// The issuer returned a token.
    Success,
    /// No connection to the issuer.
    ConnectError,
    /// The forward proxy refused to connect to the issuer.
    ProxyRefused,
    /// No answer in time.
    Timeout,
    /// The issuer limits the rate of requests.
    RateLimited,
    /// The issuer failed.
    ServerError,
    /// The issuer refuses the client or its credential.
    Refused,
    /// The server that answered is not an issuer.
    NotAnIssuer,
    /// The answer holds no token that can be used.
    InvalidAnswer,
    /// The request panicked.
    Panicked,
}

/// Outcome of a request's wait for a token; a label of `token_waits_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum TokenWait {
    /// A token arrived in time.
    Served,
    /// No token arrived in time.
    Failed,
}

/// Form in which an upstream refuses a token; a label of `token_heals_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum TokenRefusal {
    /// 401.
    Unauthorized,
    /// 403 that is not about CSRF: the token's scopes may be out of date.
    Forbidden,
    /// A redirect to the login of the tenant's identity zone.
    LoginRedirect,
    /// 200 with the page that sends a browser to that login.
    LoginPage,
}

impl TokenRefusal {
    /// Returns the value in words.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Unauthorized => "401",
            Self::Forbidden => "403",
            Self::LoginRedirect => "redirect to the login page",
            Self::LoginPage => "login page",
        }
    }
}

/// Outcome of a heal; a label of `token_heals_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum HealOutcome {
    /// The request was sent again, and answered.
    Healed,
    /// The request was sent again, and the fresh token was refused too.
    RefusedAgain,
    /// No newer token arrived in time, or none would have helped.
    NoToken,
    /// The request could not be sent again; the token is refreshed nevertheless.
    NotReplayable,
    /// The request was sent again, and got no answer, or the caller had gone.
    Unanswered,
}

impl HealOutcome {
    /// Returns the value in words.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Healed => "sent again with a new token, and answered",
            Self::RefusedAgain => "sent again with a new token, and refused again",
            Self::NoToken => "no newer token to send it again with",
            Self::NotReplayable => "passed on, because it could not be sent again",
            Self::Unanswered => "sent again with a new token, without an answer",
        }
    }
}

/// Outcome of a fetch of a CSRF token; a label of `csrf_fetches_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum CsrfFetch {
    /// The upstream returned a token.
    Fetched,
    /// The upstream answered without a token: it requires none.
    NoneNeeded,
    /// The upstream answered with an error.
    Refused,
    /// The upstream did not answer.
    Failed,
}
