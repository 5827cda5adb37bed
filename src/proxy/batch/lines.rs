//! Lines in the body of a part that some servers take for the beginning of another part. Pure.
//!
//! SAP's CAP looks for request lines and for lines that begin with `--` anywhere in a batch, whatever
//! lengths and boundaries say. It first takes `content-length: …` out wherever it stands, line end
//! included, which can join two lines that mean nothing by themselves. Its parser is Node's, which
//! needs no version and knows others than HTTP. Olingo reads what follows a line that begins with
//! `content-type` in the character set that it names.

use super::reader::is_like_ascii;
use super::{Refusal, unreadable};

/// What Node's parser and OData know as methods.
const METHODS: [&[u8]; 36] = [
    b"ACL",
    b"BIND",
    b"CHECKOUT",
    b"CONNECT",
    b"COPY",
    b"DELETE",
    b"DESCRIBE",
    b"GET",
    b"HEAD",
    b"LINK",
    b"LOCK",
    b"M-SEARCH",
    b"MERGE",
    b"MKACTIVITY",
    b"MKCALENDAR",
    b"MKCOL",
    b"MOVE",
    b"NOTIFY",
    b"OPTIONS",
    b"PATCH",
    b"POST",
    b"PROPFIND",
    b"PROPPATCH",
    b"PURGE",
    b"PUT",
    b"QUERY",
    b"REBIND",
    b"REPORT",
    b"SEARCH",
    b"SOURCE",
    b"SUBSCRIBE",
    b"TRACE",
    b"UNBIND",
    b"UNLINK",
    b"UNLOCK",
    b"UNSUBSCRIBE",
];
/// Behind the target of a request line.
const VERSION: &[u8] = b" HTTP/";
/// What CAP takes out.
const LENGTH: &[u8] = b"content-length:";
const LONGEST_METHOD: usize = 12;
/// Begins a line that may name a character set.
const TYPE: &[u8] = b"content-type";
/// The longest such line.
const LONGEST_TYPE: usize = 1024;

/// Reads a body line by line, whatever its chunks are.
#[derive(Debug, Default)]
pub(super) struct Lines {
    place: Place,
    /// The bytes of what may be a method.
    method: Vec<u8>,
    /// The last bytes.
    last: [u8; 3],
    /// How many bytes of [`LENGTH`] are there.
    length: usize,
    /// The line so far, while it begins like [`TYPE`].
    media: Vec<u8>,
    is_media: bool,
    /// Whether the line begins like a boundary, and can be a request's target for CAP, which makes one of it.
    is_boundary: bool,
}

/// Where the next byte is on its line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// At its beginning.
    #[default]
    Start,
    /// Behind what parsers skip there.
    Blank,
    /// Behind one dash.
    Dash,
    /// In what may be a method.
    Method,
    /// Behind a method in other capitals, with so many bytes of a version.
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
        bytes.iter().try_for_each(|byte| self.next(*byte))
    }

    fn next(&mut self, byte: u8) -> Result<(), Refusal> {
        let [_, second, third] = self.last;
        self.last = [second, third, byte];
        self.length = match LENGTH.get(self.length) {
            Some(wanted) if byte.eq_ignore_ascii_case(wanted) => self.length + 1,
            _ => usize::from(byte.eq_ignore_ascii_case(&b'c')),
        };
        if self.length == LENGTH.len() {
            return unreadable("has a Content-Length in its body");
        }
        if ends_line(self.last) {
            let is_end = ends_line_of_javascript(self.last);
            if self.is_boundary && is_end {
                return unreadable("has a line in its body that begins like a boundary");
            }
            self.is_boundary &= !is_control(byte);
            // A method may be all that is on its line.
            self.end_method()?;
            self.end_media()?;
            self.place = if is_end { Place::Start } else { Place::Blank };
            return Ok(());
        }
        self.read_media(byte)?;
        self.is_boundary &= !is_control(byte);
        self.is_boundary |= self.place == Place::Dash && byte == b'-';
        // No parser's method holds such a byte, and some skip it.
        let is_blank = byte <= b' ' || byte >= 0x7f;
        self.place = match self.place {
            Place::Start if byte == b'-' => Place::Dash,
            Place::Start | Place::Blank if is_blank => Place::Blank,
            Place::Start | Place::Blank | Place::Method if is_method_byte(byte) => {
                self.method.push(byte);
                if self.method.len() > LONGEST_METHOD { Place::Other } else { Place::Method }
            }
            Place::Method if is_blank => self.end_method()?,
            Place::Target(seen) => match VERSION.get(seen) {
                Some(wanted) if byte.eq_ignore_ascii_case(wanted) => {
                    if seen + 1 == VERSION.len() {
                        return unreadable("has a line in its body that is a request's");
                    }
                    Place::Target(seen + 1)
                }
                _ => Place::Target(usize::from(byte == b' ')),
            },
            _ => Place::Other,
        };
        if self.place != Place::Method {
            self.method.clear();
        }
        Ok(())
    }

    /// Reads a line that begins like one of a type.
    fn read_media(&mut self, byte: u8) -> Result<(), Refusal> {
        let is_first = self.media.is_empty() && matches!(self.place, Place::Start | Place::Blank);
        let is_next = is_first || self.is_media;
        let is_alike =
            TYPE.get(self.media.len()).is_none_or(|wanted| byte.eq_ignore_ascii_case(wanted));
        self.is_media = is_next && is_alike;
        if !self.is_media {
            self.media.clear();
        } else if self.media.len() < LONGEST_TYPE {
            self.media.push(byte);
        } else {
            return unreadable("has a long line in its body that begins like a type");
        }
        Ok(())
    }

    fn end_media(&mut self) -> Result<(), Refusal> {
        let is_media = std::mem::take(&mut self.is_media);
        let media = std::mem::take(&mut self.media);
        if is_media && !is_like_ascii(&media) {
            return unreadable("has a line in its body that names another character set");
        }
        Ok(())
    }

    /// What comes behind a word that may be a method.
    fn end_method(&mut self) -> Result<Place, Refusal> {
        let word = std::mem::take(&mut self.method);
        if METHODS.contains(&word.as_slice()) {
            return unreadable("has a line in its body that begins like a request");
        }
        let is_like = METHODS.iter().any(|method| method.eq_ignore_ascii_case(&word));
        // The byte behind it may be the one before the version.
        Ok(if is_like { Place::Target(1) } else { Place::Other })
    }
}

