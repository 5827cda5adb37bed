//! A multipart batch (OData 4.01 part 1, section 11.7.7), read strictly while it streams. Pure.
//!
//! Servers differ in how they find the end of a part. So a boundary counts where all of them see it,
//! and may stand nowhere else: not within a line, not behind a line's other end, not before spaces.

use super::lines::{Lines, holds_request};
use super::reader::{check_id, is_like_ascii};
use super::{Judge, Media, Part, Refusal, unreadable};
use crate::proxy::headers::{is_stripped, tunnelled_methods};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use memchr::{memchr, memmem};

/// The most bytes of a part's header with its request's header.
const LONGEST_HEAD: usize = 64 * 1024;
/// The most lines of a header.
const MOST_HEADERS: usize = 128;
/// The most bytes around parts, all of them white.
const MOST_BLANKS: usize = 1024;
/// RFC 2046 section 5.1.1.
const LONGEST_BOUNDARY: usize = 70;
/// What JavaScript takes for line ends.
const SEPARATORS: [&str; 2] = ["\u{2028}", "\u{2029}"];
/// A batch holds change sets, which hold none.
const DEEPEST: usize = 2;
const CONTENT_ID: HeaderName = HeaderName::from_static("content-id");
const CONTENT_TRANSFER_ENCODING: HeaderName = HeaderName::from_static("content-transfer-encoding");

/// Reads one batch.
#[derive(Debug)]
pub(super) struct MultipartReader {
    /// The multiparts that are open, the outermost first.
    open: Vec<Multipart>,
    state: State,
    /// What is not in the output yet.
    held: Vec<u8>,
    /// How many bytes came before `held`.
    before: u64,
    /// How many of them there are up to the last one that is not white.
    last: u64,
    /// Whether `held` begins a line.
    begins_line: bool,
    /// Up to here, `held` has whole lines of a header, and not its end.
    lines: usize,
    /// How lines end: as the first one does.
    line_end: Option<&'static [u8]>,
    parts: usize,
}

/// A multipart that is open.
#[derive(Debug)]
struct Multipart {
    /// `--boundary`
    delimiter: Vec<u8>,
    /// How long it has to be.
    length: Announced,
}

/// Where the next byte is.
#[derive(Debug)]
enum State {
    /// Between parts, where there is nothing but white space; the number of bytes so far, and the change set
    /// that has just ended.
    Between(usize, Option<Announced>),
    /// In the header of a part.
    Header,
    /// In the header of a part's request, behind so many bytes of the part's own.
    Request(usize, Announced),
    /// In the body of a part's request.
    Body(Body),
    /// Behind the end.
    End,
}

/// The body of a part's request.
#[derive(Debug)]
struct Body {
    /// What the part's own header announces.
    part: Announced,
    /// What the request's header announces.
    own: Announced,
    /// Whether the method may have one.
    may_be_there: bool,
    lines: Box<Lines>,
}

/// A `Content-Length`, and where it counts from.
#[derive(Clone, Copy, Debug, Default)]
struct Announced {
    from: u64,
    length: Option<u64>,
}

/// What a line that begins with a boundary means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delimiter {
    Next,
    Close,
}

impl MultipartReader {
    pub(super) fn new(media: &Media) -> Result<Self, Refusal> {
        let mut reader = Self {
            open: Vec::new(),
            state: State::Between(0, None),
            held: Vec::new(),
            before: 0,
            last: 0,
            begins_line: true,
            lines: 0,
            line_end: None,
            parts: 0,
        };
        reader.enter(media, Announced::default())?;
        Ok(reader)
    }

    pub(super) const fn parts(&self) -> usize {
        self.parts
    }

    pub(super) fn push(
        &mut self,
        input: &[u8],
        judge: Judge<'_>,
        output: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        self.held.extend_from_slice(input);
        while self.step(false, judge, output)? {}
        Ok(())
    }

    pub(super) fn finish(&mut self, judge: Judge<'_>, output: &mut Vec<u8>) -> Result<(), Refusal> {
        while self.step(true, judge, output)? {}
        match self.state {
            State::End => Ok(()),
            _ => unreadable("has no end"),
        }
    }

    /// Takes what can be decided. Returns whether there may be more.
    fn step(
        &mut self,
        is_end: bool,
        judge: Judge<'_>,
        output: &mut Vec<u8>,
    ) -> Result<bool, Refusal> {
        match self.state {
            State::Header => self.header(output),
            State::Request(start, length) => self.request(start, length, is_end, judge, output),
            State::Between(..) | State::Body(_) | State::End => self.content(is_end, output),
        }
    }

