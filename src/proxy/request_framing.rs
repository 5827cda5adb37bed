//! Framing of requests that RFC 9112 forbids and pingora allows.

use http::Version;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use pingora::proxy::Session;

/// Checks the framing of a request.
///
/// # Errors
/// Why the request is malformed.
pub(super) fn check(session: &Session) -> Result<(), &'static str> {
    let request = session.req_header();
    let (mut hosts, mut lengths, mut codings) = (0, 0, 0);
    let (mut is_number, mut is_chunked) = (true, true);
    // One pass: looking each name up costs more than comparing a few names.
    for (name, value) in &request.headers {
        if *name == HOST {
            hosts += 1;
        } else if *name == CONTENT_LENGTH {
            lengths += 1;
            is_number &= !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
        } else if *name == TRANSFER_ENCODING {
            codings += 1;
            is_chunked &= value.as_bytes().eq_ignore_ascii_case(b"chunked");
        }
    }
    if hosts > 1 || hosts == 0 && request.version == Version::HTTP_11 {
        return Err("an HTTP/1.1 request must have exactly one Host (RFC 9112 section 3.2)");
    }
    if lengths > 1 || !is_number {
        return Err("Content-Length must be one number (RFC 9110 section 8.6)");
    }
    if codings > 1 || !is_chunked {
        return Err(
            "the only supported transfer coding is a single `chunked` (RFC 9112 section 6.1)",
        );
    }
    // pingora silently drops a fragment, and the length if there is a transfer coding. The raw
    // bytes still have both.
    let block = session.to_h1_raw();
    if request_line(&block).contains(&b'#') {
        return Err(
            "a request target must not have a fragment (RFC 9112 section 3.2); percent-encode a `#` that is part of it",
        );
    }
    if codings > 0 && names_header(&block, CONTENT_LENGTH.as_str()) {
        return Err(
            "Content-Length and Transfer-Encoding exclude each other (RFC 9112 section 6.1)",
        );
    }
    Ok(())
}

/// The first line of a raw header block that is not empty (RFC 9112 section 2.2).
fn request_line(block: &[u8]) -> &[u8] {
    let block = block.trim_ascii_start();
    block.split(|byte| *byte == b'\n').next().unwrap_or(block)
}

/// Whether a line of a raw header block has this name.
fn names_header(block: &[u8], name: &str) -> bool {
    block.split(|byte| *byte == b'\n').any(|line| {
        let given = line.split(|byte| *byte == b':').next().unwrap_or(line);
        given.eq_ignore_ascii_case(name.as_bytes())
    })
}
