//! A multipart batch (OData 4.01 part 1, section 11.7.7), read strictly while it streams. Pure.
//!
//! Servers differ in how they find the end of a part. So a boundary is accepted only where all of
//! them find it. A batch with a boundary elsewhere (within a line, after another line end, before
//! spaces) is refused.

mod boundaries;
mod head;

use super::media_type::{MediaType, is_ascii_compatible};
use super::part_request::{CheckPart, PartRequest, check_id};
use super::refusal::{BatchRefusal, unreadable};
use super::smuggling::SmugglingDetector;
use crate::proxy::method_override::overriding_methods;
use crate::proxy::stripped_headers::is_stripped_from_parts;
use boundaries::Boundaries;
use head::{AnnouncedLength, announced_length, headers, kept, only_value, request_line, unfolded};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Method};
use memchr::memchr;

/// The largest number of bytes of a part's header, together with the header of its request.
const LONGEST_HEAD: usize = 64 * 1024;
/// The largest number of bytes of white space between parts.
const MOST_BLANKS: usize = 1024;
const CONTENT_ID: HeaderName = HeaderName::from_static("content-id");
const CONTENT_TRANSFER_ENCODING: HeaderName = HeaderName::from_static("content-transfer-encoding");

/// Reads one batch.
#[derive(Debug)]
pub(super) struct MultipartReader {
    /// The multiparts that are open, the outermost first.
    open: Boundaries,
    state: State,
    /// The bytes that are not in the output yet.
    held: Vec<u8>,
    /// How many bytes came before `held`.
    before: u64,
    /// How many bytes there are up to the last one that is not white space.
    last: u64,
    /// Whether `held` begins a line.
    begins_line: bool,
    /// Up to here, `held` consists of whole lines of a header without its end.
    lines: usize,
    /// The line end of the first line. All lines have to end like it.
    line_end: Option<&'static [u8]>,
    parts: usize,
}

/// Where the next byte is.
#[derive(Debug)]
enum State {
    /// Between parts, where only white space is allowed: the number of bytes so far, and the
    /// length of the change set that has just ended.
    Between(usize, Option<AnnouncedLength>),
    /// In the header of a part.
    Header,
    /// In the header of a part's request, after this many bytes of the part's own header.
    Request(usize, AnnouncedLength),
    /// In the body of a part's request.
    Body(PartBody),
    /// After the end.
    End,
}

/// The body of a part's request.
#[derive(Debug)]
struct PartBody {
    /// The length in the part's own header.
    part: AnnouncedLength,
    /// The length in the request's header.
    own: AnnouncedLength,
    /// Whether the method may have a body.
    may_be_there: bool,
    smuggling: Box<SmugglingDetector>,
}

/// The meaning of a line that begins with a boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delimiter {
    Next,
    Close,
}

impl MultipartReader {
    pub(super) fn new(media: &MediaType) -> Result<Self, BatchRefusal> {
        let mut reader = Self {
            open: Boundaries::default(),
            state: State::Between(0, None),
            held: Vec::new(),
            before: 0,
            last: 0,
            begins_line: true,
            lines: 0,
            line_end: None,
            parts: 0,
        };
        reader.open.enter(media, AnnouncedLength::default())?;
        Ok(reader)
    }

    pub(super) const fn parts(&self) -> usize {
        self.parts
    }

    pub(super) fn push(
        &mut self,
        input: &[u8],
        check: CheckPart<'_>,
        output: &mut Vec<u8>,
    ) -> Result<(), BatchRefusal> {
        self.held.extend_from_slice(input);
        while self.step(false, check, output)? {}
        Ok(())
    }

    pub(super) fn finish(
        &mut self,
        check: CheckPart<'_>,
        output: &mut Vec<u8>,
    ) -> Result<(), BatchRefusal> {
        while self.step(true, check, output)? {}
        match self.state {
            State::End => Ok(()),
            _ => unreadable("does not end"),
        }
    }

    /// Takes the next piece that can be decided. Returns whether there may be more.
    fn step(
        &mut self,
        is_end: bool,
        check: CheckPart<'_>,
        output: &mut Vec<u8>,
    ) -> Result<bool, BatchRefusal> {
        match self.state {
            State::Header => self.header(output),
            State::Request(start, length) => self.request(start, length, is_end, check, output),
            State::Between(..) | State::Body(_) | State::End => self.content(is_end, output),
        }
    }

    /// Passes content between two delimiters.
    fn content(&mut self, is_end: bool, output: &mut Vec<u8>) -> Result<bool, BatchRefusal> {
        if let Some((at, index)) = self.open.find(&self.held, 0) {
            let Some((delimiter, length)) = self.delimiter(at, index, is_end)? else {
                return Ok(false);
            };
            self.pass(at, output)?;
            self.end_part()?;
            output.extend(self.take(length));
            self.state = match delimiter {
                Delimiter::Next => {
                    self.parts += 1;
                    State::Header
                }
                Delimiter::Close => match self.open.pop() {
                    Some(closed) if !self.open.is_empty() => State::Between(0, Some(closed.length)),
                    _ => State::End,
                },
            };
            return Ok(true);
        }
        // The end may be the beginning of a boundary, and of the line end before it.
        let longest = self.open.longest();
        let keep = if is_end { 0 } else { longest + 2 };
        self.pass(self.held.len().saturating_sub(keep), output)?;
        Ok(false)
    }