    /// Content between two delimiters, of which nothing has to be understood.
    fn content(&mut self, is_end: bool, output: &mut Vec<u8>) -> Result<bool, Refusal> {
        if let Some((at, index)) = self.find_boundary(0) {
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
        // The beginning of a boundary may be there, and of the line's end before it.
        let longest = self.open.iter().map(|open| open.delimiter.len()).max().unwrap_or_default();
        let keep = if is_end { 0 } else { longest + 2 };
        self.pass(self.held.len().saturating_sub(keep), output)?;
        Ok(false)
    }

    /// Appends so many bytes of content to the output.
    fn pass(&mut self, count: usize, output: &mut Vec<u8>) -> Result<(), Refusal> {
        let is_around = self.parts == 0 && self.open.len() == 1;
        let bytes = self.take(count);
        match &mut self.state {
            // What is around a batch means nothing (RFC 2046 section 5.1.1): it does not go on, or a server
            // that looks for parts everywhere would find some. UI5 writes one.
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
                body.lines.read(&bytes)?;
                if !body.may_be_there && !bytes.trim_ascii().is_empty() {
                    return unreadable("has a body although its method has none");
                }
                output.extend_from_slice(&bytes);
            }
            State::Header | State::Request(..) => output.extend_from_slice(&bytes),
        }
        Ok(())
    }

    /// Takes so many bytes out of what is held.
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

    /// What a delimiter ends has the length that it has announced.
    fn end_part(&self) -> Result<(), Refusal> {
        match &self.state {
            State::Body(body) => {
                body.part.check(self.before, self.last)?;
                body.own.check(self.before, self.last)
            }
            State::Between(_, Some(closed)) => closed.check(self.before, self.last),
            _ => Ok(()),
        }
    }

    /// Where the first boundary stands, and whose it is.
    fn find_boundary(&self, from: usize) -> Option<(usize, usize)> {
        let held = self.held.get(from..)?;
        let found = self.open.iter().enumerate().filter_map(|(index, multipart)| {
            Some((from + memmem::find(held, &multipart.delimiter)?, index))
        });
        found.min()
    }

