//! Rewrites the sidecar's URLs in a multipart `$batch` request (OData 4.01 part 1, section 11.7.7)
//! while it streams through. Pure.
//!
//! Clients built on .NET write absolute request lines by default. A part is held until its end, since
//! the lengths in its headers change with what is in it. A part too large to be held goes without these
//! lengths, which are optional, and its body is rewritten while it streams.

use super::format::{Format, Rewriter};
use super::header;
use super::origin::OriginMap;
use std::sync::Arc;

/// A part with more bytes than this is not held.
const LARGEST_PART: usize = 64 * 1024;
/// RFC 2046 section 5.1.1 allows 70 characters.
const LONGEST_BOUNDARY: usize = 70;
/// A batch holds change sets, which hold no more of their kind.
const DEEPEST: usize = 4;

/// What becomes of the URLs in requests.
#[derive(Clone, Debug, Default)]
pub struct Back {
    /// Our origin becomes the upstream's.
    pub urls: Arc<OriginMap>,
    /// Our `Host`, and the upstream's.
    pub host: (String, String),
}

/// Rewrites one multipart batch.
#[derive(Debug)]
pub struct BatchRewriter {
    back: Back,
    /// The delimiters (`--boundary`) of the multiparts that are open, the outermost first.
    delimiters: Vec<Vec<u8>>,
    state: State,
    /// What is not in the output yet.
    held: Vec<u8>,
    /// Where the line that is being read begins in `held`.
    line: usize,
    /// How the first delimiter ended its line; what ends otherwise is data.
    line_end: Option<&'static [u8]>,
    /// Rewrites the body of a part that is too large to be held.
    body: Option<Rewriter>,
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
    /// In a part that holds a request, of which the first so many bytes are its own header.
    Request(usize),
}

impl State {
    /// How many bytes of a line are held at most.
    const fn longest_line(self) -> usize {
        match self {
            Self::Between => LONGEST_BOUNDARY * 2,
            Self::MidLine => usize::MAX / 2,
            Self::Header | Self::Request(_) => LARGEST_PART,
        }
    }
}

impl BatchRewriter {
    /// A rewriter for a batch whose `Content-Type` is this. `None`: it is no multipart batch.
    pub fn new(content_type: &str, back: &Back) -> Option<Self> {
        Some(Self {
            back: back.clone(),
            delimiters: vec![delimiter(content_type)?],
            state: State::Between,
            held: Vec::new(),
            line: 0,
            line_end: None,
            body: None,
            rewritten: 0,
        })
    }

    /// Takes the next bytes and appends what is decided to `output`.
    pub fn push(&mut self, input: &[u8], output: &mut Vec<u8>) {
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
        if self.state == State::MidLine {
            self.pass(output);
        }
    }

    /// Ends the batch: what is held is appended to `output`.
    pub fn finish(&mut self, output: &mut Vec<u8>) {
        self.end_line(output);
        self.flush(true, output);
        self.end_body(output);
    }

    /// How many URLs were changed.
    pub const fn rewritten(&self) -> u64 {
        self.rewritten
    }

    /// Judges the line that has just become whole.
    fn end_line(&mut self, output: &mut Vec<u8>) {
        if self.state == State::MidLine {
            self.state = State::Between;
            return self.pass(output);
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
            self.flush(true, output);
            self.end_body(output);
            output.extend_from_slice(&delimiter);
            self.delimiters.truncate(open);
            self.state = state;
            return;
        }
        match self.state {
            State::Header if line.is_empty() => self.end_header(output),
            State::Header | State::Request(_) => {
                self.line = self.held.len();
                if self.line > LARGEST_PART {
                    self.flush(false, output);
                    self.state = State::Between;
                }
            }
            State::Between | State::MidLine => self.pass(output),
        }
    }

    /// A part's own header is whole.
    fn end_header(&mut self, output: &mut Vec<u8>) {
        let kind = value_of(&self.held, "content-type").unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if essence == "application/http" {
            self.state = State::Request(self.held.len());
            self.line = self.held.len();
            return;
        }
        if let Some(delimiter) = delimiter(&kind).filter(|_| self.delimiters.len() < DEEPEST) {
            self.delimiters.push(delimiter);
            // Optional here, and not true any more if anything within changes.
            let header = self.held.split_inclusive(|byte| *byte == b'\n');
            let kept = header.filter(|line| name_of(line) != "content-length");
            self.held = kept.flatten().copied().collect();
        }
        self.state = State::Between;
        self.pass(output);
    }

