//! Messages of HTTP in a body, one by one while it streams through: the parts of a multipart (RFC 2046), or a single
//! `application/http`. Pure.
//!
//! A part is held until its end, since the lengths in its headers change with what is in it. One too large
//! to be held streams, and loses its lengths: its end is the delimiter's.

use super::format::Rewriter;
use super::head::{value_of, without_length};

/// A part with more bytes than this is not held.
pub(super) const LARGEST_PART: usize = 64 * 1024;
/// RFC 2046 section 5.1.1 allows 70 characters.
const LONGEST_BOUNDARY: usize = 70;
/// A line with more bytes than this is no delimiter: white space may follow it.
const LONGEST_DELIMITER: usize = 2 * LONGEST_BOUNDARY;
/// A batch holds change sets, which hold no more of their kind.
const DEEPEST: usize = 4;

/// What is done to the messages in the parts.
pub(crate) trait Messages {
    /// A part, its own header first, and how many links changed in it. `None` if nothing does. Where it is
    /// delimited, the end of its last line belongs to the delimiter.
    fn whole(&self, header: &[u8], message: &[u8], is_delimited: bool) -> Option<(Vec<u8>, u64)>;

    /// The beginning of a part that is too large to be held. `None`: the part passes as it is.
    fn beginning(&self, header: &[u8], message: &[u8]) -> Option<Beginning>;
}

/// The beginning of a part that is too large to be held.
pub(crate) struct Beginning {
    /// Its header and its message's, changed.
    pub(super) head: Vec<u8>,
    /// How many links changed in them.
    pub(super) count: u64,
    /// What there is of its body.
    pub(super) body: Vec<u8>,
    /// Rewrites its body.
    pub(super) rewriter: Rewriter,
}

/// Changes the messages in one body.
#[derive(Debug)]
pub(crate) struct Multipart<M> {
    messages: M,
    /// The delimiters (`--boundary`) of the multiparts that are open, the outermost first. None, if this
    /// is not a multipart.
    delimiters: Vec<Vec<u8>>,
    state: State,
    /// What is not in the output yet, and not read by `body`.
    held: Vec<u8>,
    /// Where the line that is being read begins in `held`.
    line: usize,
    /// How the first delimiter ended its line; what ends otherwise is data.
    line_end: Option<&'static [u8]>,
    /// Of the part that streams.
    body: Rewriter,
    /// Links in parts that are done.
    rewritten: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Outside of parts, or in one that is not understood: all passes up to a delimiter.
    Between,
    /// In the same, behind the beginning of a line that is no delimiter.
    MidLine,
    /// In a part's own header.
    Header,
    /// In a part that holds a message, of which the first so many bytes are its own header.
    Message(usize),
    /// In the body of such a part, which streams.
    Body,
    /// In the same, behind the beginning of a line that is no delimiter.
    MidBody,
}

impl State {
    /// How many bytes of a line are held at most.
    const fn longest_line(self) -> usize {
        match self {
            Self::Between | Self::Body => LONGEST_DELIMITER,
            Self::MidLine | Self::MidBody => usize::MAX / 2,
            Self::Header | Self::Message(_) => LARGEST_PART,
        }
    }
}

impl<M: Messages> Multipart<M> {
    /// The parts of a multipart whose `Content-Type` is this. `None`: it is none.
    pub(super) fn new(content_type: &str, messages: M) -> Option<Self> {
        Some(Self::begun(vec![delimiter(content_type)?], State::Between, messages))
    }

    /// A message that is a body by itself, if its `Content-Type` says so.
    pub(super) fn single(content_type: &str, messages: M) -> Option<Self> {
        is_http(content_type).then(|| Self::begun(Vec::new(), State::Message(0), messages))
    }

    const fn begun(delimiters: Vec<Vec<u8>>, state: State, messages: M) -> Self {
        Self {
            messages,
            delimiters,
            state,
            held: Vec::new(),
            line: 0,
            line_end: None,
            body: Rewriter::None,
            rewritten: 0,
        }
    }

