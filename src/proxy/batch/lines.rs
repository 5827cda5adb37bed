//! Lines in the body of a part that some servers take for the beginning of another part. Pure.
//!
//! SAP's CAP looks for request lines and for lines that begin with `--` anywhere in a batch, whatever
//! lengths and boundaries say. It first takes `content-length: …` out wherever it stands, line end
//! included, which can join two lines that mean nothing by themselves. Its parser is Node's, which
//! needs no version and knows others than HTTP. Olingo reads what follows a line that begins with
//! `content-type` in the character set that it names. The adapter of CAP for OData V2 writes strings of JSON out
//! without their escapes, where it finds something wrong in them.
//!
//! CAP takes a part's body to end where a read of its own ends, and its parser then looks for a request in the
//! middle of a line. So a whole request line is looked for everywhere, in the values of headers too.

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
/// What CAP takes out, and what moves the end of a body for its parser.
const LENGTHS: [&[u8]; 2] = [b"content-length:", b"transfer-encoding:"];
/// What stands behind the target of a request, for Node's parser.
const PROTOCOLS: [&[u8]; 3] = [b"HTTP/", b"RTSP/", b"ICE/"];
/// The longest scheme of a URL that is looked at.
const LONGEST_SCHEME: usize = 16;
const LONGEST_METHOD: usize = 12;
/// Begins a line that may name a character set.
const TYPE: &[u8] = b"content-type";
/// The longest escape of JSON: `\u0041`.
const LONGEST_ESCAPE: usize = 6;

/// Reads a body line by line, whatever its chunks are, as it is and without the escapes of JSON.
#[derive(Debug, Default)]
pub(super) struct Lines {
    bare: Text,
    /// The same without escapes, from the first one on.
    unescaped: Option<Text>,
    /// What may be an escape.
    escape: Vec<u8>,
}

/// One reading of a body.
#[derive(Clone, Debug, Default)]
struct Text {
    /// Whether nothing but requests is looked for.
    only_requests: bool,
    place: Place,
    /// The bytes of what may be a method.
    method: Vec<u8>,
    /// The last bytes.
    last: [u8; 3],
    /// How many bytes of each of [`LENGTHS`] are there.
    lengths: [usize; 2],
    request: RequestText,
    /// How many bytes of [`TYPE`] begin the line.
    media: usize,
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
        bytes.iter().try_for_each(|byte| {
            self.bare.next(*byte)?;
            self.without_escapes(*byte)
        })
    }

    fn without_escapes(&mut self, byte: u8) -> Result<(), Refusal> {
        if self.escape.is_empty() && byte != b'\\' {
            return self.unescaped.as_mut().map_or(Ok(()), |text| text.next(byte));
        }
        let bare = &self.bare;
        let text =
            self.unescaped.get_or_insert_with(|| Text { only_requests: true, ..bare.clone() });
        self.escape.push(byte);
        let is_unicode = matches!(self.escape.as_slice(), [_, b'u', ..]);
        let length = if is_unicode { LONGEST_ESCAPE } else { 2 };
        if self.escape.len() < length {
            return Ok(());
        }
        let escape = std::mem::take(&mut self.escape);
        let quoted = [b"\"", escape.as_slice(), b"\""].concat();
        // Half of a pair stands for no character alone, and means nothing here.
        let unescaped: String = serde_json::from_slice(&quoted).unwrap_or_default();
        unescaped.bytes().try_for_each(|byte| text.next(byte))
    }
}

impl Text {
    fn next(&mut self, byte: u8) -> Result<(), Refusal> {
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
        if self.request.ends_with(byte) {
            return unreadable("has a request in a line of its body");
        }
        if ends_line(self.last) {
            let is_end = ends_line_of_javascript(self.last);
            if self.is_boundary && is_end && !self.only_requests {
                return unreadable("has a line in its body that begins like a boundary");
            }
            self.is_boundary &= !is_control(byte);
            // A method may be all that is on its line.
            self.end_method()?;
            self.place = if is_end { Place::Start } else { Place::Blank };
            return Ok(());
        }
        let may_go_on = self.media > 0 || matches!(self.place, Place::Start | Place::Blank);
        let is_next = TYPE.get(self.media).is_some_and(|wanted| byte.eq_ignore_ascii_case(wanted));
        self.media = if may_go_on && is_next { self.media + 1 } else { 0 };
        if self.media == TYPE.len() && !self.only_requests {
            return unreadable("has a line in its body that begins with `content-type`");
        }
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

/// Whether a text holds a whole request line, for a parser that may begin anywhere.
pub(super) fn holds_request(text: &[u8]) -> bool {
    let mut request = RequestText::default();
    text.iter().chain(b"\n").any(|byte| request.ends_with(*byte))
}

/// Looks for a method, a target, and a protocol or the end of the line.
#[derive(Clone, Debug, Default)]
struct RequestText {
    /// The last bytes.
    recent: [u8; LONGEST_METHOD],
    /// Behind a method and spaces.
    is_behind_method: bool,
    /// In what may be the target of a request.
    is_target: bool,
    /// Behind it and spaces.
    is_behind_target: bool,
    /// What stands there so far.
    word: Vec<u8>,
}

impl RequestText {
    /// Reads the next byte. Returns whether a request ends with it.
    fn ends_with(&mut self, byte: u8) -> bool {
        let is_request = match byte {
            b'\r' | b'\n' => {
                let is_request = self.is_target;
                *self = Self::default();
                is_request
            }
            b' ' => {
                if self.recent.last() != Some(&b' ') {
                    let is_method = |method: &&[u8]| self.recent.ends_with(method);
                    self.is_behind_method = METHODS.iter().any(is_method);
                    self.is_behind_target = std::mem::take(&mut self.is_target);
                }
                self.word.clear();
                false
            }
            _ => self.word_goes_on(byte),
        };
        self.recent.rotate_left(1);
        if let Some(last) = self.recent.last_mut() {
            *last = byte;
        }
        is_request
    }

    fn word_goes_on(&mut self, byte: u8) -> bool {
        if !self.is_behind_method && !self.is_behind_target {
            return false;
        }
        self.word.push(byte);
        let is_path = matches!(self.word.as_slice(), [b'/' | b'*']) || self.word.ends_with(b":/");
        if self.is_behind_method && is_path {
            (self.is_behind_method, self.is_target) = (false, true);
        }
        if self.is_behind_target && PROTOCOLS.contains(&self.word.as_slice()) {
            return true;
        }
        if self.word.len() > LONGEST_SCHEME {
            (self.is_behind_method, self.is_behind_target) = (false, false);
        }
        false
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
