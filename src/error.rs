//! Kinds of local answers, in one table.
//!
//! The same closed set gives the metric label, the `kind` of a local answer, and its status. A new
//! kind is one variant and one row.

use http::StatusCode;
use strum::VariantArray;

/// Why bearerd answered itself. The order is that of the table in the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, VariantArray)]
pub enum ErrorKind {
    /// No usable token within the client's `wait`.
    TokenUnavailable,
    /// The issuer refuses the client: wrong secret, expired client, wrong grant.
    CredentialRejected,
    /// The upstream still answers with a login page after a heal.
    LoginPage,
    /// No connection to the upstream, or it closed before it answered.
    UpstreamUnreachable,
    /// The upstream's certificate or TLS handshake failed.
    UpstreamTls,
    /// The upstream did not answer within the configured timeout.
    UpstreamTimeout,
    /// The forward proxy refused to connect to the upstream, or failed.
    UpstreamProxy,
    /// No route matches the path.
    NoRoute,
    /// The route does not allow the method.
    MethodNotAllowed,
    /// A request inside of a batch belongs to another route, or has a method that the route does
    /// not allow.
    BatchRefused,
    /// `Host` is not a name of this sidecar.
    HostNotAllowed,
    /// A web page of another site sent the request.
    CrossSite,
    /// The local credential is missing or wrong.
    AccessDenied,
    /// The caller may not use the route, or the request has credentials of different callers.
    CallerNotAllowed,
    /// The caller has reached its `limits`.
    CallerLimited,
    /// The request's framing or path is malformed or ambiguous.
    BadRequest,
    /// The request's header is too large.
    HeaderTooLarge,
    /// More requests at once than `limits.requests`.
    Overloaded,
    /// The request changes something, and the audit log can't be written.
    AuditUnavailable,
    /// The process is shutting down, and the drain deadline passed before the request was sent.
    Draining,
    /// A defect in bearerd itself.
    Internal,
}

/// Row of a kind: its form in metrics and answers.
struct Row {
    label: &'static str,
    status: StatusCode,
    title: &'static str,
    /// Error type of RFC 9209 section 2.3.
    proxy_error: &'static str,
}

impl ErrorKind {
    const fn row(self) -> Row {
        let (label, status, title, proxy_error) = match self {
            Self::TokenUnavailable => (
                "token_unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "No usable access token",
                "proxy_internal_response",
            ),
            Self::CredentialRejected => (
                "credential_rejected",
                StatusCode::SERVICE_UNAVAILABLE,
                "The issuer refuses the OAuth client",
                "proxy_configuration_error",
            ),
            Self::LoginPage => (
                "login_page",
                StatusCode::BAD_GATEWAY,
                "The upstream answers with a login page",
                "http_protocol_error",
            ),
            Self::UpstreamUnreachable => (
                "upstream_unreachable",
                StatusCode::BAD_GATEWAY,
                "The upstream cannot be reached",
                "destination_unavailable",
            ),
            Self::UpstreamTls => (
                "upstream_tls",
                StatusCode::BAD_GATEWAY,
                "No trusted TLS connection to the upstream",
                "tls_certificate_error",
            ),
            Self::UpstreamTimeout => (
                "upstream_timeout",
                StatusCode::GATEWAY_TIMEOUT,
                "The upstream took too long",
                "http_response_timeout",
            ),
            Self::UpstreamProxy => (
                "upstream_proxy",
                StatusCode::BAD_GATEWAY,
                "The forward proxy did not connect to the upstream",
                "destination_unavailable",
            ),
            Self::NoRoute => (
                "no_route",
                StatusCode::NOT_FOUND,
                "No route for this path",
                "destination_not_found",
            ),
            Self::MethodNotAllowed => (
                "method_not_allowed",
                StatusCode::METHOD_NOT_ALLOWED,
                "The route does not allow this method",
                "http_request_denied",
            ),
            Self::BatchRefused => (
                "batch_refused",
                StatusCode::FORBIDDEN,
                "A request in the batch may not be sent",
                "http_request_denied",
            ),
            Self::HostNotAllowed => (
                "host_not_allowed",
                StatusCode::MISDIRECTED_REQUEST,
                "The sidecar is not known by this host name",
                "http_request_denied",
            ),
            Self::CrossSite => (
                "cross_site",
                StatusCode::FORBIDDEN,
                "Requests of web pages are refused",
                "http_request_denied",
            ),
            Self::AccessDenied => (
                "access_denied",
                StatusCode::UNAUTHORIZED,
                "A local credential is needed",
                "http_request_denied",
            ),
            Self::CallerNotAllowed => (
                "caller_not_allowed",
                StatusCode::FORBIDDEN,
                "The caller may not do this",
                "http_request_denied",
            ),
            Self::CallerLimited => (
                "caller_limited",
                StatusCode::TOO_MANY_REQUESTS,
                "The caller has reached its limit",
                "http_request_denied",
            ),
            Self::HeaderTooLarge => (
                "header_too_large",
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "The request's header is too large",
                "http_request_error",
            ),
            Self::Overloaded => (
                "overloaded",
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many requests at once",
                "connection_limit_reached",
            ),
            Self::BadRequest => (
                "bad_request",
                StatusCode::BAD_REQUEST,
                "Malformed or ambiguous request",
                "http_request_error",
            ),
            Self::AuditUnavailable => (
                "audit_unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "The audit log cannot be written",
                "proxy_internal_error",
            ),
            Self::Draining => (
                "draining",
                StatusCode::SERVICE_UNAVAILABLE,
                "The sidecar is shutting down",
                "proxy_internal_response",
            ),
            Self::Internal => (
                "internal",
                StatusCode::INTERNAL_SERVER_ERROR,
                "An error inside bearerd",
                "proxy_internal_error",
            ),
        };
        Row { label, status, title, proxy_error }
    }

    /// Returns the label value in metrics, which is also the `kind` of the answer.
    pub const fn label(self) -> &'static str {
        self.row().label
    }

    /// Returns the HTTP status of the local answer.
    pub const fn status(self) -> StatusCode {
        self.row().status
    }

    /// Returns the title of the answer, which is the same for every occurrence of the kind (RFC
    /// 9457 section 3.1.3).
    pub const fn title(self) -> &'static str {
        self.row().title
    }

    /// Returns the `error` parameter of `Proxy-Status` (RFC 9209 section 2.3).
    pub const fn proxy_error(self) -> &'static str {
        self.row().proxy_error
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_kind_has_a_label_of_its_own_and_an_error_status() {
        let labels: HashSet<_> = ErrorKind::VARIANTS.iter().map(|kind| kind.label()).collect();
        assert_eq!(labels.len(), ErrorKind::VARIANTS.len());
        for kind in ErrorKind::VARIANTS {
            let status = kind.status();
            assert!(status.is_client_error() || status.is_server_error(), "{kind:?}");
        }
    }
}