    /// Appends this many bytes of content to the output.
    fn pass(&mut self, count: usize, output: &mut Vec<u8>) -> Result<(), BatchRefusal> {
        let is_around = self.parts == 0 && self.open.len() == 1;
        let bytes = self.take(count);
        match &mut self.state {
            // Text around a batch has no meaning (RFC 2046 section 5.1.1), and UI5 writes some. It
            // is dropped: a server that looks for parts everywhere could find one in it.
            State::End => {}
            State::Between(..) if is_around => {}
            State::Between(seen, _) => {
                *seen += count;
                if *seen > MOST_BLANKS || !bytes.trim_ascii().is_empty() {
                    return unreadable("has text between its parts");
                }
                output.extend_from_slice(&bytes);
            }
            State::Body(body) => {
                body.smuggling.read(&bytes)?;
                if !body.may_be_there && !bytes.trim_ascii().is_empty() {
                    return unreadable("has a body although its method has none");
                }
                output.extend_from_slice(&bytes);
            }
            State::Header | State::Request(..) => output.extend_from_slice(&bytes),
        }
        Ok(())
    }

    /// Removes this many bytes from `held`.
    fn take(&mut self, count: usize) -> Vec<u8> {
        let bytes: Vec<u8> = self.held.drain(..count.min(self.held.len())).collect();
        if let Some(at) = bytes.iter().rposition(|byte| !byte.is_ascii_whitespace()) {
            self.last = self.before + at as u64 + 1;
        }
        if let Some(byte) = bytes.last() {
            self.begins_line = *byte == b'\n';
        }
        self.before += bytes.len() as u64;
        self.lines = 0;
        bytes
    }

    /// Checks that what a delimiter ends has the length that it announced.
    fn end_part(&self) -> Result<(), BatchRefusal> {
        match &self.state {
            State::Body(body) => {
                body.part.check(self.before, self.last)?;
                body.own.check(self.before, self.last)
            }
            State::Between(_, Some(closed)) => closed.check(self.before, self.last),
            _ => Ok(()),
        }
    }

    /// The delimiter whose boundary stands here, and its length. `None` if more is needed.
    fn delimiter(
        &mut self,
        at: usize,
        index: usize,
        is_end: bool,
    ) -> Result<Option<(Delimiter, usize)>, BatchRefusal> {
        const AMBIGUOUS: &str =
            "has a boundary at a place where servers disagree on whether the part ends there";
        let Some(multipart) = self.open.get(index) else { return Ok(None) };
        let behind = self.held.get(at + multipart.delimiter.len()..).unwrap_or_default();
        let (delimiter, rest, dashes) = match behind {
            [b'-', b'-', rest @ ..] => (Delimiter::Close, rest, 2),
            _ => (Delimiter::Next, behind, 0),
        };
        let line_end = match rest {
            [b'\r', b'\n', ..] => Some(&b"\r\n"[..]),
            [b'\n', ..] => Some(&b"\n"[..]),
            [] | [b'\r'] if !is_end => return Ok(None),
            [] if delimiter == Delimiter::Close => None,
            [b'-'] if delimiter == Delimiter::Next && !is_end => return Ok(None),
            _ => return unreadable(AMBIGUOUS),
        };
        if line_end.is_some() && self.line_end.is_some_and(|known| Some(known) != line_end) {
            return unreadable("uses two kinds of line ends");
        }
        self.line_end = self.line_end.or(line_end);
        let length = multipart.delimiter.len() + dashes + line_end.map_or(0, <[u8]>::len);
        // The bytes before the boundary have to end a line.
        let known = self.line_end.unwrap_or(b"\r\n");
        let line = self.held.get(..at).unwrap_or_default();
        let other_end = known == b"\n" && line.ends_with(b"\r\n");
        let is_line = if at == 0 { self.begins_line } else { line.ends_with(known) && !other_end };
        if !is_line || index + 1 != self.open.len() {
            return unreadable(AMBIGUOUS);
        }
        Ok(Some((delimiter, length)))
    }