    /// A line is too long to be a delimiter, or to be held: it passes, and what it is in.
    fn give_line_up(&mut self, output: &mut Vec<u8>) {
        let line = self.held.split_off(self.line);
        self.flush(false, output);
        self.state = if line.ends_with(b"\n") { State::Between } else { State::MidLine };
        self.held = line;
        self.pass(output);
    }

    /// Writes the part that is held; `is_whole` tells that its end is there.
    fn flush(&mut self, is_whole: bool, output: &mut Vec<u8>) {
        if let State::Request(header) = self.state {
            let (header, request) = self.held.split_at(header.min(self.held.len()));
            let large = (!is_whole).then(|| self.back.large_part(header, request)).flatten();
            if let Some((part, count)) = large {
                self.rewritten += count;
                output.extend_from_slice(&part.head);
                self.held = part.rest;
                self.body = Some(part.body);
            } else if let Some((part, count)) = self.back.part(header, request, is_whole) {
                self.rewritten += count;
                output.extend_from_slice(&part);
                self.held.clear();
            }
        }
        self.pass(output);
    }

    fn pass(&mut self, output: &mut Vec<u8>) {
        match &mut self.body {
            Some(body) => {
                body.push(&self.held, output);
                self.held.clear();
            }
            None => output.append(&mut self.held),
        }
        self.line = 0;
    }

    /// The part is over whose body is rewritten while it streams, if there is one.
    fn end_body(&mut self, output: &mut Vec<u8>) {
        if let Some(mut body) = self.body.take() {
            body.finish(output);
            self.rewritten += body.rewritten();
        }
    }
}

/// The beginning of a part that is too large to be held.
struct LargePart {
    /// Its header and its request's, rewritten and without lengths.
    head: Vec<u8>,
    /// What came of its body.
    rest: Vec<u8>,
    /// Rewrites its body.
    body: Rewriter,
}

impl Back {
    /// A part of a batch, with its own header, rewritten. `None` if nothing in it changes.
    fn part(&self, header: &[u8], request: &[u8], is_whole: bool) -> Option<(Vec<u8>, u64)> {
        // Servers skip empty lines before a request (RFC 9112 section 2.2).
        let skipped = request.len() - request.trim_ascii_start().len();
        let (lead, request) = request.split_at(skipped);
        let (head, rest) = split_head(request);
        // The end of the line before a delimiter belongs to the delimiter (RFC 2046 section 5.1.1).
        let end = [&b"\r\n"[..], b"\n", b""].into_iter().find(|end| rest.ends_with(end))?;
        let body = rest.strip_suffix(end).unwrap_or_default();
        let (new_body, mut count) = if is_whole { self.body(head, body) } else { (None, 0) };

        let mut lines = head.split_inclusive(|byte| *byte == b'\n');
        let request_line = lines.next().unwrap_or_default();
        let new_line = self.request_line(request_line);
        count += u64::from(new_line.is_some());
        let mut changed = new_line.unwrap_or_else(|| request_line.to_vec());
        for line in lines {
            let new_line = match name_of(line).as_str() {
                "if-match" | "if-none-match" => restored(line).inspect(|_| count += 1),
                "content-length" => {
                    new_body.as_ref().and_then(|new| lengthened(line, body.len(), new.len()))
                }
                "host" => self.host_line(line).inspect(|_| count += 1),
                _ => None,
            };
            changed.extend(new_line.unwrap_or_else(|| line.to_vec()));
        }
        if count == 0 {
            return None;
        }
        changed.extend_from_slice(new_body.as_deref().unwrap_or(body));
        let mut part = Vec::with_capacity(header.len() + changed.len() + end.len());
        for line in header.split_inclusive(|byte| *byte == b'\n') {
            let is_length = name_of(line) == "content-length";
            let before = head.len() + body.len();
            let new_line = is_length.then(|| lengthened(line, before, changed.len())).flatten();
            part.extend(new_line.unwrap_or_else(|| line.to_vec()));
        }
        part.extend_from_slice(lead);
        part.append(&mut changed);
        part.extend_from_slice(end);
        Some((part, count))
    }

