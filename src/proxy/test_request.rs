//! Requests for unit tests.

use pingora::http::RequestHeader;

/// A request with these headers.
pub(super) fn request(method: &str, headers: &[(&'static str, &'static str)]) -> RequestHeader {
    let mut request = RequestHeader::build(method, b"/", None).unwrap();
    for (name, value) in headers {
        request.append_header(*name, *value).unwrap();
    }
    request
}
