//! Error responses of the token endpoint, with the same texts as UAA's.

use super::assertion::InvalidAssertion;
use crate::demo::answer;
use axum::http::header::{CACHE_CONTROL, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

/// Why a token request fails.
pub(super) enum RefusedTokenRequest {
    /// The request has no client credentials.
    NoCredentials,
    /// The id or the secret is wrong. UAA does not say which.
    BadCredentials,
    /// The assertion is not valid.
    InvalidAssertion(InvalidAssertion),
    /// There is no `grant_type`.
    InvalidRequest,
    UnsupportedGrantType(String),
    InvalidScope(String),
    /// The issuer itself failed.
    CannotSign,
}

impl From<InvalidAssertion> for RefusedTokenRequest {
    fn from(reason: InvalidAssertion) -> Self {
        Self::InvalidAssertion(reason)
    }
}

impl IntoResponse for RefusedTokenRequest {
    fn into_response(self) -> Response {
        let (status, error, description) = match self {
            Self::NoCredentials => {
                return unauthorized(
                    "An Authentication object was not found in the SecurityContext",
                );
            }
            Self::BadCredentials => return unauthorized("Bad credentials"),
            Self::InvalidAssertion(reason) => {
                (StatusCode::UNAUTHORIZED, "invalid_client", reason.to_string())
            }
            Self::InvalidRequest => {
                (StatusCode::BAD_REQUEST, "invalid_request", "Missing grant type".to_owned())
            }
            Self::UnsupportedGrantType(grant) => (
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                format!("Unsupported grant type: {grant}"),
            ),
            Self::InvalidScope(scope) => (
                StatusCode::BAD_REQUEST,
                "invalid_scope",
                format!("{scope} is invalid. Please use a valid scope name in the request"),
            ),
            Self::CannotSign => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "server_error",
                "the token could not be signed".to_owned(),
            ),
        };
        no_store(answer::error(status, error, &description))
    }
}

fn unauthorized(description: &str) -> Response {
    let challenge = format!(
        "Basic realm=\"UAA/oauth\", error=\"unauthorized\", error_description=\"{description}\""
    );
    let response = answer::error(StatusCode::UNAUTHORIZED, "unauthorized", description);
    no_store(([(WWW_AUTHENTICATE, challenge)], response).into_response())
}

/// Keeps a response of the token endpoint out of caches.
pub(super) fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