    /// Takes the next bytes and appends what is decided to `output`.
    pub(super) fn push(&mut self, input: &[u8], output: &mut Vec<u8>) {
        for piece in input.split_inclusive(|byte| *byte == b'\n') {
            let mut rest = piece;
            while !rest.is_empty() {
                // One byte more than a line may have, so that chunks make no difference.
                let limit = self.state.longest_line();
                let room = (limit + 1).saturating_sub(self.held.len() - self.line);
                let (now, later) = rest.split_at(room.min(rest.len()));
                rest = later;
                self.held.extend_from_slice(now);
                if self.held.len() - self.line > limit {
                    self.give_line_up(output);
                } else if now.ends_with(b"\n") {
                    self.end_line(output);
                }
            }
        }
        match self.state {
            State::MidLine => self.pass(output),
            State::MidBody => self.feed(output),
            _ => {}
        }
    }

    /// Ends the body: what is held is appended to `output`.
    pub(super) fn finish(&mut self, output: &mut Vec<u8>) {
        self.end_line(output);
        self.end_part(output);
    }

    /// How many links were changed.
    pub(super) fn rewritten(&self) -> u64 {
        self.rewritten + self.body.rewritten()
    }

    /// Judges the line that has just become whole.
    fn end_line(&mut self, output: &mut Vec<u8>) {
        if matches!(self.state, State::MidLine | State::MidBody) {
            return self.go_on(output);
        }
        let line = self.held.get(self.line..).unwrap_or_default();
        let line_end = [&b"\r\n"[..], b"\n"].into_iter().find(|end| line.ends_with(end));
        let is_foreign = line_end.is_some() && self.line_end.is_some_and(|e| Some(e) != line_end);
        let line = line.trim_ascii_end();
        // The last one first: its boundary may begin like that of the multipart around it.
        let found = self.delimiters.iter().enumerate().rev().find_map(|(index, delimiter)| {
            match line.strip_prefix(delimiter.as_slice())? {
                b"" => Some((index + 1, State::Header)),
                b"--" => Some((index, State::Between)),
                _ => None,
            }
        });
        if let Some((open, state)) = found.filter(|_| !is_foreign) {
            self.line_end = self.line_end.or(line_end);
            let delimiter = self.held.split_off(self.line);
            self.end_part(output);
            output.extend_from_slice(&delimiter);
            self.delimiters.truncate(open);
            self.state = state;
            return;
        }
        match self.state {
            State::Header if line.is_empty() => self.end_header(output),
            State::Header | State::Message(_) => {
                self.line = self.held.len();
                if self.line > LARGEST_PART {
                    self.go_on(output);
                }
            }
            _ => self.go_on(output),
        }
    }

    /// A part's own header is whole.
    fn end_header(&mut self, output: &mut Vec<u8>) {
        let kind = value_of(&self.held, "content-type").unwrap_or_default();
        if is_http(&kind) {
            self.state = State::Message(self.held.len());
            self.line = self.held.len();
            return;
        }
        if let Some(delimiter) = delimiter(&kind).filter(|_| self.delimiters.len() < DEEPEST) {
            self.delimiters.push(delimiter);
            // Optional here, and not true any more if anything within changes.
            self.held = without_length(&self.held);
        }
        self.state = State::Between;
        self.pass(output);
    }

    /// A line is too long to be a delimiter, or to be held.
    fn give_line_up(&mut self, output: &mut Vec<u8>) {
        let is_whole = self.held.ends_with(b"\n");
        self.go_on(output);
        self.state = match self.state {
            State::Between if !is_whole => State::MidLine,
            State::Body if !is_whole => State::MidBody,
            state => state,
        };
    }

    /// What is held goes on, whatever the part's end is: it is no delimiter.
    fn go_on(&mut self, output: &mut Vec<u8>) {
        match self.state {
            State::Between | State::MidLine | State::Header => {
                self.state = State::Between;
                self.pass(output);
            }
            State::Message(header) => self.begin_body(header, output),
            State::Body | State::MidBody => {
                self.state = State::Body;
                self.feed(output);
            }
        }
    }

