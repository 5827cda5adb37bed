//! Rewrites the tenant's links in answers that hold answers: the parts of a multipart `$batch` answer, and
//! `application/http`, which reports how an asynchronous request ended (OData 4.01 part 1, sections 11.6
//! and 11.7). Pure.
//!
//! A part is held until its end, since the lengths in its headers change with what is in it. One too large
//! to be held is rewritten while it streams, and loses its lengths: its end is the delimiter's.

use super::batch::{delimiter, lengthened, name_of, split_head, value_of, with_value};
use super::format::{Format, Rewriter};
use super::origin::OriginMap;
use super::value::Kind;
use crate::proxy::profile::Links;
use std::sync::Arc;

/// A part with more bytes than this is not held.
const LARGEST_PART: usize = 64 * 1024;
/// A line with more bytes than this is no delimiter: a boundary has 70 characters at most, and white space
/// may follow it (RFC 2046 section 5.1.1).
const LONGEST_DELIMITER: usize = 140;
/// A batch's answer holds those to change sets, which hold no more of their kind.
const DEEPEST: usize = 4;

/// Rewrites one answer that holds others.
#[derive(Debug)]
pub(crate) struct PartsRewriter {
    map: Arc<OriginMap>,
    formats: Links,
    /// How many answers this one is within.
    depth: usize,
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
    /// In a part that holds an answer, of which the first so many bytes are its own header.
    Answer(usize),
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
            Self::Header | Self::Answer(_) => LARGEST_PART,
        }
    }
}

impl PartsRewriter {
    /// A rewriter for an answer whose `Content-Type` is this. `None`: it holds no answers.
    pub(super) fn new(content_type: &str, formats: Links, map: &Arc<OriginMap>) -> Option<Self> {
        Self::within(0, content_type, formats, map)
    }

    fn within(
        depth: usize,
        content_type: &str,
        formats: Links,
        map: &Arc<OriginMap>,
    ) -> Option<Self> {
        let (delimiters, state) = if is_http(content_type) {
            (Vec::new(), State::Answer(0))
        } else {
            (vec![delimiter(content_type)?], State::Between)
        };
        (depth < DEEPEST).then(|| Self {
            map: map.clone(),
            formats,
            depth,
            delimiters,
            state,
            held: Vec::new(),
            line: 0,
            line_end: None,
            body: Rewriter::None,
            rewritten: 0,
        })
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

    /// Ends the answer: what is held is appended to `output`.
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
            State::Header | State::Answer(_) => {
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
            self.state = State::Answer(self.held.len());
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
            State::Answer(header) => self.begin_body(header, output),
            State::Body | State::MidBody => {
                self.state = State::Body;
                self.feed(output);
            }
        }
    }

