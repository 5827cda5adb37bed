//! Lines in the body of a part that some servers take for the beginning of another part. Pure.
//!
//! SAP's CAP looks for request lines and for lines that begin with `--` anywhere in a batch, whatever
//! lengths and boundaries say.

use super::{Refusal, unreadable};

/// Behind the target of a request line.
const VERSION: &[u8] = b" HTTP/";
/// The last bytes of what JavaScript takes for line ends, U+2028 and U+2029, in UTF-8.
const SEPARATORS: [[u8; 3]; 2] = [[0xe2, 0x80, 0xa8], [0xe2, 0x80, 0xa9]];

/// Reads a body line by line, whatever its chunks are.
#[derive(Debug, Default)]
pub(super) struct Lines {
    place: Place,
    /// The last bytes.
    last: [u8; 3],
}

/// Where the next byte is on its line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// At its beginning, or behind white space there.
    #[default]
    Start,
    /// Behind one dash.
    Dash,
    /// In what may be a method.
    Method,
    /// Behind a method, with so many bytes of a version.
    Target(usize),
    /// On a line that is none of these.
    Other,
}

impl Lines {
    /// Reads the next bytes.
    ///
    /// # Errors
    /// A line can be read as the beginning of another part.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        for byte in bytes.iter().copied() {
            self.last = [self.last[1], self.last[2], byte];
            if matches!(byte, b'\r' | b'\n') || SEPARATORS.contains(&self.last) {
                self.place = Place::Start;
                continue;
            }
            self.place = match (self.place, byte) {
                (Place::Start, b' ' | b'\t') => Place::Start,
                (Place::Start, b'-') => Place::Dash,
                (Place::Start | Place::Method, byte) if byte.is_ascii_alphabetic() => Place::Method,
                (Place::Method, b' ' | b'\t') => Place::Target(1),
                (Place::Dash, b'-') => {
                    return unreadable("has a line in its body that begins like a boundary");
                }
                (Place::Target(seen), byte) => match VERSION.get(seen) {
                    Some(wanted)
                        if byte.eq_ignore_ascii_case(wanted) && seen + 1 == VERSION.len() =>
                    {
                        return unreadable("has a line in its body that is a request's");
                    }
                    Some(wanted) if byte.eq_ignore_ascii_case(wanted) => Place::Target(seen + 1),
                    _ => Place::Target(usize::from(matches!(byte, b' ' | b'\t'))),
                },
                _ => Place::Other,
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> bool {
        let whole = Lines::default().read(text.as_bytes()).is_ok();
        let mut lines = Lines::default();
        let single = text.as_bytes().iter().all(|byte| lines.read(&[*byte]).is_ok());
        assert_eq!(whole, single, "{text}");
        whole
    }

    #[test]
    fn lines_that_begin_another_part_for_some_server_are_found() {
        for text in [
            "DELETE /x HTTP/1.1",
            "{}\r\n\r\nDELETE /x HTTP/1.1\r\n",
            "x\rPOST /x?a b HTTP/1.1",
            "x\u{2028}PATCH x HTTP/1.1",
            "x\u{2029}--b",
            "  merge x http/1.1",
            "--x",
            "\n --b\r\n",
        ] {
            assert!(!read(text), "{text}");
        }
        for text in [
            "{\"a\":\"DELETE /x HTTP/1.1\"}",
            "{\n  \"a\": 1\n}",
            "a--b\n-\n- -x",
            "DELETE /x",
            "1 GET x HTTP/1.1",
            "a,b;c HTTP/1.1",
        ] {
            assert!(read(text), "{text}");
        }
    }
}