    /// The part is over.
    fn end_part(&mut self, output: &mut Vec<u8>) {
        match self.state {
            State::Message(header) => {
                let (header, message) = self.held.split_at(header.min(self.held.len()));
                let is_delimited = !self.delimiters.is_empty();
                let whole = self.messages.whole(header, message, is_delimited);
                if let Some((part, count)) = whole {
                    self.rewritten += count;
                    output.extend_from_slice(&part);
                    self.held.clear();
                }
            }
            State::Body | State::MidBody => {
                self.feed(output);
                let mut body = std::mem::replace(&mut self.body, Rewriter::None);
                body.finish(output);
                self.rewritten += body.rewritten();
            }
            _ => {}
        }
        self.pass(output);
    }

    fn pass(&mut self, output: &mut Vec<u8>) {
        output.append(&mut self.held);
        self.line = 0;
    }

    fn feed(&mut self, output: &mut Vec<u8>) {
        self.body.push(&self.held, output);
        self.held.clear();
        self.line = 0;
    }

    /// A part becomes too large to be held: what there is of it goes on.
    fn begin_body(&mut self, header: usize, output: &mut Vec<u8>) {
        let (header, message) = self.held.split_at(header.min(self.held.len()));
        let Some(beginning) = self.messages.beginning(header, message) else {
            self.state = State::Between;
            return self.pass(output);
        };
        output.extend(beginning.head);
        self.rewritten += beginning.count;
        self.body = beginning.rewriter;
        self.state = State::Body;
        self.held = beginning.body;
        self.feed(output);
    }
}

/// Whether this is the media type of a message of HTTP.
fn is_http(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/http")
}

/// The delimiter of a multipart, from its `Content-Type`.
fn delimiter(content_type: &str) -> Option<Vec<u8>> {
    // A semicolon inside quotes belongs to its value.
    let mut is_quoted = false;
    let mut parameters = content_type.split(|character| {
        is_quoted ^= character == '"';
        character == ';' && !is_quoted
    });
    if !parameters.next()?.trim().eq_ignore_ascii_case("multipart/mixed") {
        return None;
    }
    let boundary = parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
    })?;
    let is_sound = !boundary.is_empty() && boundary.len() <= LONGEST_BOUNDARY;
    is_sound.then(|| format!("--{boundary}").into_bytes())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Rewrites a text that comes in pieces of these sizes. Returns what comes of it, and how many links changed.
    pub(in crate::proxy::links) fn run<M: Messages>(
        mut rewriter: Multipart<M>,
        input: &str,
        sizes: &[usize],
    ) -> (String, u64) {
        let mut output = Vec::new();
        let mut rest = input.as_bytes();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, after) = rest.split_at(rest.len().min(*size));
            rewriter.push(chunk, &mut output);
            assert!(rewriter.held.len() <= 2 * LARGEST_PART + 1, "{} held", rewriter.held.len());
            rest = after;
        }
        rewriter.finish(&mut output);
        (String::from_utf8(output).unwrap(), rewriter.rewritten())
    }

    #[test]
    fn a_boundary_is_what_the_type_of_a_multipart_names() {
        for (content_type, wanted) in [
            ("multipart/mixed; boundary=batch_1", Some("--batch_1")),
            ("Multipart/Mixed; Charset=x; Boundary=\"a b\"", Some("--a b")),
            ("multipart/mixed; x=\"; boundary=no\"; boundary=batch_1", Some("--batch_1")),
            ("application/json", None),
            ("multipart/mixed", None),
            ("multipart/mixed; boundary=", None),
        ] {
            let wanted = wanted.map(|delimiter| delimiter.as_bytes().to_vec());
            assert_eq!(delimiter(content_type), wanted, "{content_type}");
        }
    }
}