/// Whether a line ends with these bytes, for one server or another.
const fn ends_line(last: [u8; 3]) -> bool {
    matches!(last, [_, _, b'\n' | 0x0b | 0x0c | b'\r' | 0x1c..=0x1e])
        // U+0085, U+2028 and U+2029.
        || matches!(last, [_, 0xc2, 0x85] | [0xe2, 0x80, 0xa8 | 0xa9])
}

/// Whether a line ends with these bytes for who reads text in JavaScript.
const fn ends_line_of_javascript(last: [u8; 3]) -> bool {
    matches!(last, [_, _, b'\n' | b'\r'] | [0xe2, 0x80, 0xa8 | 0xa9])
}

/// Whether no target of a request holds this byte, for Node's parser.
const fn is_control(byte: u8) -> bool {
    matches!(byte, 0..=8 | 0xb | 0xe..=0x1f | 0x7f)
}

const fn is_method_byte(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'-'
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
            "x\u{2029}--b\r",
            "  merge x http/1.1",
            "--x\n",
            "\n--b\r\n",
            "x\u{2028}--b\n",
            "x\r--b\u{ff}c d\n",
            "content-type: a/b; charset=utf-16\n",
            "{}\n  Content-Type: a/b; Charset = \"ISO-2022-JP\"\r",
            "$top=1\r\n\r\nDELETE /Sales(5)\r\nConnection: keep-alive",
            "x\nPOST /Sales RTSP/1.1",
            "x\nDELETE content-length: 5\r\n/Sales HTTP/1.1",
            "x\nDELETE /Sales(13)Content-Length: 5\r\n HTTP/1.1",
            "DELcontent-length: 1\r\nETE /x HTTP/1.1",
            "\u{c}DELETE /x",
            "\u{0}DELETE /x",
            "\u{feff}DELETE /x",
            "DELETE\u{a0}/x",
            "x\u{b}DELETE /x",
            "x\u{85}DELETE /x",
            "M-SEARCH *",
            "x\nGET\r\n",
        ] {
            assert!(!read(text), "{text}");
        }
        for text in [
            "{\"a\":\"DELETE /x HTTP/1.1\"}",
            "{\n  \"a\": 1\n}",
            "a--b\n-\n- -x",
            "delete /x",
            "1 GET x HTTP/1.1",
            "a,b;c HTTP/1.1",
            "use GET and HTTP/1.1",
            "GETTING x",
            "{\"Content-Length\":\"5\"}",
            "\n --b\n",
            "x\u{1c}--b\n",
            "\n--\u{1}b\nx",
            "\n--b\u{0}\n",
            "content-type: text/csv; charset=ISO-8859-1\nContent-Type\n",
            "My content-type: a/b; charset=utf-16\n",
        ] {
            assert!(read(text), "{text}");
        }
    }
}
