//! Body of an issuer's answer. It may be compressed although that was not requested, or begin with
//! a byte order mark.

use crate::text;
use crate::token::error::InvalidAnswer;
use flate2::read::{DeflateDecoder, GzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::io::Read;

/// The largest number of bytes of an answer that are read. A token of 16 KiB is the largest SAP
/// accepts.
pub(in crate::token) const MAX_ANSWER: usize = 64 * 1024;

/// First bytes of gzip (RFC 1952 section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Returns a body as text, decompressed.
///
/// # Errors
/// The body is compressed in a way that bearerd does not know, or longer than [`MAX_ANSWER`] bytes
/// when decompressed.
pub(in crate::token) fn decode<'b>(
    headers: &HeaderMap,
    body: &'b [u8],
) -> Result<Cow<'b, str>, InvalidAnswer> {
    let inflated = inflated(headers, body)?;
    // Bytes that are not text are replaced: the parser then refuses the body.
    Ok(match inflated {
        Cow::Borrowed(bytes) => {
            text::decode(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes))
        }
        Cow::Owned(bytes) => {
            let text = text::decode(&bytes).map(Cow::into_owned);
            text.unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned()).into()
        }
    })
}

/// Whether a body is a whole JSON document, not one that was cut off.
pub(in crate::token) fn is_whole(headers: &HeaderMap, body: &[u8]) -> bool {
    decode(headers, body).is_ok_and(|text| {
        text.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(&text).is_ok()
    })
}

/// Returns a body decompressed. Its first bytes count more than its header: some proxies decompress
/// a body and keep the header.
fn inflated<'b>(headers: &HeaderMap, body: &'b [u8]) -> Result<Cow<'b, [u8]>, InvalidAnswer> {
    if body.starts_with(&GZIP) {
        return bounded(GzDecoder::new(body)).map(Cow::Owned);
    }
    let coding = headers.get(CONTENT_ENCODING).map(|coding| coding.as_bytes().trim_ascii());
    let is_plain = body.trim_ascii_start().starts_with(b"{");
    match coding {
        None | Some(b"" | b"identity") => Ok(body.into()),
        _ if is_plain || body.is_empty() => Ok(body.into()),
        // With zlib's header (RFC 9110 section 8.4.1.2), and in practice often without.
        Some(coding) if coding.eq_ignore_ascii_case(b"deflate") => {
            let inflated = bounded(ZlibDecoder::new(body));
            inflated.or_else(|_| bounded(DeflateDecoder::new(body))).map(Cow::Owned)
        }
        Some(_) => Err(InvalidAnswer::Encoding),
    }
}

fn bounded(inflating: impl Read) -> Result<Vec<u8>, InvalidAnswer> {
    let mut inflated = Vec::new();
    let most = u64::try_from(MAX_ANSWER + 1).unwrap_or(u64::MAX);
    inflating.take(most).read_to_end(&mut inflated).map_err(|_| InvalidAnswer::Encoding)?;
    if inflated.len() > MAX_ANSWER { Err(InvalidAnswer::TooLarge) } else { Ok(inflated) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::read::{DeflateEncoder, GzEncoder, ZlibEncoder};

    const JSON: &str = r#"{"access_token":"t"}"#;

    fn read(mut from: impl Read) -> Vec<u8> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn decoded(coding: &str, body: &[u8]) -> Result<String, InvalidAnswer> {
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, coding.parse().unwrap())]);
        decode(&headers, body).map(Cow::into_owned)
    }

    #[test]
    fn a_compressed_answer_is_inflated_whatever_its_header_says() {
        let gzip = read(GzEncoder::new(JSON.as_bytes(), Compression::default()));
        for coding in ["gzip", "x-gzip", "GZIP", "", "identity", "br"] {
            assert_eq!(decoded(coding, &gzip).as_deref(), Ok(JSON), "{coding}");
        }
        assert_eq!(decode(&HeaderMap::new(), &gzip).as_deref(), Ok(JSON));
        let zlib = read(ZlibEncoder::new(JSON.as_bytes(), Compression::default()));
        let raw = read(DeflateEncoder::new(JSON.as_bytes(), Compression::default()));
        assert_eq!(decoded("deflate", &zlib).as_deref(), Ok(JSON));
        assert_eq!(decoded("Deflate", &raw).as_deref(), Ok(JSON));
        assert_eq!(decoded("gzip", JSON.as_bytes()).as_deref(), Ok(JSON), "inflated on the way");
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_an_answer() {
        let marked = format!("\u{feff}{JSON}");
        let utf16: Vec<u8> = marked.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for body in [marked.as_bytes(), &utf16] {
            assert_eq!(decode(&HeaderMap::new(), body).as_deref(), Ok(JSON));
        }
        let gzip = read(GzEncoder::new(marked.as_bytes(), Compression::default()));
        assert_eq!(decoded("gzip", &gzip).as_deref(), Ok(JSON));
    }

    #[test]
    fn what_is_compressed_otherwise_broken_or_a_bomb_is_refused() {
        assert_eq!(decoded("br", b"\x0b\x02"), Err(InvalidAnswer::Encoding));
        assert_eq!(decoded("gzip", b"\x1f\x8bnonsense"), Err(InvalidAnswer::Encoding));
        let bomb = vec![b' '; MAX_ANSWER * 100];
        let bomb = read(GzEncoder::new(bomb.as_slice(), Compression::best()));
        assert!(bomb.len() < MAX_ANSWER);
        assert_eq!(decoded("gzip", &bomb), Err(InvalidAnswer::TooLarge));
    }

    #[test]
    fn only_a_whole_document_is_whole() {
        let headers = HeaderMap::new();
        assert!(is_whole(&headers, JSON.as_bytes()));
        for cut in 0..JSON.len() {
            assert!(!is_whole(&headers, &JSON.as_bytes()[..cut]), "{cut}");
        }
        let gzip = read(GzEncoder::new(JSON.as_bytes(), Compression::default()));
        assert!(is_whole(&headers, &gzip) && !is_whole(&headers, &gzip[..gzip.len() - 9]));
        assert!(!is_whole(&headers, b"<html>"));
    }
}
