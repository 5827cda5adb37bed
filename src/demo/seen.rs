//! Counters of requests and tokens, and the last request.

use super::registered_client::AuthMethod;
use axum::extract::Request;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderName, HeaderValue};
use serde::Serialize;

/// Counters since the start, and the last request to the tenant's API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Requests to the token endpoint, successful or not.
    pub token_requests: u64,
    /// Tokens issued.
    pub tokens_issued: u64,
    /// Tokens issued for a client secret.
    pub issued_by_secret: u64,
    /// Tokens issued for a client certificate.
    pub issued_by_certificate: u64,
    /// Tokens issued for a signed assertion.
    pub issued_by_assertion: u64,
    /// Requests to the tenant's API, accepted or not.
    pub tenant_requests: u64,
    /// Requests with a valid bearer token that were passed on to an API.
    pub accepted: u64,
    /// Requests refused because of their bearer token, by the check or by a fault that imitates it.
    pub refused: u64,
    /// Responses that carried a CSRF token.
    pub csrf_fetches: u64,
    /// Writes with a valid bearer token that were refused because of their CSRF token. They are not
    /// counted in `accepted` or `refused`.
    pub csrf_refused: u64,
    /// Writes that were executed: users created, changed or deleted, complete uploads, packages
    /// deleted, task chains run, spaces written.
    pub writes_executed: u64,
    /// The last request to the tenant's API, as it arrived.
    pub last_request: Option<LastRequest>,
}

impl Seen {
    /// Counts a token that was issued.
    pub(super) fn add_issued(&mut self, method: AuthMethod) {
        self.tokens_issued += 1;
        match method {
            AuthMethod::Secret => self.issued_by_secret += 1,
            AuthMethod::Certificate => self.issued_by_certificate += 1,
            AuthMethod::Assertion => self.issued_by_assertion += 1,
        }
    }
}

/// A request as it arrived, without its body and its credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastRequest {
    /// The method.
    pub method: String,
    /// Path and query, byte for byte, without decoding or reordering.
    pub path_and_query: String,
    /// Names in lower case, values in the order of arrival. The value of `authorization` is
    /// `[redacted]`.
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