    /// The beginning of a part that is too large to be held, and how many URLs were changed in it. `None`: its
    /// body holds no links.
    fn large_part(&self, header: &[u8], request: &[u8]) -> Option<(LargePart, u64)> {
        let skipped = request.len() - request.trim_ascii_start().len();
        let (lead, request) = request.split_at(skipped);
        let (head, rest) = split_head(request);
        if value_of(head, "content-encoding").is_some() {
            return None;
        }
        let format = value_of(head, "content-type").and_then(|kind| Format::named(&kind))?;
        let without_length = |lines: &[u8]| -> Vec<u8> {
            let lines = lines.split_inclusive(|byte| *byte == b'\n');
            lines.filter(|line| name_of(line) != "content-length").flatten().copied().collect()
        };
        let header = without_length(header);
        let head = [lead, &without_length(head)].concat();
        let changed = self.part(&header, &head, true);
        let (head, count) = changed.unwrap_or_else(|| ([header, head].concat(), 0));
        let body = Rewriter::new(Some(format), &self.urls);
        Some((LargePart { head, rest: rest.to_vec(), body }, count))
    }

    /// The body of a request in a batch, if it changes, and how many URLs did.
    fn body(&self, head: &[u8], body: &[u8]) -> (Option<Vec<u8>>, u64) {
        let kind = value_of(head, "content-type").and_then(|kind| Format::named(&kind));
        if value_of(head, "content-encoding").is_some() {
            return (None, 0);
        }
        let mut rewriter = Rewriter::new(kind, &self.urls);
        let mut output = Vec::with_capacity(body.len() + 64);
        rewriter.push(body, &mut output);
        rewriter.finish(&mut output);
        let count = rewriter.rewritten();
        ((count > 0).then_some(output), count)
    }

    /// `GET http://127.0.0.1:8080/... HTTP/1.1`
    fn request_line(&self, line: &[u8]) -> Option<Vec<u8>> {
        let text = str::from_utf8(line).ok()?;
        let (method, rest) = text.split_once(' ')?;
        let (target, version) = rest.split_once(' ')?;
        let theirs = self.urls.rewrite(target)?;
        Some(format!("{method} {theirs} {version}").into_bytes())
    }

    fn host_line(&self, line: &[u8]) -> Option<Vec<u8>> {
        let (ours, theirs) = &self.host;
        let (_, value) = str::from_utf8(line).ok()?.split_once(':')?;
        value.trim().eq_ignore_ascii_case(ours).then(|| with_value(line, theirs)).flatten()
    }
}

/// The delimiter of a multipart, from its `Content-Type`.
pub(super) fn delimiter(content_type: &str) -> Option<Vec<u8>> {
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

/// What stands up to the first empty line, that one included, and what follows.
pub(super) fn split_head(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut length = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        length += line.len();
        if line.trim_ascii_end().is_empty() {
            break;
        }
    }
    bytes.split_at(length.min(bytes.len()))
}

/// The name of the header on a line, in lower case. Empty for the empty line and for one that goes on
/// from the line before.
pub(super) fn name_of(line: &[u8]) -> String {
    let colon = line.iter().position(|byte| *byte == b':').unwrap_or_default();
    String::from_utf8_lossy(line.get(..colon).unwrap_or_default()).to_ascii_lowercase()
}

/// The value of a header, with its continuation lines.
pub(super) fn value_of(head: &[u8], name: &str) -> Option<String> {
    let mut value: Option<String> = None;
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        match &mut value {
            Some(value) if text.starts_with([' ', '\t']) => value.push_str(text.trim_end()),
            Some(_) => break,
            None if name_of(line) == name => {
                value = text.split_once(':').map(|(_, value)| value.trim().to_owned());
            }
            None => {}
        }
    }
    value
}

/// A line of entity tags, if some of them were marked here.
fn restored(line: &[u8]) -> Option<Vec<u8>> {
    let (_, tags) = str::from_utf8(line).ok()?.split_once(':')?;
    let restored = header::strengthened(tags.trim());
    (restored != tags.trim()).then(|| with_value(line, &restored)).flatten()
}

/// A `Content-Length` line whose number grows as what it counts does. Clients differ in what they
/// count, so that it is the difference which is added.
pub(super) fn lengthened(line: &[u8], before: usize, after: usize) -> Option<Vec<u8>> {
    let (_, value) = str::from_utf8(line).ok()?.split_once(':')?;
    let length = (value.trim().parse::<usize>().ok()? + after).checked_sub(before)?;
    with_value(line, &length.to_string())
}

/// A header's line with another value.
pub(super) fn with_value(line: &[u8], value: &str) -> Option<Vec<u8>> {
    let text = str::from_utf8(line).ok()?;
    let (name, _) = text.split_once(':')?;
    let end = text.get(text.trim_end_matches(['\r', '\n']).len()..)?;
    Some(format!("{name}: {value}{end}").into_bytes())
}

#[cfg(test)]
mod tests;
