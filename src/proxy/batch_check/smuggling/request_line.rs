//! Request lines that a parser finds in the middle of other text. Pure.

/// The methods of Node's parser and of OData.
pub(super) const METHODS: [&[u8]; 36] = [
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
pub(super) const LONGEST_METHOD: usize = 12;
/// What follows the target of a request, for Node's parser.
const PROTOCOLS: [&[u8]; 3] = [b"HTTP/", b"RTSP/", b"ICE/"];
/// The longest scheme of a URL that is compared.
const LONGEST_SCHEME: usize = 16;

/// Whether a text holds a whole request line, for a parser that may start anywhere.
pub(crate) fn holds_request(text: &[u8]) -> bool {
    let mut request = RequestLineDetector::default();
    text.iter().chain(b"\n").any(|byte| request.push_byte(*byte))
}

/// Looks for a method, a target, and a protocol or the end of the line.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestLineDetector {
    /// The last bytes.
    recent: [u8; LONGEST_METHOD],
    /// After a method and spaces.
    is_after_method: bool,
    /// In a possible target of a request.
    is_target: bool,
    /// After a target and spaces.
    is_after_target: bool,
    /// The word so far.
    word: Vec<u8>,
}

impl RequestLineDetector {
    /// Reads the next byte. Returns whether a request ends with it.
    pub(super) fn push_byte(&mut self, byte: u8) -> bool {
        let is_request = match byte {
            b'\r' | b'\n' => {
                let is_request = self.is_target;
                *self = Self::default();
                is_request
            }
            b' ' => {
                if self.recent.last() != Some(&b' ') {
                    let is_method = |method: &&[u8]| self.recent.ends_with(method);
                    self.is_after_method = METHODS.iter().any(is_method);
                    self.is_after_target = std::mem::take(&mut self.is_target);
                }
                self.word.clear();
                false
            }
            _ => self.continue_word(byte),
        };
        self.recent.rotate_left(1);
        if let Some(last) = self.recent.last_mut() {
            *last = byte;
        }
        is_request
    }

    fn continue_word(&mut self, byte: u8) -> bool {
        if !self.is_after_method && !self.is_after_target {
            return false;
        }
        self.word.push(byte);
        let is_path = matches!(self.word.as_slice(), [b'/' | b'*']) || self.word.ends_with(b":/");
        if self.is_after_method && is_path {
            (self.is_after_method, self.is_target) = (false, true);
        }
        if self.is_after_target && PROTOCOLS.contains(&self.word.as_slice()) {
            return true;
        }
        if self.word.len() > LONGEST_SCHEME {
            (self.is_after_method, self.is_after_target) = (false, false);
        }
        false
    }
}
