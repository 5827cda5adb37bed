//! Responses of faults, which replace the issuer's normal responses.

use super::error::{RefusedTokenRequest, no_store};
use crate::demo::answer;
use crate::demo::faults::{DemoFaults, IssuerFault};
use crate::demo::time::hang;
use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use serde_json::json;

pub(super) async fn response(faults: &DemoFaults) -> Option<Response> {
    match faults.issuer {
        IssuerFault::None => None,
        IssuerFault::TooManyRequests => Some(busy(
            faults,
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_requests",
            "Too Many Requests",
        )),
        IssuerFault::Unavailable => Some(busy(
            faults,
            StatusCode::SERVICE_UNAVAILABLE,
            "service_unavailable",
            "Service Unavailable",
        )),
        IssuerFault::InternalError => Some(answer::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            "Internal server error",
        )),
        IssuerFault::Hang => hang().await,
        IssuerFault::Html => Some(
            Html("<!doctype html><title>Web gateway</title><p>This page was blocked.")
                .into_response(),
        ),
        IssuerFault::EmptyToken => {
            let answer = json!({
                "access_token": "",
                "token_type": "bearer",
                "expires_in": 0,
                "scope": "",
                "jti": "",
            });
            Some(no_store(Json(answer).into_response()))
        }
        IssuerFault::RefuseClient => Some(RefusedTokenRequest::BadCredentials.into_response()),
    }
}

fn busy(faults: &DemoFaults, status: StatusCode, error: &str, description: &str) -> Response {
    let mut response = answer::error(status, error, description);
    // An invalid value is left out. The control API refuses it before it gets here.
    if let Some(value) =
        faults.issuer_retry_after.as_deref().and_then(|text| HeaderValue::from_str(text).ok())
    {
        response.headers_mut().insert(RETRY_AFTER, value);
    }
    response
}
