//! Which headers are injected into a request before it is sent upstream.

use http::header::{AUTHORIZATION, HOST};
use http::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;

/// The header that makes SAP's front end use the bearer token, not a browser session.
pub(crate) const CUSTOM_AUTH: HeaderName = HeaderName::from_static("x-sap-sac-custom-auth");

/// The headers that are added to a request.
#[derive(Debug)]
pub(crate) struct Injection<'a> {
    pub(crate) authorization: &'a HeaderValue,
    pub(crate) host: &'a HeaderValue,
    pub(crate) custom_auth: bool,
    pub(crate) extra: &'a [(HeaderName, HeaderValue)],
}

/// Adds the sidecar's headers; each replaces the caller's header of that name.
pub(crate) fn inject(
    request: &mut RequestHeader,
    injection: &Injection<'_>,
) -> pingora::Result<()> {
    for (name, value) in injection.extra {
        request.insert_header(name, value)?;
    }
    if injection.custom_auth {
        request.insert_header(CUSTOM_AUTH, HeaderValue::from_static("true"))?;
    }
    request.insert_header(HOST, injection.host)?;
    request.insert_header(AUTHORIZATION, injection.authorization)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::test_request::request;

    #[test]
    fn ours_replace_what_is_there() {
        let mut request = request(
            "GET",
            &[("Host", "127.0.0.1:8080"), ("x-sap-sac-custom-auth", "false"), ("x-team", "a")],
        );
        let mut authorization = HeaderValue::from_static("Bearer ours");
        authorization.set_sensitive(true);
        let injection = Injection {
            authorization: &authorization,
            host: &HeaderValue::from_static("acme.example"),
            custom_auth: true,
            extra: &[(HeaderName::from_static("x-team"), HeaderValue::from_static("b"))],
        };
        inject(&mut request, &injection).unwrap();
        let value = |name: &str| {
            let values: Vec<_> = request.headers.get_all(name).iter().collect();
            assert_eq!(values.len(), 1, "{name}");
            values[0].clone()
        };
        assert_eq!(value("authorization"), "Bearer ours");
        assert!(value("authorization").is_sensitive());
        assert_eq!(value("host"), "acme.example");
        assert_eq!(value("x-sap-sac-custom-auth"), "true");
        assert_eq!(value("x-team"), "b");
    }
}
