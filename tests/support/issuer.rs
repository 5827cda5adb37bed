//! A token endpoint that answers from a script and remembers every request as it came.

use super::upstream::{Behaviour, Peer};

/// A well-formed answer with this token, which lives for this long.
pub(crate) fn token(value: &str, expires_in: u64) -> Behaviour {
    json(&format!(
        r#"{{"access_token":"{value}","token_type":"bearer","expires_in":{expires_in}}}"#
    ))
}

/// Status 200 with this body.
pub(crate) fn json(body: &str) -> Behaviour {
    status("200 OK", "content-type: application/json\r\n", body)
}

/// Any status, with these header lines.
pub(crate) fn status(line: &str, headers: &str, body: &str) -> Behaviour {
    Behaviour::Answer(format!(
        "HTTP/1.1 {line}\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

/// An issuer that always gives one long-lived token.
pub(crate) async fn steady() -> Peer {
    Peer::start(token("steady-token", 3600)).await
}
