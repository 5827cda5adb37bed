//! Responses, and checks of requests, that several parts of the tenant use.

use axum::Json;
use axum::http::header::{ACCEPT, HOST};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// An error response in the format of UAA and of most of the tenant's APIs.
pub(super) fn error(status: StatusCode, error: &str, description: &str) -> Response {
    (status, Json(json!({ "error": error, "error_description": description }))).into_response()
}

/// Whether the path is `base` or a path below it. Segments are compared as a whole.
pub(super) fn is_under(path: &str, base: &str) -> bool {
    path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The tenant's origin as the client knows it: `https://` and the request's `Host`, or the tenant's
/// own origin if there is none. A proxy that forwards its own `Host` gets links to itself, and a
/// proxy that sets the tenant's gets links to the tenant.
pub(super) fn origin(headers: &HeaderMap, tenant_origin: &str) -> String {
    match headers.get(HOST).and_then(|host| host.to_str().ok()) {
        Some(host) => format!("https://{host}"),
        None => tenant_origin.to_owned(),
    }
}

/// 404 for a path that does not exist.
pub(super) async fn no_such_path(uri: Uri) -> Response {
    error(
        StatusCode::NOT_FOUND,
        "not_found",
        &format!("the demo tenant has nothing at {}", uri.path()),
    )
}

/// 405 for a path that exists, but not for this method.
pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    let description = format!("{} does not allow {method}", uri.path());
    error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &description)
}

/// 406 for an `Accept` that excludes the only available media type.
pub(super) fn not_acceptable(offered: &str) -> Response {
    error(
        StatusCode::NOT_ACCEPTABLE,
        "not_acceptable",
        &format!("this resource is only available as {offered}"),
    )
}

/// Whether the request's `Accept` allows one of these media types or ranges. A request without the
/// header accepts everything.
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
