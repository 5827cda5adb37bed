//! Lines in the body of a part that some servers read as the beginning of another part. Pure.
//!
//! SAP's CAP looks for request lines and for lines that begin with `--` anywhere in a batch,
//! whatever lengths and boundaries say. It first removes `content-length: …` wherever it stands,
//! with its line end, which can join two harmless lines. CAP's parser is Node's, which needs no
//! version and accepts other protocols than HTTP. Olingo reads the text after a line that begins
//! with `content-type` in the character set that this line names. CAP's adapter for OData V2 writes
//! JSON strings without their escapes if it finds an error in them.
//!
//! CAP also ends a part's body where one of its own reads ends. Its parser then looks for a request
//! in the middle of a line. So a whole request line is looked for everywhere, also in the values of
//! headers.

mod request_line;

use super::refusal::{BatchRefusal, unreadable};
use request_line::{LONGEST_METHOD, METHODS, RequestLineDetector};

pub(super) use request_line::holds_request;

/// What follows the target of a request line.
const VERSION: &[u8] = b" HTTP/";
/// The headers that CAP removes, or that move the end of a body for its parser.
const LENGTHS: [&[u8]; 2] = [b"content-length:", b"transfer-encoding:"];
/// The beginning of a line that may name a character set.
const TYPE: &[u8] = b"content-type";
/// The longest escape of JSON: `\u0041`.
const LONGEST_ESCAPE: usize = 6;

/// Reads a body in chunks of any size, once as it is and once without the escapes of JSON.
#[derive(Debug, Default)]
pub(super) struct SmugglingDetector {
    raw: Detector,
    /// Reads the body without escapes, from the first escape on.
    unescaped: Option<Detector>,
    /// The bytes of a possible escape.
    escape: Vec<u8>,
}

/// Detects lines in one reading of a body.
#[derive(Clone, Debug, Default)]
struct Detector {
    /// Whether only requests are looked for.
    only_requests: bool,
    position: LinePosition,
    /// The bytes of a possible method.
    method: Vec<u8>,
    /// The last three bytes.
    last: [u8; 3],
    /// How many bytes of each of [`LENGTHS`] the text ends with.
    lengths: [usize; 2],
    request: RequestLineDetector,
    /// How many bytes of [`TYPE`] begin the line.
    media: usize,
    /// Whether the line begins like a boundary, and can be a target for CAP, which makes a request
    /// of it.
    is_boundary: bool,
}

/// Where the next byte is on its line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LinePosition {
    /// At the beginning.
    #[default]
    Start,
    /// After bytes that parsers skip at the beginning.
    Blank,
    /// After one dash.
    Dash,
    /// In a possible method.
    Method,
    /// After a method in another case, and this many bytes of [`VERSION`].
    Target(usize),
    /// On any other line.
    Other,
}

impl SmugglingDetector {
    /// Reads the next bytes.
    ///
    /// # Errors
    /// A line can be read as the beginning of another part.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(), BatchRefusal> {
        bytes.iter().try_for_each(|byte| {
            self.raw.next(*byte)?;
            self.without_escapes(*byte)
        })
    }

    fn without_escapes(&mut self, byte: u8) -> Result<(), BatchRefusal> {
        if self.escape.is_empty() && byte != b'\\' {
            return self.unescaped.as_mut().map_or(Ok(()), |text| text.next(byte));
        }
        let raw = &self.raw;
        let text =
            self.unescaped.get_or_insert_with(|| Detector { only_requests: true, ..raw.clone() });
        self.escape.push(byte);
        let is_unicode = matches!(self.escape.as_slice(), [_, b'u', ..]);
        let length = if is_unicode { LONGEST_ESCAPE } else { 2 };
        if self.escape.len() < length {
            return Ok(());
        }
        let escape = std::mem::take(&mut self.escape);
        let quoted = [b"\"", escape.as_slice(), b"\""].concat();
        // Half of a surrogate pair is not a character, and has no meaning here.
        let unescaped: String = serde_json::from_slice(&quoted).unwrap_or_default();
        unescaped.bytes().try_for_each(|byte| text.next(byte))
    }
}

