//! Error responses of OData.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::HeaderName;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// The header that every OData response has.
pub(super) const ODATA_VERSION: (HeaderName, &str) =
    (HeaderName::from_static("odata-version"), "4.0");

/// Why a request for data fails.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ODataError {
    status: StatusCode,
    message: String,
}

impl ODataError {
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    pub(super) fn not_implemented(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_IMPLEMENTED, message: message.into() }
    }

    pub(super) fn not_found(path: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            message: format!("the demo tenant has no resource {path}"),
        }
    }
}

impl IntoResponse for ODataError {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "code": self.status.as_str(), "message": self.message } });
        (self.status, [ODATA_VERSION], Json(body)).into_response()
    }
}
