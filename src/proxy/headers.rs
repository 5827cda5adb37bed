//! What is taken out of a request before it goes upstream, and what is put in.
//!
//! Hop-by-hop headers and those that `Connection` nominates are removed by pingora before this.

use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, FORWARDED, HOST,
    PROXY_AUTHORIZATION, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pingora::http::{RequestHeader, ResponseHeader};

const X_APPROUTER_AUTHORIZATION: &str = "x-approuter-authorization";
const X_FORWARDED: &str = "x-forwarded";
/// Some front doors take the path from these: a route would be checked for one and used for another.
const PATH_OVERRIDES: [&str; 2] = ["x-original-url", "x-rewrite-url"];
/// Where a request says which method it stands for.
const METHOD_OVERRIDES: [&str; 3] =
    ["x-http-method", "x-http-method-override", "x-method-override"];
/// Tells SAP's front door that the bearer is meant, not a browser session.
pub(crate) const CUSTOM_AUTH: HeaderName = HeaderName::from_static("x-sap-sac-custom-auth");

/// The largest header of an upstream's answer that is passed on, which is also a caller's. Servers seldom send a tenth
/// of it, and it is held more than once: as it was read, and as it is written.
pub(super) const LARGEST_ANSWER_HEADER: usize = 64 * 1024;

/// Whoever takes `_` for `-` would believe the caller where only we are to be believed.
const DECIDED_HERE: [HeaderName; 9] = [
    AUTHORIZATION,
    PROXY_AUTHORIZATION,
    FORWARDED,
    HOST,
    CUSTOM_AUTH,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    CONTENT_ENCODING,
    TRANSFER_ENCODING,
];

/// What a request carries upstream besides the caller's own headers.
#[derive(Debug)]
pub(crate) struct Injection<'a> {
    pub(crate) authorization: &'a HeaderValue,
    pub(crate) host: &'a HeaderValue,
    pub(crate) custom_auth: bool,
    pub(crate) extra: &'a [(HeaderName, HeaderValue)],
}

/// Whether the header of an answer is too large to be passed on.
pub(super) fn is_too_large(response: &ResponseHeader) -> bool {
    // On a line, a colon and a space are between name and value, and two bytes end it.
    let lines = response.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    lines.sum::<usize>() > LARGEST_ANSWER_HEADER
}

/// Removes what the caller must not decide. Tells whether an `Authorization` was among it.
pub(crate) fn strip(request: &mut RequestHeader) -> bool {
    let mut had_authorization = false;
    let doomed: Vec<HeaderName> =
        request.headers.keys().filter(|name| is_stripped(name)).cloned().collect();
    for name in doomed {
        had_authorization |= resembles(&name, AUTHORIZATION.as_str());
        request.remove_header(&name);
    }
    had_authorization
}

/// `Forwarded` and `X-Forwarded-*` would steer SAP's login redirects; `x-approuter-authorization`
/// takes a token's place; an `Authorization` of the caller's must not travel with our rights, nor
/// instead of them.
pub(super) fn is_stripped(name: &HeaderName) -> bool {
    let exact = *name == AUTHORIZATION || *name == PROXY_AUTHORIZATION || *name == FORWARDED;
    exact
        || resembles(name, X_APPROUTER_AUTHORIZATION)
        || begins_like(name, X_FORWARDED)
        || PATH_OVERRIDES.iter().any(|known| resembles(name, known))
        || name.as_str().contains('_')
            && DECIDED_HERE.iter().any(|ours| resembles(name, ours.as_str()))
}

/// Every method that a request stands for besides its own: OData V2 servers obey `X-HTTP-Method`,
/// others its kin, and nobody knows which of several.
pub(super) fn tunnelled_methods(headers: &HeaderMap) -> impl Iterator<Item = &HeaderValue> {
    let is_one = |name: &HeaderName| METHOD_OVERRIDES.iter().any(|known| resembles(name, known));
    headers.iter().filter(move |(name, _)| is_one(name)).map(|(_, value)| value)
}

