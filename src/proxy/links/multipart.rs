//! HTTP messages in a body, rewritten one by one while the body streams through: the parts of a
//! multipart (RFC 2046), or a single `application/http`. Pure.
//!
//! A rewritten part is held until its end, because the lengths in its headers change with it. A
//! part that is too large to be held, before or after rewriting, streams without its lengths: the
//! delimiter ends it. So a piece of input grows only by its own links.

use super::embedded_header::{split_end, split_message, value_of, without_length};
use super::held_part::{HeldPart, LARGEST_CHANGED, LARGEST_PART};
use super::media_type::{LONGEST_BOUNDARY, delimiter, is_http};
use super::rewrite::Rewrite;
use std::fmt;

/// The longest line that may be a delimiter, since white space may follow it.
const LONGEST_DELIMITER: usize = 2 * LONGEST_BOUNDARY;
/// The deepest nesting: a batch holds change sets, which hold no others.
const DEEPEST: usize = 4;
/// The largest number of bytes by which held nested parts may shrink when their lengths are
/// removed.
const MOST_LOST: usize = 4 * 1024;
/// The capacity of a buffer that is kept once it is empty. A larger one is freed.
const KEPT: usize = 4 * 1024;

/// What is done to the messages in the parts.
pub(crate) trait Messages {
    /// Rewrites the bodies of the messages.
    type Body: Rewrite + fmt::Debug;

    /// Changes the header of a message, which ends with its empty line, or with the part.
    fn begin_message(&self, head: &[u8]) -> NewMessage<Self::Body>;
}

/// A message whose header is complete.
pub(crate) struct NewMessage<B> {
    /// The changed header, if it changes.
    pub(super) head: Option<Vec<u8>>,
    /// How many links changed in the header.
    pub(super) count: u64,
    /// Rewrites the body.
    pub(super) rewriter: B,
}

/// Rewrites the messages in one body.
#[derive(Debug)]
pub(crate) struct Multipart<M: Messages> {
    messages: M,
    /// The delimiters (`--boundary`) of the open multiparts, the outermost first. Empty if the body
    /// is a single message.
    delimiters: Vec<Vec<u8>>,
    state: State,
    /// The bytes that are not in the output, and that `body` has not read.
    held: Vec<u8>,
    /// The place in `held` where the current line begins.
    line: usize,
    /// The line end of the first delimiter. Other line ends are data.
    line_end: Option<&'static [u8]>,
    /// The part whose body is being read, while it is held.
    part: Option<Box<HeldPart>>,
    /// Rewrites the body of a part.
    body: M::Body,
    /// Links in parts that have ended.
    rewritten: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Outside of parts, or in an unknown one: all passes up to a delimiter.
    Between,
    /// Outside of parts, after the beginning of a line that is not a delimiter.
    MidLine,
    /// In a part's own header.
    Header,
    /// In the header of a message in a part, after this many bytes of the part's own header.
    Message(usize),
    /// In the body of a message.
    Body,
    /// In the body of a message, after the beginning of a line that is not a delimiter.
    MidBody,
}

impl State {
    /// The largest number of bytes of a line that are held.
    const fn longest_line(self) -> usize {
        match self {
            Self::Between | Self::Body => LONGEST_DELIMITER,
            Self::MidLine | Self::MidBody => usize::MAX / 2,
            Self::Header | Self::Message(_) => LARGEST_PART,
        }
    }
}

impl<M: Messages> Multipart<M> {
    /// A rewriter for a multipart with this `Content-Type`. `None` if it is not a multipart.
    pub(super) fn new(content_type: &str, messages: M) -> Option<Self> {
        Some(Self::begun(vec![delimiter(content_type)?], State::Between, messages))
    }

    /// A rewriter for a single message, if the `Content-Type` says so.
    pub(super) fn single(content_type: &str, messages: M) -> Option<Self> {
        is_http(content_type).then(|| Self::begun(Vec::new(), State::Message(0), messages))
    }

