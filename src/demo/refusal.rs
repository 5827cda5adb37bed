//! Refusals of a request to the tenant's API because of its bearer token.

use super::answer;
use super::keys::InvalidToken;
use axum::http::StatusCode;
use axum::http::header::WWW_AUTHENTICATE;
use axum::response::{IntoResponse, Response};

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// There is no `Authorization` header, or it has another scheme than Bearer.
    #[error("a bearer token is required")]
    NoBearer,
    /// There are several `Authorization` headers, and it is unclear which one applies.
    #[error("the request has more than one Authorization header")]
    Ambiguous,
    /// The token is not valid.
    #[error("{0}")]
    Token(#[from] InvalidToken),
    /// The token is valid, but its user may not use the tenant.
    #[error("this token's user is not active on this tenant")]
    Inactive,
    /// The token is valid, but older than the user's current rights.
    #[error("the token's scopes are not enough any more")]
    OldScopes,
    /// The request would get the login page if it came from a browser.
    #[error("the session has expired; log on again")]
    LoginNeeded,
    /// The API takes bearer tokens only with `x-sap-sac-custom-auth: true`.
    #[error("this API takes a bearer token only together with x-sap-sac-custom-auth: true")]
    NoCustomAuth,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let message = self.to_string();
        match self {
            Self::Ambiguous => answer::error(StatusCode::BAD_REQUEST, "bad_request", &message),
            Self::OldScopes => answer::error(StatusCode::FORBIDDEN, "insufficient_scope", &message),
            Self::NoBearer
            | Self::Token(_)
            | Self::Inactive
            | Self::LoginNeeded
            | Self::NoCustomAuth => {
                let response = answer::error(StatusCode::UNAUTHORIZED, "unauthorized", &message);
                ([(WWW_AUTHENTICATE, "Bearer")], response).into_response()
            }
        }
    }
}
