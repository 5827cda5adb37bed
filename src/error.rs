//! Every way a request can end without the upstream's own answer, in one table.
//!
//! The same closed set is the metric label, the `kind` of a local answer and the row that decides
//! its status: adding a kind means adding one variant and one row.

use http::StatusCode;

/// Why bearerd answered by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No usable token within the client's `wait`.
    TokenUnavailable,
    /// The issuer refuses the client: wrong secret, expired client, wrong grant.
    CredentialRejected,
    /// The upstream still answers with a login page after a heal.
    LoginPage,
    /// No connection to the upstream, or it closed before answering.
    UpstreamUnreachable,
    /// The upstream's certificate or TLS handshake failed.
    UpstreamTls,
    /// The forward proxy on the way to the upstream refused or failed.
    UpstreamProxy,
    /// The upstream took longer than the configured time-out.
    UpstreamTimeout,
    /// No route matches the path.
    NoRoute,
    /// The route does not allow the method.
    MethodNotAllowed,
    /// A request inside of a batch takes another route, or has a method that the route does not allow.
    BatchRefused,
    /// `Host` is no name of this sidecar's.
    HostNotAllowed,
    /// A web page of another site sent it.
    CrossSite,
    /// The local credential is missing or wrong.
    AccessDenied,
    /// The request's framing or path is malformed or ambiguous.
    BadRequest,
    /// The request's header is too large.
    HeaderTooLarge,
    /// More requests at once than `limits.requests`.
    Overloaded,
    /// Past the drain deadline.
    Draining,
    /// A defect in bearerd itself.
    Internal,
}

/// What a kind means on the wire.
struct Row {
    label: &'static str,
    status: StatusCode,
    title: &'static str,
    /// RFC 9209 section 2.3 error type.
    proxy_error: &'static str,
}

impl ErrorKind {
    /// All kinds, in the order of the table in the README.
    pub const ALL: [Self; 18] = [
        Self::TokenUnavailable,
        Self::CredentialRejected,
        Self::LoginPage,
        Self::UpstreamUnreachable,
        Self::UpstreamTls,
        Self::UpstreamTimeout,
        Self::UpstreamProxy,
        Self::NoRoute,
        Self::MethodNotAllowed,
        Self::BatchRefused,
        Self::HostNotAllowed,
        Self::CrossSite,
        Self::AccessDenied,
        Self::BadRequest,
        Self::HeaderTooLarge,
        Self::Overloaded,
        Self::Draining,
        Self::Internal,
    ];

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
                "The forward proxy does not lead to the upstream",
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

    /// The label value in metrics and the `kind` of the answer.
    pub const fn label(self) -> &'static str {
        self.row().label
    }

    /// The HTTP status of the local answer.
    pub const fn status(self) -> StatusCode {
        self.row().status
    }

    /// One line for people; the same for every occurrence of the kind (RFC 9457 section 3.1.3).
    pub const fn title(self) -> &'static str {
        self.row().title
    }

    /// The `error` parameter of `Proxy-Status` (RFC 9209 section 2.3).
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
        let labels: HashSet<_> = ErrorKind::ALL.iter().map(|kind| kind.label()).collect();
        assert_eq!(labels.len(), ErrorKind::ALL.len());
        for kind in ErrorKind::ALL {
            let status = kind.status();
            assert!(status.is_client_error() || status.is_server_error(), "{kind:?}");
        }
    }
}