/// Whether this is true of a request's own method, and of every other that it stands for.
pub(super) fn all_methods(
    method: &Method,
    headers: &HeaderMap,
    is_true: impl Fn(&Method) -> bool,
) -> bool {
    let known = |value: &HeaderValue| Method::from_bytes(value.as_bytes()).ok();
    is_true(method)
        && tunnelled_methods(headers).all(|value| known(value).is_some_and(|one| is_true(&one)))
}

/// Equal, if `_` counts as `-`: CGI-like servers do not tell the two apart. Names are lower-case.
fn resembles(name: &HeaderName, known: &str) -> bool {
    name.as_str().len() == known.len() && begins_like(name, known)
}

fn begins_like(name: &HeaderName, prefix: &str) -> bool {
    let alike = |(given, wanted): (u8, u8)| given == wanted || given == b'_' && wanted == b'-';
    name.as_str().len() >= prefix.len() && name.as_str().bytes().zip(prefix.bytes()).all(alike)
}

/// Removes what is not for the caller: `Keep-Alive`, which is about the connection behind us, and all
/// that would let web pages of other sites read answers.
pub(crate) fn strip_answer(response: &mut ResponseHeader) {
    response.remove_header("keep-alive");
    let doomed: Vec<HeaderName> = response
        .headers
        .keys()
        .filter(|name| name.as_str().starts_with("access-control-"))
        .cloned()
        .collect();
    for name in doomed {
        response.remove_header(&name);
    }
}

/// Puts ours in; each replaces whatever stands under its name.
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

    fn request(headers: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in headers {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    fn names(request: &RequestHeader) -> Vec<&str> {
        request.headers.keys().map(HeaderName::as_str).collect()
    }

    #[test]
    fn every_spelling_of_authorization_goes_and_duplicates_too() {
        for spelling in ["Authorization", "authorization", "AUTHORIZATION", "aUtHoRiZaTiOn"] {
            let mut request =
                request(&[(spelling, "Basic eDp5"), (spelling, "Bearer z"), ("Accept", "*/*")]);
            assert!(strip(&mut request), "{spelling}");
            assert_eq!(names(&request), ["accept"]);
        }
    }

    #[test]
    fn headers_that_steer_the_front_door_go() {
        let mut request = request(&[
            ("Forwarded", "host=evil"),
            ("X-Forwarded-Host", "evil"),
            ("X-Forwarded-For", "1.2.3.4"),
            ("x_forwarded_proto", "http"),
            ("X-Approuter-Authorization", "Bearer other"),
            ("x-approuter_authorization", "Bearer other"),
            ("Proxy-Authorization", "Basic eDp5"),
            ("proxy_authorization", "Basic eDp5"),
            ("x_sap-sac_custom_auth", "false"),
            ("X-Original-URL", "/admin"),
            ("x_rewrite_url", "/admin"),
            ("content_length", "3"),
            ("Transfer_Encoding", "chunked"),
            ("x_request_id", "stays"),
        ]);
        assert!(!strip(&mut request));
        assert_eq!(names(&request), ["x_request_id"]);
    }

    #[test]
    fn every_method_in_a_header_counts() {
        let request = request(&[
            ("X-HTTP-Method", "GET"),
            ("x-http-method", "DELETE"),
            ("X_HTTP-Method_Override", "PUT"),
            ("X-Method-Override", "PATCH"),
            ("X-HTTP-Methods", "no"),
        ]);
        let mut methods: Vec<_> = tunnelled_methods(&request.headers).collect();
        methods.sort();
        assert_eq!(methods, ["DELETE", "GET", "PATCH", "PUT"]);
    }

    #[test]
    fn ours_replace_what_is_there() {
        let mut request = request(&[
            ("Host", "127.0.0.1:8080"),
            ("x-sap-sac-custom-auth", "false"),
            ("x-team", "a"),
        ]);
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
