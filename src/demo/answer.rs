//! Answers that more than one part of the tenant gives.

use axum::Json;
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// An error as UAA and most of the tenant's APIs word it.
pub(super) fn error(status: StatusCode, error: &str, description: &str) -> Response {
    (status, Json(json!({ "error": error, "error_description": description }))).into_response()
}

/// Whether the path is this one or below it, by whole segments.
pub(super) fn is_under(path: &str, base: &str) -> bool {
    path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// 404 for a path that this tenant does not have.
pub(super) async fn no_such_path(uri: Uri) -> Response {
    error(
        StatusCode::NOT_FOUND,
        "not_found",
        &format!("the demo tenant has nothing at {}", uri.path()),
    )
}

/// 405 for a path that exists, but not for this method.
pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    let description = format!("{} does not take {method}", uri.path());
    error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &description)
}

/// 406 for an `Accept` that rules out the only media type on offer.
pub(super) fn not_acceptable(offered: &str) -> Response {
    error(
        StatusCode::NOT_ACCEPTABLE,
        "not_acceptable",
        &format!("this resource is only available as {offered}"),
    )
}

/// Whether the request's `Accept` allows one of these media types or ranges; a request without the header takes all.
pub(super) fn accepts(headers: &HeaderMap, offered: &[&str]) -> bool {
    let mut ranges =
        headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    ranges.peek().is_none()
        || ranges
            .flat_map(|list| list.split(','))
            .filter_map(|range| range.split(';').next())
            .map(str::trim)
            .any(|range| {
                range == "*/*" || offered.iter().any(|offer| range.eq_ignore_ascii_case(offer))
            })
}
