//! The headers in a multipart batch. Pure.

use super::super::refusal::{BatchRefusal, unreadable};
use super::super::smuggling::holds_request;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use memchr::{memchr, memmem};

/// The largest number of lines in a header.
const MOST_HEADERS: usize = 128;
/// The characters that JavaScript treats as line ends.
const SEPARATORS: [&str; 2] = ["\u{2028}", "\u{2029}"];

/// A `Content-Length`, and where it starts to count.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AnnouncedLength {
    pub(super) from: u64,
    pub(super) length: Option<u64>,
}

impl AnnouncedLength {
    /// Checks the length of what ends at `end`, and without white space at `last`. Callers differ
    /// in which line ends they count.
    pub(super) fn check(&self, end: u64, last: u64) -> Result<(), BatchRefusal> {
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

/// The method and target of a request line. A query may hold raw spaces: the target ends before
/// the last one.
pub(super) fn request_line(line: &[u8]) -> Result<(Method, &str), BatchRefusal> {
    const NO_REQUEST_LINE: &str = "has no request line that follows RFC 9112";
    let line = str::from_utf8(line.trim_ascii_end())
        .map_err(|_| BatchRefusal::Unreadable(NO_REQUEST_LINE.to_owned()))?;
    let split =
        line.split_once(' ').and_then(|(method, rest)| Some((method, rest.rsplit_once(' ')?)));
    let Some((method, (target, "HTTP/1.1" | "HTTP/1.0"))) = split else {
        return unreadable(NO_REQUEST_LINE);
    };
    let path = target.split('?').next().unwrap_or_default();
    let is_plain =
        !path.contains(' ') && !target.contains(char::is_control) && !target.starts_with('?');
    // Raw spaces in a query may form another request line.
    let (_, behind) = line.split_once(' ').unwrap_or_default();
    match Method::from_bytes(method.as_bytes()) {
        Ok(method) if is_plain && !holds_request(behind.as_bytes()) => Ok((method, target)),
        _ => unreadable(NO_REQUEST_LINE),
    }
}

/// The headers on these lines, which may end with an empty line.
pub(super) fn headers(lines: &[u8]) -> Result<HeaderMap, BatchRefusal> {
    let mut parsed = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let text = [lines.trim_ascii_end(), b"\r\n\r\n"].concat();
    let text = if lines.trim_ascii_end().is_empty() { &b"\r\n"[..] } else { &text };
    let Ok(httparse::Status::Complete((_, parsed))) = httparse::parse_headers(text, &mut parsed)
    else {
        return unreadable("has a malformed header line");
    };
    let mut headers = HeaderMap::with_capacity(parsed.len());
    for header in parsed {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_bytes(header.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return unreadable("has a malformed header line");
        };
        if has_second_meaning(&name, &value) {
            return unreadable("has a header line that can be read in two ways");
        }
        headers.append(name, value);
    }
    Ok(headers)
}

/// Whether a server that looks for lengths, boundaries and line ends in the text alone finds one in
/// a header.
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

/// The only value of a header. `None` if there is none.
pub(super) fn only_value<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'h HeaderValue>, BatchRefusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => unreadable(format!("has two headers `{name}`")),
        (found, None) => Ok(found),
    }
}

/// The `Content-Length` of what begins at `from`.
pub(super) fn announced_length(
    headers: &HeaderMap,
    from: u64,
) -> Result<AnnouncedLength, BatchRefusal> {
    let length = match only_value(headers, &CONTENT_LENGTH)?.map(HeaderValue::as_bytes) {
        None => None,
        Some(text) if text.iter().all(u8::is_ascii_digit) => {
            let number = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            Some(number.ok_or_else(|| {
                BatchRefusal::Unreadable("has a Content-Length that is not a number".to_owned())
            })?)
        }
        Some(_) => return unreadable("has a Content-Length that is not a number"),
    };
    Ok(AnnouncedLength { from, length })
}

/// A part's header in which a folded `boundary=` is back on its line: mail libraries fold it. Any
/// other folded line stays, and is refused.
pub(super) fn unfolded(header: &[u8]) -> Vec<u8> {
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

/// The lines of a header, without those whose names are not kept.
pub(super) fn kept(lines: &[u8], is_kept: impl Fn(&HeaderName) -> bool) -> Vec<u8> {
    let name = |line: &[u8]| {
        let colon = memchr(b':', line)?;
        HeaderName::from_bytes(line.get(..colon)?).ok()
    };
    let lines = lines.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| name(line).is_none_or(|name| is_kept(&name))).flatten().copied().collect()
}