    /// Reads the header of a part.
    fn header(&mut self, output: &mut Vec<u8>) -> Result<bool, BatchRefusal> {
        let Some(end) = self.end_of_header(0, None)? else { return Ok(false) };
        if self.open.find(&self.held, 0).is_some_and(|(at, _)| at < end) {
            return unreadable("ends within its header");
        }
        self.lines = 0;
        let text = unfolded(self.held.get(..end).unwrap_or_default());
        let headers = headers(&text)?;
        if overriding_methods(&headers).next().is_some()
            || headers.keys().any(is_stripped_from_parts)
        {
            return unreadable("has, before its request line, a header that belongs after it");
        }
        if let Some(id) = only_value(&headers, &CONTENT_ID)? {
            check_id(id.to_str().unwrap_or_default())?;
        }
        let media =
            only_value(&headers, &CONTENT_TYPE)?.map(|value| value.to_str().unwrap_or_default());
        let Some(media) = media else { return unreadable("has no Content-Type") };
        let media = MediaType::parse(media)?;
        media.check_charset()?;
        let length = announced_length(&headers, self.before + end as u64)?;
        let coding = only_value(&headers, &CONTENT_TRANSFER_ENCODING)?;
        let is_plain = |coding: &HeaderValue| {
            let known = ["binary", "8bit", "7bit"];
            known.iter().any(|one| coding.as_bytes().eq_ignore_ascii_case(one.as_bytes()))
        };
        if !coding.is_none_or(is_plain) || headers.contains_key(CONTENT_ENCODING) {
            return unreadable("is encoded");
        }
        match media.essence.as_str() {
            "application/http" => {
                self.state = State::Request(end, length);
            }
            "multipart/mixed" => {
                let header = self.take(end);
                output.extend(kept(&header, |name| *name != CONTENT_LENGTH));
                self.state = State::Between(0, None);
                self.open.enter(&media, length)?;
            }
            other => {
                return unreadable(format!("has the type `{other}`, which is not a request's"));
            }
        }
        Ok(true)
    }

    /// Reads the header of a part's request, after the part's own header.
    fn request(
        &mut self,
        start: usize,
        part: AnnouncedLength,
        is_end: bool,
        check: CheckPart<'_>,
        output: &mut Vec<u8>,
    ) -> Result<bool, BatchRefusal> {
        // Servers skip empty lines before a request (RFC 9112 section 2.2).
        let known = self.line_end.unwrap_or(b"\r\n");
        let mut begin = start;
        while self.held.get(begin..).is_some_and(|rest| rest.starts_with(known)) {
            begin += known.len();
        }
        let boundary = self.open.find(&self.held, start);
        let whole = self.end_of_header(begin, boundary.map(|(at, _)| at))?;
        let end = match boundary {
            // A request without a body may leave out the empty line.
            Some((at, index)) if whole.is_none() => {
                if self.delimiter(at, index, is_end)?.is_none() {
                    return Ok(false);
                }
                at
            }
            _ => match whole {
                Some(end) => end,
                None => return Ok(false),
            },
        };
        let head = self.held.get(begin..end).unwrap_or_default();
        let split = memchr(b'\n', head).map_or(head.len(), |at| at + 1);
        let (line, lines) = head.split_at(split);
        let headers = headers(lines)?;
        if headers.contains_key(TRANSFER_ENCODING) {
            return unreadable("has a Transfer-Encoding of its own");
        }
        only_value(&headers, &HOST)?;
        if let Some(id) = only_value(&headers, &CONTENT_ID)? {
            check_id(id.to_str().unwrap_or_default())?;
        }
        if !headers.get_all(CONTENT_TYPE).iter().all(|media| is_ascii_compatible(media.as_bytes()))
        {
            return unreadable("has a body in another character set than UTF-8");
        }
        let body = announced_length(&headers, self.before + end as u64)?;
        let (method, target) = request_line(line)?;
        check(&PartRequest { method: method.clone(), target, headers: &headers })?;

        // A server that changes the text before it applies a length, as CAP does, would find
        // another end: lengths are not forwarded.
        let own = self.held.get(..start).unwrap_or_default();
        output.extend(kept(own, |name| *name != CONTENT_LENGTH));
        output.extend_from_slice(self.held.get(start..begin).unwrap_or_default());
        output.extend_from_slice(line);
        output.extend(kept(lines, |name| *name != CONTENT_LENGTH && !is_stripped_from_parts(name)));
        let may_be_there =
            !matches!(method, Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS);
        self.take(end);
        self.state =
            State::Body(PartBody { part, own: body, may_be_there, smuggling: Box::default() });
        Ok(true)
    }

    /// The end of the header that begins here, with its empty line. `None` if more is needed, or if
    /// there is no empty line before the boundary at `limit`. Bytes after the boundary do not
    /// count: with small chunks they are not there yet.
    fn end_of_header(
        &mut self,
        from: usize,
        limit: Option<usize>,
    ) -> Result<Option<usize>, BatchRefusal> {
        let known = self.line_end.unwrap_or(b"\r\n");
        let limit = limit.unwrap_or(self.held.len());
        let begin = from.max(self.lines.min(limit));
        let held = self.held.get(begin..limit).unwrap_or_default();
        let (mut end, mut is_whole) = (begin, false);
        for line in held.split_inclusive(|byte| *byte == b'\n') {
            let Some(text) = line.strip_suffix(known) else {
                if line.ends_with(b"\n") {
                    return unreadable("uses two kinds of line ends");
                }
                break;
            };
            if text.contains(&b'\r') {
                return unreadable("holds a bare CR");
            }
            end += line.len();
            if text.is_empty() {
                is_whole = true;
                break;
            }
        }
        self.lines = if is_whole { 0 } else { end };
        let length = if is_whole { end } else { limit };
        if length > LONGEST_HEAD {
            return unreadable("has a header of more than 64 KiB");
        }
        Ok(is_whole.then_some(length))
    }
}