    fn begun(delimiters: Vec<Vec<u8>>, state: State, messages: M) -> Self {
        Self {
            messages,
            delimiters,
            state,
            held: Vec::new(),
            line: 0,
            line_end: None,
            part: None,
            body: M::Body::default(),
            rewritten: 0,
        }
    }

    /// Takes the next bytes and appends what is decided to `output`.
    pub(super) fn push(&mut self, input: &[u8], output: &mut Vec<u8>) {
        for piece in input.split_inclusive(|byte| *byte == b'\n') {
            let mut rest = piece;
            while !rest.is_empty() {
                // One byte more than a line may have, so that chunk sizes make no difference.
                let limit = self.state.longest_line();
                let room = (limit + 1).saturating_sub(self.held.len() - self.line);
                let (now, later) = rest.split_at(room.min(rest.len()));
                rest = later;
                self.held.extend_from_slice(now);
                if self.held.len() - self.line > limit {
                    self.end_long_line(output);
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

    /// Ends the body: appends what is held to `output`.
    pub(super) fn finish(&mut self, output: &mut Vec<u8>) {
        self.end_line(output);
        self.end_part(output);
    }

    /// How many links were changed.
    pub(super) fn rewritten(&self) -> u64 {
        self.rewritten + self.body.rewritten()
    }

    /// How many bytes are held.
    pub(super) fn held(&self) -> usize {
        let part = self.part.as_ref().map_or(0, |part| part.changed_length());
        self.held.len() + part + self.body.held()
    }

    /// Handles a line that is complete.
    fn end_line(&mut self, output: &mut Vec<u8>) {
        if matches!(self.state, State::MidLine | State::MidBody) {
            return self.pass_line(output);
        }
        let line = self.held.get(self.line..).unwrap_or_default();
        let line_end = [&b"\r\n"[..], b"\n"].into_iter().find(|end| line.ends_with(end));
        let is_foreign = line_end.is_some() && self.line_end.is_some_and(|e| Some(e) != line_end);
        let line = line.trim_ascii_end();
        // The innermost first: its boundary may begin like that of the multipart around it.
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
        let ends_header = line.is_empty();
        match self.state {
            State::Header if ends_header => self.end_header(output),
            State::Message(header) if ends_header && self.has_begun(header) => {
                self.begin_message(header, output);
            }
            State::Header | State::Message(_) => {
                self.line = self.held.len();
                if self.line > LARGEST_PART {
                    self.pass_line(output);
                }
            }
            _ => self.pass_line(output),
        }
    }

    /// Whether more than empty lines of a message follow this header.
    fn has_begun(&self, header: usize) -> bool {
        !self.held.get(header..).unwrap_or_default().trim_ascii_start().is_empty()
    }

    /// Handles a part's own header.
    fn end_header(&mut self, output: &mut Vec<u8>) {
        let kind = value_of(&self.held, "content-type").unwrap_or_default();
        if is_http(&kind) {
            self.state = State::Message(self.held.len());
            self.line = self.held.len();
            return;
        }
        if let Some(delimiter) = delimiter(&kind).filter(|_| self.delimiters.len() < DEEPEST) {
            self.delimiters.push(delimiter);
            // The length is optional here, and wrong if anything in the part changes.
            self.held = without_length(&self.held);
        }
        self.state = State::Between;
        self.pass(output);
    }

    /// Handles a message's header.
    fn begin_message(&mut self, header: usize, output: &mut Vec<u8>) {
        let (header, message) = self.held.split_at(header.min(self.held.len()));
        let (lead, head, _) = split_message(message);
        let begun = self.messages.begin_message(head);
        self.part = Some(Box::new(HeldPart {
            header: header.to_vec(),
            lead: lead.to_vec(),
            head: head.to_vec(),
            changed_head: begun.head,
            count: begun.count,
            taken: 0,
            made: Vec::new(),
        }));
        self.body = begun.rewriter;
        self.held = Vec::new();
        self.line = 0;
        self.state = State::Body;
        self.limit_part(output);
    }

    /// Handles a line that is too long to be a delimiter, or to be held.
    fn end_long_line(&mut self, output: &mut Vec<u8>) {
        let is_whole = self.held.ends_with(b"\n");
        self.pass_line(output);
        self.state = match self.state {
            State::Between if !is_whole => State::MidLine,
            State::Body if !is_whole => State::MidBody,
            state => state,
        };
    }

    /// Passes what is held on: it is not a delimiter.
    fn pass_line(&mut self, output: &mut Vec<u8>) {
        match self.state {
            // The header of a message that is too large to be held: the part is treated as unknown.
            State::Between | State::MidLine | State::Header | State::Message(_) => {
                self.state = State::Between;
                self.pass(output);
            }
            State::Body | State::MidBody => {
                self.state = State::Body;
                self.feed(output);
            }
        }
    }

    /// Ends the part.
    fn end_part(&mut self, output: &mut Vec<u8>) {
        if let State::Message(header) = self.state
            && self.has_begun(header)
        {
            self.begin_message(header, output);
        }
        if matches!(self.state, State::Body | State::MidBody) {
            // The line end of the last line belongs to the delimiter.
            self.feed(output);
            let mut body = std::mem::take(&mut self.body);
            match &mut self.part {
                Some(part) => body.finish(&mut part.made),
                None => body.finish(output),
            }
            if self.part.as_ref().is_some_and(|part| part.changed_length() > LARGEST_CHANGED) {
                self.release_part(body.is_none(), output);
            }
            self.rewritten += body.rewritten();
            if let Some(part) = self.part.take() {
                self.rewritten += part.count;
                part.write(body.rewritten(), output);
            }
        }
        self.pass(output);
    }

    fn pass(&mut self, output: &mut Vec<u8>) {
        output.extend_from_slice(&self.held);
        self.line = 0;
        if self.held.capacity() > KEPT {
            self.held = Vec::new();
        }
        self.held.clear();
    }

    /// Reads more of a message's body. The end of its last line is held: it may belong to a
    /// delimiter.
    fn feed(&mut self, output: &mut Vec<u8>) {
        let (body, end) = split_end(&self.held);
        let (body, end) = match body.split_last() {
            Some((b'\r', before)) if end.is_empty() => (before, &b"\r"[..]),
            _ => (body, end),
        };
        match &mut self.part {
            Some(part) => {
                part.taken += body.len();
                self.body.push(body, &mut part.made);
            }
            None => self.body.push(body, output),
        }
        let (all, kept) = (self.held.len(), end.len());
        self.held.drain(..all - kept);
        self.line = kept;
        self.limit_part(output);
    }

    /// Stops holding a part that has become too large.
    fn limit_part(&mut self, output: &mut Vec<u8>) {
        let Some(part) = &self.part else { return };
        let is_too_large = part.length() > LARGEST_PART
            || part.changed_length() > LARGEST_CHANGED
            || part.changed_length() + self.body.held() > LARGEST_CHANGED + MOST_LOST;
        if is_too_large {
            self.release_part(self.body.is_none(), output);
        }
    }

    /// Passes on what is held of the part.
    fn release_part(&mut self, keeps_length: bool, output: &mut Vec<u8>) {
        if let Some(part) = self.part.take() {
            self.rewritten += part.count;
            part.write_beginning(keeps_length, output);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Rewrites a text that comes in pieces of these sizes. Returns what comes of it, and how many
    /// links changed.
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
            let most = LARGEST_CHANGED + LARGEST_PART + MOST_LOST;
            assert!(rewriter.held() <= most, "{} held", rewriter.held());
            rest = after;
        }
        rewriter.finish(&mut output);
        (String::from_utf8(output).unwrap(), rewriter.rewritten())
    }
}
