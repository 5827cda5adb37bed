//! Malformed requests that pingora repairs.

use super::{Row, carries, passes, row, with};

/// Malformed requests that pingora accepts before bearerd sees the bytes. They are harmless,
/// because the upstream gets valid bytes. A row that fails after an update of pingora is probably
/// an improvement.
pub(super) fn known() -> Vec<Row> {
    // RFC 9112 section 3.2 advises to refuse a malformed target. pingora percent-encodes it, also
    // in the raw header. The sidecar checks and forwards the encoded target.
    let encoded = [
        ("GET /free/a b HTTP/1.1", "GET /free/a%20b HTTP/1.1"),
        ("GET /free/x  HTTP/1.1", "GET /free/x%20 HTTP/1.1"),
        ("GET /free/x\tHTTP/1.1 HTTP/1.1", "GET /free/x%09HTTP/1.1 HTTP/1.1"),
        ("GET /free/x\rX-A: b HTTP/1.1", "GET /free/x%0DX-A:%20b HTTP/1.1"),
        ("GET /free/x\u{7f} HTTP/1.1", "GET /free/x%7F HTTP/1.1"),
        // bearerd itself encodes these characters, before pingora does.
        ("GET /free/x?a=\"<b>\" HTTP/1.1", "GET /free/x?a=%22%3Cb%3E%22 HTTP/1.1"),
    ]
    .map(|(line, sent)| row(format!("{line:?}"), with(line, "\r\n"), passes(sent)));
    // httparse accepts any octet in an extension, and takes an empty size for zero. Chunks are
    // framed anew without extensions, and bytes behind the body end the connection.
    let chunked = |body: &str| {
        with("POST /free HTTP/1.1", &format!("Transfer-Encoding: chunked\r\n\r\n{body}"))
    };
    let chunks = [
        ("a bare LF in an extension", "3;a\nb\r\nabc\r\n0\r\n\r\n", "abc"),
        ("a chunk in an extension", "3;\n2\r\nabc\r\n0\r\n\r\n", "abc"),
        ("a NUL in an extension", "3;\0\r\nabc\r\n0\r\n\r\n", "abc"),
        ("a space behind a size", "3 \t\r\nabc\r\n0\r\n\r\n", "abc"),
        ("no size", "\r\n\r\n", ""),
        ("a trailer that is not a header", "3\r\nabc\r\n0\r\n\0 evil\r\n\r\n", "abc"),
    ]
    .map(|(name, body, sent)| row(name, chunked(body), carries(sent)));
    encoded.into_iter().chain(chunks).collect()
}
