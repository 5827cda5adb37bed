//! Error responses of SCIM (RFC 7644 §3.12).

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

/// Why a request about users fails.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScimError {
    #[error("there is no user {0}")]
    NoSuchUser(String),
    #[error("there already is a user with the userName {0}")]
    NotUnique(String),
    #[error("{detail}")]
    Invalid {
        /// The keyword of RFC 7644 §3.12.
        scim_type: &'static str,
        detail: String,
    },
}

impl ScimError {
    pub(super) fn invalid(scim_type: &'static str, detail: String) -> Self {
        Self::Invalid { scim_type, detail }
    }

    pub(super) fn syntax(error: &serde_json::Error) -> Self {
        Self::invalid("invalidSyntax", format!("the body is not what this request takes: {error}"))
    }
}

impl IntoResponse for ScimError {
    fn into_response(self) -> Response {
        let (status, scim_type) = match &self {
            Self::NoSuchUser(_) => (StatusCode::NOT_FOUND, None),
            Self::NotUnique(_) => (StatusCode::CONFLICT, Some("uniqueness")),
            Self::Invalid { scim_type, .. } => (StatusCode::BAD_REQUEST, Some(*scim_type)),
        };
        let mut body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
            "status": status.as_str(),
            "detail": self.to_string(),
        });
        if let (Some(scim_type), Some(fields)) = (scim_type, body.as_object_mut()) {
            fields.insert("scimType".to_owned(), json!(scim_type));
        }
        respond(status, &body)
    }
}

/// A response in SCIM's media type.
pub(super) fn respond(status: StatusCode, body: &impl Serialize) -> Response {
    (status, [(CONTENT_TYPE, "application/scim+json")], Json(body)).into_response()
}