    /// The delimiter whose boundary stands here, with its length; `None` if more is needed.
    fn delimiter(
        &mut self,
        at: usize,
        index: usize,
        is_end: bool,
    ) -> Result<Option<(Delimiter, usize)>, Refusal> {
        const AMBIGUOUS: &str = "holds its boundary where servers differ about its end";
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
            return unreadable("ends its lines in two ways");
        }
        self.line_end = self.line_end.or(line_end);
        let length = multipart.delimiter.len() + dashes + line_end.map_or(0, <[u8]>::len);
        // What is before it.
        let known = self.line_end.unwrap_or(b"\r\n");
        let line = self.held.get(..at).unwrap_or_default();
        let other_end = known == b"\n" && line.ends_with(b"\r\n");
        let is_line = if at == 0 { self.begins_line } else { line.ends_with(known) && !other_end };
        if !is_line || index + 1 != self.open.len() {
            return unreadable(AMBIGUOUS);
        }
        Ok(Some((delimiter, length)))
    }

    /// The header of a part.
    fn header(&mut self, output: &mut Vec<u8>) -> Result<bool, Refusal> {
        let Some(end) = self.end_of_header(0, None)? else { return Ok(false) };
        if self.find_boundary(0).is_some_and(|(at, _)| at < end) {
            return unreadable("ends within its header");
        }
        self.lines = 0;
        let text = unfolded(self.held.get(..end).unwrap_or_default());
        let headers = headers(&text)?;
        if tunnelled_methods(&headers).next().is_some() || headers.keys().any(is_stripped) {
            return unreadable("has a header that belongs to its request");
        }
        if let Some(id) = one(&headers, &CONTENT_ID)? {
            check_id(id.to_str().unwrap_or_default())?;
        }
        let media = one(&headers, &CONTENT_TYPE)?.map(|value| value.to_str().unwrap_or_default());
        let Some(media) = media else { return unreadable("has no Content-Type") };
        let media = Media::parse(media)?;
        media.check_charset()?;
        let length = length(&headers, self.before + end as u64)?;
        let coding = one(&headers, &CONTENT_TRANSFER_ENCODING)?;
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
                self.enter(&media, length)?;
            }
            other => return unreadable(format!("has the type `{other}`, which is no request's")),
        }
        Ok(true)
    }

    /// The header of a part's request, behind the part's own.
    fn request(
        &mut self,
        start: usize,
        part: Announced,
        is_end: bool,
        judge: Judge<'_>,
        output: &mut Vec<u8>,
    ) -> Result<bool, Refusal> {
        // Servers skip empty lines before a request (RFC 9112 section 2.2).
        let known = self.line_end.unwrap_or(b"\r\n");
        let mut begin = start;
        while self.held.get(begin..).is_some_and(|rest| rest.starts_with(known)) {
            begin += known.len();
        }
        let boundary = self.find_boundary(start);
        let whole = self.end_of_header(begin, boundary.map(|(at, _)| at))?;
        let end = match boundary {
            // A header alone, whose empty line is left out.
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
        one(&headers, &HOST)?;
        if let Some(id) = one(&headers, &CONTENT_ID)? {
            check_id(id.to_str().unwrap_or_default())?;
        }
        if !headers.get_all(CONTENT_TYPE).iter().all(|media| is_like_ascii(media.as_bytes())) {
            return unreadable("has a body in another character set than UTF-8");
        }
        let body = length(&headers, self.before + end as u64)?;
        let (method, target) = request_line(line)?;
        judge(&Part { method: method.clone(), target, headers: &headers })?;

        // A server that changes the text before it goes by a length, as CAP does, would find another end.
        let own = self.held.get(..start).unwrap_or_default();
        output.extend(kept(own, |name| *name != CONTENT_LENGTH));
        output.extend_from_slice(self.held.get(start..begin).unwrap_or_default());
        output.extend_from_slice(line);
        output.extend(kept(lines, |name| *name != CONTENT_LENGTH && !is_stripped(name)));
        let may_be_there =
            !matches!(method, Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS);
        self.take(end);
        self.state = State::Body(Body { part, own: body, may_be_there, lines: Box::default() });
        Ok(true)
    }

    /// Where the header ends that begins here, its empty line included; `None` if more is needed, or it has none
    /// before the boundary at `limit`: what is behind that is not there yet if the chunks are small.
    fn end_of_header(
        &mut self,
        from: usize,
        limit: Option<usize>,
    ) -> Result<Option<usize>, Refusal> {
        let known = self.line_end.unwrap_or(b"\r\n");
        let limit = limit.unwrap_or(self.held.len());
        let begin = from.max(self.lines.min(limit));
        let held = self.held.get(begin..limit).unwrap_or_default();
        let (mut end, mut is_whole) = (begin, false);
        for line in held.split_inclusive(|byte| *byte == b'\n') {
            let Some(text) = line.strip_suffix(known) else {
                if line.ends_with(b"\n") {
                    return unreadable("ends its lines in two ways");
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

    /// Opens a multipart.
    fn enter(&mut self, media: &Media, length: Announced) -> Result<(), Refusal> {
        if self.open.len() == DEEPEST {
            return unreadable("is a change set within a change set");
        }
        let boundary = media.parameter("boundary")?.unwrap_or_default();
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
        if boundary.is_empty()
            || boundary.len() > LONGEST_BOUNDARY
            || !boundary.bytes().all(is_allowed)
        {
            return unreadable("has no boundary by RFC 2046");
        }
        let delimiter = format!("--{boundary}").into_bytes();
        let is_within = |text: &[u8], other: &[u8]| memmem::find(text, other).is_some();
        if self.open.iter().any(|open| {
            is_within(&open.delimiter, &delimiter) || is_within(&delimiter, &open.delimiter)
        }) {
            return unreadable("has a boundary that begins like the one around it");
        }
        self.open.push(Multipart { delimiter, length });
        Ok(())
    }
}

impl Announced {
    /// Whether what ends before `end`, and for all but white space before `last`, has its length. Clients
    /// differ in which line ends they count.
    fn check(&self, end: u64, last: u64) -> Result<(), Refusal> {
        let most = end.saturating_sub(self.from);
        let least = last.saturating_sub(self.from);
        match self.length {
            Some(length) if !(least..=most).contains(&length) => {
                unreadable("has a Content-Length that is not its length")
            }
            _ => Ok(()),
        }
    }
}

/// The method and target of a request line. A query may hold raw spaces: the target ends before the last.
fn request_line(line: &[u8]) -> Result<(Method, &str), Refusal> {
    const NONE: &str = "has no request line by RFC 9112";
    let line =
        str::from_utf8(line.trim_ascii_end()).map_err(|_| Refusal::Unreadable(NONE.to_owned()))?;
    let split =
        line.split_once(' ').and_then(|(method, rest)| Some((method, rest.rsplit_once(' ')?)));
    let Some((method, (target, "HTTP/1.1" | "HTTP/1.0"))) = split else { return unreadable(NONE) };
    let path = target.split('?').next().unwrap_or_default();
    let is_plain =
        !path.contains(' ') && !target.contains(char::is_control) && !target.starts_with('?');
    // Raw spaces in a query may make another request line of it.
    let (_, behind) = line.split_once(' ').unwrap_or_default();
    match Method::from_bytes(method.as_bytes()) {
        Ok(method) if is_plain && !holds_request(behind.as_bytes()) => Ok((method, target)),
        _ => unreadable(NONE),
    }
}

/// The headers of these lines. An empty line may end them.
fn headers(lines: &[u8]) -> Result<HeaderMap, Refusal> {
    let mut parsed = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let text = [lines.trim_ascii_end(), b"\r\n\r\n"].concat();
    let text = if lines.trim_ascii_end().is_empty() { &b"\r\n"[..] } else { &text };
    let Ok(httparse::Status::Complete((_, parsed))) = httparse::parse_headers(text, &mut parsed)
    else {
        return unreadable("has a header line by no standard");
    };
    let mut headers = HeaderMap::with_capacity(parsed.len());
    for header in parsed {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_bytes(header.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return unreadable("has a header line by no standard");
        };
        if has_second_meaning(&name, &value) {
            return unreadable("has a header line that can be read in two ways");
        }
        headers.append(name, value);
    }
    Ok(headers)
}

/// What servers that look for lengths, boundaries and line ends by text alone find in a header.
fn has_second_meaning(name: &HeaderName, value: &HeaderValue) -> bool {
    let (length, media) = (CONTENT_LENGTH.as_str(), CONTENT_TYPE.as_str());
    let value = value.as_bytes();
    let lower_case = value.to_ascii_lowercase();
    let holds = |text: &[u8]| memmem::find(&lower_case, text).is_some();
    name.as_str().contains(length) && *name != CONTENT_LENGTH
        || name.as_str().starts_with("--")
        || name.as_str().starts_with(media) && *name != CONTENT_TYPE
        || holds(length.as_bytes())
        || holds_request(value)
        || SEPARATORS.iter().any(|separator| holds(separator.as_bytes()))
}

/// The only value of a header.
fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => unreadable(format!("has two headers `{name}`")),
        (found, None) => Ok(found),
    }
}

/// The length that a header announces, of what begins at `from`.
fn length(headers: &HeaderMap, from: u64) -> Result<Announced, Refusal> {
    let length = match one(headers, &CONTENT_LENGTH)?.map(HeaderValue::as_bytes) {
        None => None,
        Some(text) if text.iter().all(u8::is_ascii_digit) => {
            let number = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            Some(number.ok_or_else(|| {
                Refusal::Unreadable("has a Content-Length that is no number".to_owned())
            })?)
        }
        Some(_) => return unreadable("has a Content-Length that is no number"),
    };
    Ok(Announced { from, length })
}

/// A part's header in which a boundary that was folded onto a line of its own is back on its line, as
/// writers of mail do it. Any other folded line stays, and is refused.
fn unfolded(header: &[u8]) -> Vec<u8> {
    let mut unfolded: Vec<u8> = Vec::with_capacity(header.len());
    for line in header.split_inclusive(|byte| *byte == b'\n') {
        let is_folded = line.starts_with(b" ") || line.starts_with(b"\t");
        let text = line.trim_ascii_start();
        let begins = text.get(..9).is_some_and(|text| text.eq_ignore_ascii_case(b"boundary="));
        if is_folded && begins && unfolded.trim_ascii_end().ends_with(b";") {
            unfolded.truncate(unfolded.trim_ascii_end().len());
            unfolded.push(b' ');
            unfolded.extend_from_slice(text);
        } else {
            unfolded.extend_from_slice(line);
        }
    }
    unfolded
}

/// The lines of a header whose names are kept.
fn kept(lines: &[u8], is_kept: impl Fn(&HeaderName) -> bool) -> Vec<u8> {
    let name = |line: &[u8]| {
        let colon = memchr(b':', line)?;
        HeaderName::from_bytes(line.get(..colon)?).ok()
    };
    let lines = lines.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| name(line).is_none_or(|name| is_kept(&name))).flatten().copied().collect()
}
