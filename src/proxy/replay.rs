//! Whether a request may be sent to the upstream again. Pure.

use super::method_override::all_methods;
use crate::profile::Replay;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method};
use pingora::http::RequestHeader;
use pingora::proxy::Session;

/// The size of pingora's buffer for request bodies that may have to be sent again.
pub(super) const REPLAY_BUFFER: u64 = 64 * 1024;

/// Whether a request's body does not fit into the replay buffer. The length of a chunked body is
/// unknown, so it is treated as too large.
pub(super) fn outgrows_buffer(request: &RequestHeader) -> bool {
    let length = request.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    match length {
        Some(length) => length.parse::<u64>().is_ok_and(|length| length > REPLAY_BUFFER),
        None => request.headers.contains_key(TRANSFER_ENCODING),
    }
}

/// Whether the replay buffer still holds all that was read of the body.
pub(super) fn is_body_held(session: &Session) -> bool {
    !session.as_ref().retry_buffer_truncated()
}

/// Whether the profile allows a request to be sent again after the upstream refused its token.
pub(super) fn is_allowed(replay: Replay, method: &Method, request: &HeaderMap) -> bool {
    match replay {
        Replay::Any => true,
        Replay::Idempotent => all_methods(method, request, Method::is_idempotent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_profile_that_replays_idempotent_requests_replays_no_post() {
        let may = |replay, method, tunnelled: &str| {
            let tunnelled = HeaderValue::from_str(tunnelled).unwrap();
            let mut headers = HeaderMap::new();
            headers.insert("x-http-method", tunnelled);
            is_allowed(replay, &method, &headers)
        };
        assert!(may(Replay::Any, Method::POST, "PATCH"));
        assert!(may(Replay::Idempotent, Method::PUT, "DELETE"));
        assert!(!may(Replay::Idempotent, Method::POST, "PUT"));
        assert!(!may(Replay::Idempotent, Method::PUT, "PATCH"));
        assert!(!may(Replay::Idempotent, Method::GET, "no method"));
        assert!(is_allowed(Replay::Idempotent, &Method::PUT, &HeaderMap::new()));
    }
}