    /// The part is over.
    fn end_part(&mut self, output: &mut Vec<u8>) {
        match self.state {
            State::Answer(header) => {
                let (header, answer) = self.held.split_at(header.min(self.held.len()));
                if let Some((part, count)) = self.part(header, answer) {
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

    /// A part becomes too large to be held: what there is of it goes on, without lengths if more of it may
    /// change.
    fn begin_body(&mut self, header: usize, output: &mut Vec<u8>) {
        let (header, answer) = self.held.split_at(header.min(self.held.len()));
        let (lead, head, body) = split_answer(answer);
        if !head.ends_with(b"\n\r\n") && !head.ends_with(b"\n\n") {
            self.state = State::Between;
            return self.pass(output);
        }
        let rewriter = self.rewriter(head);
        let (new_head, count) = self.head(head, matches!(rewriter, Rewriter::None));
        let new_head = new_head.unwrap_or_else(|| head.to_vec());
        output.extend(without_length(header));
        output.extend_from_slice(lead);
        let keeps_length = matches!(rewriter, Rewriter::None);
        output.extend(if keeps_length { new_head } else { without_length(&new_head) });
        let body = body.to_vec();
        self.rewritten += count;
        self.body = rewriter;
        self.state = State::Body;
        self.held = body;
        self.feed(output);
    }

    /// A part with its own header, rewritten. `None` if nothing in it changes.
    fn part(&self, header: &[u8], answer: &[u8]) -> Option<(Vec<u8>, u64)> {
        let (lead, head, rest) = split_answer(answer);
        // The end of the line before a delimiter belongs to the delimiter (RFC 2046 section 5.1.1).
        let ends = [&b"\r\n"[..], b"\n", b""].into_iter();
        let end = ends.filter(|_| !self.delimiters.is_empty()).find(|end| rest.ends_with(end));
        let end = end.unwrap_or_default();
        let body = rest.strip_suffix(end).unwrap_or(rest);
        let mut rewriter = self.rewriter(head);
        let (new_head, mut count) = self.head(head, matches!(rewriter, Rewriter::None));
        let mut new_body = Vec::with_capacity(body.len() + 64);
        rewriter.push(body, &mut new_body);
        rewriter.finish(&mut new_body);
        count += rewriter.rewritten();
        if count == 0 && new_head.is_none() && new_body == body {
            return None;
        }
        let head_bytes = new_head.unwrap_or_else(|| head.to_vec());
        let mut changed = Vec::with_capacity(head_bytes.len() + new_body.len());
        changed.extend(with_length(&head_bytes, body.len(), new_body.len()));
        changed.append(&mut new_body);
        let before = head.len() + body.len();
        let mut part = with_length(header, before, changed.len());
        part.extend_from_slice(lead);
        part.append(&mut changed);
        part.extend_from_slice(end);
        Some((part, count))
    }

    /// The header of an answer, if it changes, and how many links in it did.
    fn head(&self, head: &[u8], keeps_body: bool) -> (Option<Vec<u8>>, u64) {
        let (mut changed, mut count, mut has_changed) = (Vec::with_capacity(head.len()), 0, false);
        for line in head.split_inclusive(|byte| *byte == b'\n') {
            let kind = Kind::of(name_of(line).as_bytes());
            let new_line = kind.filter(|kind| *kind != Kind::Tag || !keeps_body).and_then(|kind| {
                let (_, value) = str::from_utf8(line).ok()?.split_once(':')?;
                let ours = with_value(line, &kind.rewritten(value.trim(), &self.map)?)?;
                count += u64::from(kind != Kind::Tag);
                Some(ours)
            });
            has_changed |= new_line.is_some();
            changed.extend(new_line.unwrap_or_else(|| line.to_vec()));
        }
        (has_changed.then_some(changed), count)
    }

    /// Who rewrites the body of an answer with this header.
    fn rewriter(&self, head: &[u8]) -> Rewriter {
        let kind = value_of(head, "content-type").unwrap_or_default();
        let coding = value_of(head, "content-encoding").unwrap_or_default();
        if !coding.is_empty() && !coding.eq_ignore_ascii_case("identity") {
            return Rewriter::None;
        }
        if let Some(parts) = Self::within(self.depth + 1, &kind, self.formats, &self.map) {
            return Rewriter::Parts(Box::new(parts));
        }
        let format = Format::named(&kind).filter(|format| format.is_in(self.formats));
        Rewriter::new(format, &self.map)
    }
}

/// Whether this is the media type of a message of HTTP.
fn is_http(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/http")
}

/// The empty lines before an answer, its header with the empty line behind, and its body.
fn split_answer(answer: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let skipped = answer.len() - answer.trim_ascii_start().len();
    let (lead, answer) = answer.split_at(skipped);
    let (head, body) = split_head(answer);
    (lead, head, body)
}

/// A header without the length of what follows it.
fn without_length(header: &[u8]) -> Vec<u8> {
    let lines = header.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| name_of(line) != "content-length").flatten().copied().collect()
}

/// A header with the length of what follows it, where that grew from `before` to `after`.
fn with_length(header: &[u8], before: usize, after: usize) -> Vec<u8> {
    let mut changed = Vec::with_capacity(header.len() + 8);
    for line in header.split_inclusive(|byte| *byte == b'\n') {
        let is_length = name_of(line) == "content-length";
        let new_line = is_length.then(|| lengthened(line, before, after)).flatten();
        changed.extend(new_line.unwrap_or_else(|| line.to_vec()));
    }
    changed
}

#[cfg(test)]
mod tests;
