//! Which headers of a request are stripped before it is sent upstream.
//!
//! pingora has already removed the hop-by-hop headers and those that `Connection` nominates.

use super::injected_headers::CUSTOM_AUTH;
use crate::trace_context::TRACESTATE;
use http::HeaderName;
use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, FORWARDED, HOST,
    PROXY_AUTHORIZATION, TRANSFER_ENCODING,
};
use pingora::http::RequestHeader;

const X_APPROUTER_AUTHORIZATION: &str = "x-approuter-authorization";
const X_FORWARDED: &str = "x-forwarded";
/// Headers from which some front ends take the path. A request would be checked for the path of one
/// route and processed for another path.
const PATH_OVERRIDES: [&str; 2] = ["x-original-url", "x-rewrite-url"];
/// The header of a local API key.
pub(crate) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Headers that only the sidecar may set. A server that treats `_` as `-` must not get the caller's
/// version of them.
const SET_HERE: [HeaderName; 9] = [
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

/// Headers that are stripped from some requests only.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StripAlso {
    /// `X-Api-Key`, because callers present their keys to bearerd in it. Otherwise it is the
    /// upstream's.
    pub(crate) api_key: bool,
    /// `tracestate`, because it belongs to a trace that bearerd does not continue.
    pub(crate) trace_state: bool,
}

/// Removes the headers that the caller must not set. Returns whether `Authorization` was among
/// them.
pub(crate) fn strip(request: &mut RequestHeader, also: StripAlso) -> bool {
    let mut had_authorization = false;
    let goes = |name: &HeaderName| {
        is_always_stripped(name)
            || also.api_key && resembles(name, X_API_KEY.as_str())
            || also.trace_state && *name == TRACESTATE
    };
    let stripped: Vec<HeaderName> =
        request.headers.keys().filter(|name| goes(name)).cloned().collect();
    for name in stripped {
        had_authorization |= resembles(&name, AUTHORIZATION.as_str());
        request.remove_header(&name);
    }
    had_authorization
}

/// Whether a header is stripped from every request. `Forwarded` and `X-Forwarded-*` would change
/// SAP's login redirects. `x-approuter-authorization` replaces the token. The caller's
/// `Authorization` must not be sent with the injected token or instead of it.
fn is_always_stripped(name: &HeaderName) -> bool {
    let exact = *name == AUTHORIZATION || *name == PROXY_AUTHORIZATION || *name == FORWARDED;
    exact
        || resembles(name, X_APPROUTER_AUTHORIZATION)
        || begins_like(name, X_FORWARDED)
        || PATH_OVERRIDES.iter().any(|known| resembles(name, known))
        || name.as_str().contains('_')
            && SET_HERE.iter().any(|known| resembles(name, known.as_str()))
}

/// Whether a header is stripped from the parts of every batch: also a local API key, which
/// libraries copy into each part.
pub(super) fn is_stripped_from_parts(name: &HeaderName) -> bool {
    is_always_stripped(name) || resembles(name, X_API_KEY.as_str())
}

/// Whether two names are equal if `_` is treated as `-`: CGI-like servers do not distinguish them.
/// Names are lower-case.
pub(super) fn resembles(name: &HeaderName, known: &str) -> bool {
    name.as_str().len() == known.len() && begins_like(name, known)
}

fn begins_like(name: &HeaderName, prefix: &str) -> bool {
    let alike = |(given, wanted): (u8, u8)| given == wanted || given == b'_' && wanted == b'-';
    name.as_str().len() >= prefix.len() && name.as_str().bytes().zip(prefix.bytes()).all(alike)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::test_request::request;

    fn names(request: &RequestHeader) -> Vec<&str> {
        request.headers.keys().map(HeaderName::as_str).collect()
    }

    #[test]
    fn every_spelling_of_authorization_goes_and_duplicates_too() {
        for spelling in ["Authorization", "authorization", "AUTHORIZATION", "aUtHoRiZaTiOn"] {
            let mut request = request(
                "GET",
                &[(spelling, "Basic eDp5"), (spelling, "Bearer z"), ("Accept", "*/*")],
            );
            assert!(strip(&mut request, StripAlso::default()), "{spelling}");
            assert_eq!(names(&request), ["accept"]);
        }
    }

    #[test]
    fn headers_that_steer_the_front_door_go() {
        let mut request = request(
            "GET",
            &[
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
            ],
        );
        assert!(!strip(&mut request, StripAlso::default()));
        assert_eq!(names(&request), ["x_request_id"]);
    }

    #[test]
    fn an_api_key_and_a_trace_state_go_only_when_they_are_not_for_the_upstream() {
        let lines = [("X-Api-Key", "a"), ("tracestate", "a=b"), ("traceparent", "c")];
        for (api_key, trace_state, left) in [
            (false, false, &["x-api-key", "tracestate", "traceparent"][..]),
            (true, false, &["tracestate", "traceparent"]),
            (false, true, &["x-api-key", "traceparent"]),
            (true, true, &["traceparent"]),
        ] {
            let mut request = request("GET", &lines);
            assert!(!strip(&mut request, StripAlso { api_key, trace_state }));
            let is_left = |name: &&str| left.contains(name);
            assert_eq!(names(&request).iter().filter(|name| is_left(name)).count(), left.len());
            assert_eq!(names(&request).len(), left.len(), "{api_key} {trace_state}");
        }
    }
}
