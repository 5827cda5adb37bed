//! Responses of token endpoints and of other servers, and an issuer that always works.

use super::upstream::{Behaviour, Peer};

/// A token response with a lifetime in seconds.
pub(crate) fn token(value: &str, expires_in: u64) -> Behaviour {
    json(&format!(
        r#"{{"access_token":"{value}","token_type":"bearer","expires_in":{expires_in}}}"#
    ))
}

/// A JSON response with status 200.
pub(crate) fn json(body: &str) -> Behaviour {
    status("200 OK", "content-type: application/json\r\n", body)
}

/// A response with this status line, these header lines and this body.
pub(crate) fn status(line: &str, headers: &str, body: &str) -> Behaviour {
    Behaviour::Answer(format!(
        "HTTP/1.1 {line}\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

/// An issuer that always returns the same long-lived token.
pub(crate) async fn steady() -> Peer {
    Peer::start(token("steady-token", 3600)).await
}
