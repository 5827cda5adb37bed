//! Responses whose bodies the tests of links choose.

use crate::support::issuer;
use crate::support::upstream::Behaviour;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;

/// A JSON response with these header lines.
pub(super) fn json(headers: &str, body: &str) -> Behaviour {
    issuer::status("200 OK", &format!("content-type: application/json\r\n{headers}"), body)
}

/// A response with a body that is compressed by gzip.
pub(super) fn gzip(content_type: &str, body: &str) -> Behaviour {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body.as_bytes()).unwrap();
    compressed(content_type, &encoder.finish().unwrap())
}

/// A response with this body, which its header calls gzip.
pub(super) fn compressed(content_type: &str, body: &[u8]) -> Behaviour {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    Behaviour::Bytes([head.as_bytes(), body].concat())
}
