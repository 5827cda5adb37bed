//! The values that labels can take, one closed set a type: what is in none of them becomes no series.
//!
//! Other rooms produce these values. They stand here, beside the families that they are labels of, so that
//! [`metrics`](super) imports none of these rooms.

use crate::error::ErrorKind;
use strum::{IntoStaticStr, VariantArray};

/// A closed set of label values: the names of its variants in snake case.
pub trait Label: VariantArray + Copy + Into<&'static str> + 'static {
    /// The value of the label.
    fn label(self) -> &'static str {
        self.into()
    }
}

impl<T: VariantArray + Copy + Into<&'static str> + 'static> Label for T {}

/// How a request ended; the label of `requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// The upstream's answer was passed on whole, whatever its status.
    Forwarded,
    /// bearerd answered by itself.
    Local(ErrorKind),
    /// The upstream broke off in the middle of its answer; the caller's connection was closed.
    UpstreamIncomplete,
    /// The caller went away.
    DownstreamClosed,
    /// None of the others was reached: the end of the process's grace, or a panic.
    Aborted,
}

impl RequestOutcome {
    /// The value of the label.
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

/// How a reload of the configuration ended; the label of `config_reloads_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ConfigReload {
    /// The new configuration is in force.
    Success,
    /// Nothing in it has changed.
    Unchanged,
    /// It is wrong, or what it points at is.
    Invalid,
    /// A new client gets no token.
    NoToken,
    /// It changes what only a restart can change.
    NeedsRestart,
}

/// How the change of a credential ended; the label of `credential_reloads_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum CredentialReload {
    /// A token came with the new one, which is in use now.
    Success,
    /// It can't be read or understood; the old one stays.
    Unreadable,
    /// The issuer refuses it; the old one stays.
    Refused,
    /// The issuer could not be asked; the old one stays.
    Failed,
}

/// How a token request ended; the label of `token_requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum TokenRequestOutcome {
    /// A token came.
    Success,
    /// No connection to the issuer.
    ConnectError,
    /// The forward proxy refused to connect to the issuer.
    ProxyRefused,
    /// No answer in time.
    Timeout,
    /// The issuer wants fewer requests.
    RateLimited,
    /// The issuer failed.
    ServerError,
    /// The issuer refuses the client or its credential.
    Refused,
    /// What answered is no issuer.
    NotAnIssuer,
    /// The answer holds no token that can be used.
    InvalidAnswer,
    /// The request panicked.
    Panicked,
}

/// How a request's wait for a token ended; the label of `token_waits_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum TokenWait {
    /// A token came in time.
    Served,
    /// None did.
    Failed,
}

/// How an upstream says that it does not accept a token; a label of `token_heals_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum TokenRefusal {
    /// 401.
    Unauthorized,
    /// 403 that is not about CSRF: the token's scopes may be out of date.
    Forbidden,
    /// A redirect to the login of the tenant's identity zone.
    LoginRedirect,
    /// 200 with the page that sends a browser there.
    LoginPage,
}

impl TokenRefusal {
    /// In words.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Unauthorized => "401",
            Self::Forbidden => "403",
            Self::LoginRedirect => "redirect to the login page",
            Self::LoginPage => "login page",
        }
    }
}

/// How a heal ended; a label of `token_heals_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum HealOutcome {
    /// The request was sent again, and answered.
    Healed,
    /// The request was sent again, and the fresh token was refused too.
    RefusedAgain,
    /// No newer token came in time, or none was worth asking for.
    NoToken,
    /// The request could not be sent again; the token is refreshed all the same.
    NotReplayable,
    /// The request was sent again, and nobody answered or nobody waited for it.
    Unanswered,
}

impl HealOutcome {
    /// In words.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Healed => "sent again with a new token, and answered",
            Self::RefusedAgain => "sent again with a new token, and refused again",
            Self::NoToken => "no newer token to send it again with",
            Self::NotReplayable => "passed on, for it could not be sent again",
            Self::Unanswered => "sent again with a new token, without an answer",
        }
    }
}

/// How a fetch of a CSRF token ended; the label of `csrf_fetches_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum CsrfFetch {
    /// It brought a token.
    Fetched,
    /// It was answered without one: the upstream wants none.
    NoneNeeded,
    /// It was answered with an error.
    Refused,
    /// It was not answered.
    Failed,
}
