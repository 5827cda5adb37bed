//! Which headers of an answer are stripped, and how large its header may be.

use super::respond::Problem;
use crate::error::ErrorKind;
use http::HeaderName;
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType};

/// The largest header of an upstream's answer that is passed on; the limit of a caller's header is
/// the same. Servers seldom send a tenth of it, and it is held twice: as read and as written.
const LARGEST: usize = 64 * 1024;

/// The header of an answer is larger than [`LARGEST`].
const TOO_LARGE: ErrorType = ErrorType::new("LargeHeader");

/// Whether the header of an answer is too large to be passed on.
pub(super) fn is_too_large(response: &ResponseHeader) -> bool {
    // Each line has a colon and a space between name and value, and two bytes at its end.
    let lines = response.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    lines.sum::<usize>() > LARGEST
}

/// Ends a request whose answer has too large a header.
pub(super) fn too_large() -> Box<Error> {
    let detail = format!(
        "the header of the upstream's answer has more than {} KiB; none of it was passed on, but the upstream may have processed the request; get the answer with `curl` and the token of `bearerd token` to see which header it is",
        LARGEST / 1024
    );
    Problem::new(ErrorKind::UpstreamUnreachable, detail).into_error(TOO_LARGE).into_up()
}

/// Removes `Keep-Alive`, which concerns the connection to the upstream, and all headers that would
/// let web pages of other sites read answers.
pub(super) fn strip(response: &mut ResponseHeader) {
    response.remove_header("keep-alive");
    let stripped: Vec<HeaderName> = response
        .headers
        .keys()
        .filter(|name| name.as_str().starts_with("access-control-"))
        .cloned()
        .collect();
    for name in stripped {
        response.remove_header(&name);
    }
}
