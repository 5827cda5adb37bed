//! Headers that override a request's method.

use super::stripped_headers::resembles;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// Headers that override a request's method.
const METHOD_OVERRIDES: [&str; 3] =
    ["x-http-method", "x-http-method-override", "x-method-override"];

/// The methods by which headers override a request's own. OData V2 servers obey `X-HTTP-Method`,
/// others similar headers. Which of several a server obeys is unknown, so all are checked.
pub(super) fn overriding_methods(headers: &HeaderMap) -> impl Iterator<Item = &HeaderValue> {
    let is_override =
        |name: &HeaderName| METHOD_OVERRIDES.iter().any(|known| resembles(name, known));
    headers.iter().filter(move |(name, _)| is_override(name)).map(|(_, value)| value)
}

/// Whether a condition holds for a request's method and for every method that overrides it.
pub(super) fn all_methods(
    method: &Method,
    headers: &HeaderMap,
    holds: impl Fn(&Method) -> bool,
) -> bool {
    let known = |value: &HeaderValue| Method::from_bytes(value.as_bytes()).ok();
    holds(method)
        && overriding_methods(headers).all(|value| known(value).is_some_and(|one| holds(&one)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::test_request::request;

    #[test]
    fn every_method_in_a_header_counts() {
        let request = request(
            "GET",
            &[
                ("X-HTTP-Method", "GET"),
                ("x-http-method", "DELETE"),
                ("X_HTTP-Method_Override", "PUT"),
                ("X-Method-Override", "PATCH"),
                ("X-HTTP-Methods", "no"),
            ],
        );
        let mut methods: Vec<_> = overriding_methods(&request.headers).collect();
        methods.sort();
        assert_eq!(methods, ["DELETE", "GET", "PATCH", "PUT"]);
    }
}
