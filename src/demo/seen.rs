//! What the tenant saw: a few counters and the last request, for tests and the curious.

use axum::extract::Request;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderName, HeaderValue};
use serde::Serialize;

/// Counters since the start, and the last request that reached the tenant's API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Requests to the token endpoint, whatever came of them.
    pub token_requests: u64,
    /// Tokens that the issuer gave out.
    pub tokens_issued: u64,
    /// Of those, tokens for a client secret.
    pub issued_by_secret: u64,
    /// Of those, tokens for a client certificate.
    pub issued_by_certificate: u64,
    /// Of those, tokens for a signed assertion.
    pub issued_by_assertion: u64,
    /// Requests to the tenant's API, whatever came of them.
    pub tenant_requests: u64,
    /// Of those, requests with a good bearer token that went on to an API.
    pub accepted: u64,
    /// Of those, requests refused for their bearer token: by the check or by a fault that plays a refusal.
    pub refused: u64,
    /// Answers that gave a CSRF token.
    pub csrf_fetches: u64,
    /// Writes with a good bearer token, refused for their CSRF token. They count as neither accepted nor refused.
    pub csrf_refused: u64,
    /// Changes carried out: users created, changed or deleted, uploads taken in full, packages deleted, task chains
    /// run, spaces written.
    pub writes_executed: u64,
    /// The last request to the tenant's API, as it arrived.
    pub last_request: Option<LastRequest>,
}

/// A request as it arrived, without its body and without its credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastRequest {
    /// The method.
    pub method: String,
    /// Path and query, byte for byte: nothing decoded, nothing put in order.
    pub path_and_query: String,
    /// Names in lower case, values in the order in which they came; those of `authorization` read `[redacted]`.
    pub headers: Vec<(String, String)>,
}

impl LastRequest {
    pub(super) fn of(request: &Request) -> Self {
        let header = |(name, value): (&HeaderName, &HeaderValue)| {
            let shown = if name == AUTHORIZATION {
                "[redacted]".to_owned()
            } else {
                String::from_utf8_lossy(value.as_bytes()).into_owned()
            };
            (name.as_str().to_owned(), shown)
        };
        Self {
            method: request.method().to_string(),
            path_and_query: request
                .uri()
                .path_and_query()
                .map(ToString::to_string)
                .unwrap_or_default(),
            headers: request.headers().iter().map(header).collect(),
        }
    }
}