impl Detector {
    fn next(&mut self, byte: u8) -> Result<(), BatchRefusal> {
        let [_, second, third] = self.last;
        self.last = [second, third, byte];
        for (count, name) in self.lengths.iter_mut().zip(LENGTHS) {
            *count = match name.get(*count) {
                Some(wanted) if byte.eq_ignore_ascii_case(wanted) => *count + 1,
                _ => {
                    usize::from(name.first().is_some_and(|first| byte.eq_ignore_ascii_case(first)))
                }
            };
            if *count == name.len() {
                return unreadable("has a Content-Length or a Transfer-Encoding in its body");
            }
        }
        if self.request.push_byte(byte) {
            return unreadable("has a request in a line of its body");
        }
        if ends_line(self.last) {
            let is_end = ends_line_of_javascript(self.last);
            if self.is_boundary && is_end && !self.only_requests {
                return unreadable("has a line in its body that begins like a boundary");
            }
            self.is_boundary &= !is_control(byte);
            // A method may stand alone on its line.
            self.end_method()?;
            self.position = if is_end { LinePosition::Start } else { LinePosition::Blank };
            return Ok(());
        }
        let may_go_on =
            self.media > 0 || matches!(self.position, LinePosition::Start | LinePosition::Blank);
        let is_next = TYPE.get(self.media).is_some_and(|wanted| byte.eq_ignore_ascii_case(wanted));
        self.media = if may_go_on && is_next { self.media + 1 } else { 0 };
        if self.media == TYPE.len() && !self.only_requests {
            return unreadable("has a line in its body that begins with `content-type`");
        }
        self.is_boundary &= !is_control(byte);
        self.is_boundary |= self.position == LinePosition::Dash && byte == b'-';
        // No parser accepts this byte in a method, and some skip it.
        let is_blank = byte <= b' ' || byte >= 0x7f;
        self.position = match self.position {
            LinePosition::Start if byte == b'-' => LinePosition::Dash,
            LinePosition::Start | LinePosition::Blank if is_blank => LinePosition::Blank,
            LinePosition::Start | LinePosition::Blank | LinePosition::Method
                if is_method_byte(byte) =>
            {
                self.method.push(byte);
                if self.method.len() > LONGEST_METHOD {
                    LinePosition::Other
                } else {
                    LinePosition::Method
                }
            }
            LinePosition::Method if is_blank => self.end_method()?,
            LinePosition::Target(seen) => match VERSION.get(seen) {
                Some(wanted) if byte.eq_ignore_ascii_case(wanted) => {
                    if seen + 1 == VERSION.len() {
                        return unreadable("has a request line in its body");
                    }
                    LinePosition::Target(seen + 1)
                }
                _ => LinePosition::Target(usize::from(byte == b' ')),
            },
            _ => LinePosition::Other,
        };
        if self.position != LinePosition::Method {
            self.method.clear();
        }
        Ok(())
    }

    /// Ends a word that may be a method.
    fn end_method(&mut self) -> Result<LinePosition, BatchRefusal> {
        let word = std::mem::take(&mut self.method);
        if METHODS.contains(&word.as_slice()) {
            return unreadable("has a line in its body that begins like a request");
        }
        let is_like = METHODS.iter().any(|method| method.eq_ignore_ascii_case(&word));
        // The byte after it may be the first of `VERSION`.
        Ok(if is_like { LinePosition::Target(1) } else { LinePosition::Other })
    }
}

/// Whether a line ends with these bytes, for at least one server.
const fn ends_line(last: [u8; 3]) -> bool {
    matches!(last, [_, _, b'\n' | 0x0b | 0x0c | b'\r' | 0x1c..=0x1e])
        // U+0085, U+2028 and U+2029.
        || matches!(last, [_, 0xc2, 0x85] | [0xe2, 0x80, 0xa8 | 0xa9])
}

/// Whether a line ends with these bytes in JavaScript.
const fn ends_line_of_javascript(last: [u8; 3]) -> bool {
    matches!(last, [_, _, b'\n' | b'\r'] | [0xe2, 0x80, 0xa8 | 0xa9])
}

/// Whether Node's parser refuses this byte in a target.
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
        let whole = SmugglingDetector::default().read(text.as_bytes()).is_ok();
        let mut detector = SmugglingDetector::default();
        let single = text.as_bytes().iter().all(|byte| detector.read(&[*byte]).is_ok());
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
            "{}\n  Content-Type: a/b;\u{b}Charset = \"ISO-2022-JP\"\r",
            "x\u{b}content-type: a/b; char\u{17f}et=ISO-2022-JP\r",
            "[\"x\\r\\n\\r\\nDELETE /Sales(12) HTTP/1.1\\r\\n\"]",
            "[\"x\\u000d\\u000a\\u0044ELETE Sales(12) HTTP/1.1\"]",
            "[\"x\\nPOST Sales\"]",
            "[\"x\\nContent-\\u004cength: 5\"]",
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
            "{\"a\":\"DELETE /x HTTP/1.1\"}",
            "xDELETE /Sales(1) HTTP/1.1",
            "{\"a\":\"b\"}PATCH  /Sales(1)  HTTP/1.1\n",
            "some textDELETE /x\r\n",
            "GET /aDELETE /b HTTP/1.0",
            "xGET http://h/x HTTP/1.1",
            "xOPTIONS * RTSP/1.0",
            "x Transfer-Encoding: chunked",
            "x\nGET\r\n",
        ] {
            assert!(!read(text), "{text}");
        }
        for text in [
            "{\"a\":\"DELETE x HTTP/1.1\"}",
            "{\n  \"a\": 1\n}",
            "a--b\n-\n- -x",
            "delete /x",
            "1 GET x HTTP/1.1",
            "a,b;c HTTP/1.1",
            "use GET and HTTP/1.1",
            "GETTING x",
            "1 GET /x and more",
            "{\"a\":\"TARGET / ACTUAL\"}\n",
            "OUTPUT /x is no request\n",
            "please DELETE this\n",
            "{\"Content-Length\":\"5\"}",
            "\n --b\n",
            "x\u{1c}--b\n",
            "\n--\u{1}b\nx",
            "\n--b\u{0}\n",
            "content typ\n",
            "{\"content-type\":1,\"a\":\"x\\n-- y\\ncontent-type: z\"}",
            "{\"a\":\"b\\\\nDELETE /x\",\"c\":\"\\ud83d\\ude00\"}",
            "My content-type: a/b; charset=utf-16\n",
        ] {
            assert!(read(text), "{text}");
        }
    }
}
