//! Raw `"`, `<` and `>` in a query, percent-encoded before pingora reads them.
//!
//! curl and hand-made callers send `filter=userName eq "a"` with raw quotes. pingora only encodes
//! them if something else in the target is illegal too, and refuses the request otherwise.

use memchr::{memchr, memchr3};

/// The characters that are encoded.
const RAW: [u8; 3] = [b'"', b'<', b'>'];

/// The part of a request line that the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RequestLine {
    /// Before the line: empty lines may come first (RFC 9112 section 2.2).
    #[default]
    Before,
    /// The method or the path.
    Path,
    /// The query, or the version after it.
    Query,
    /// After the line.
    Over,
}

impl RequestLine {
    /// Reads the next bytes. Returns their encoded form, if it differs.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut rest = bytes;
        if *self == Self::Before {
            let begins = rest.iter().position(|byte| !b"\r\n".contains(byte))?;
            rest = rest.get(begins..)?;
            *self = Self::Path;
        }
        let end = memchr(b'\n', rest);
        let line = rest.get(..end.unwrap_or(rest.len()))?;
        let query = match *self {
            Self::Path => memchr(b'?', line).and_then(|at| line.get(at..)),
            Self::Query => Some(line),
            Self::Before | Self::Over => return None,
        };
        if query.is_some() {
            *self = Self::Query;
        }
        if end.is_some() {
            *self = Self::Over;
        }
        let query = query.filter(|query| memchr3(RAW[0], RAW[1], RAW[2], query).is_some())?;
        let behind = end.and_then(|end| rest.get(end..)).unwrap_or_default();
        let before = bytes.len() - behind.len() - query.len();
        let mut encoded = bytes.get(..before)?.to_vec();
        for byte in query {
            match byte {
                b'"' => encoded.extend_from_slice(b"%22"),
                b'<' => encoded.extend_from_slice(b"%3C"),
                b'>' => encoded.extend_from_slice(b"%3E"),
                other => encoded.push(*other),
            }
        }
        encoded.extend_from_slice(behind);
        Some(encoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(chunks: &[&[u8]]) -> Vec<u8> {
        let mut line = RequestLine::default();
        let read = chunks.iter().map(|chunk| line.read(chunk).unwrap_or_else(|| chunk.to_vec()));
        read.collect::<Vec<_>>().concat()
    }

    #[test]
    fn only_a_query_is_encoded() {
        let request = b"\r\nGET /a\"<b>?x=\"<y>\"? HTTP/1.1\r\nX: ?\"<>\r\n\r\n?\"";
        let wanted = b"\r\nGET /a\"<b>?x=%22%3Cy%3E%22? HTTP/1.1\r\nX: ?\"<>\r\n\r\n?\"";
        assert_eq!(read(&[request]), wanted);
        assert_eq!(RequestLine::default().read(b"GET /a?b HTTP/1.1\r\n"), None);
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(
            text in "(\r\n){0,2}[A-Z?\"<> /]{0,20}(\r\n[?\"<>a]{0,9}){0,3}",
            sizes in prop::collection::vec(1_usize..9, 1..5),
        ) {
            let mut chunks = Vec::new();
            let mut rest = text.as_bytes();
            for size in sizes.iter().cycle() {
                let (now, later) = rest.split_at((*size).min(rest.len()));
                chunks.push(now);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(read(&chunks), read(&[text.as_bytes()]));
        }
    }
}
