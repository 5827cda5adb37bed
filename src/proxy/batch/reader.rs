//! The readers of batches, whatever route they take. Pure.

use super::json::JsonReader;
use super::multipart::MultipartReader;
use super::suspect::SuspectReader;
use crate::proxy::route::{self, BATCH};
use http::{HeaderMap, HeaderValue, Method};
use memchr::memmem;

/// What makes a read of a POST, behind its `$`.
const READ: &str = "query";
/// Character sets in which bytes of ASCII are what they are in ASCII.
const LIKE_ASCII: [&str; 5] = ["utf-8", "utf8", "us-ascii", "ascii", "latin1"];

/// Ends the path of a SCIM batch.
pub(super) const BULK: &str = "Bulk";

/// A request in a batch.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) method: Method,
    /// As the client wrote it.
    pub(super) target: &'a str,
    pub(super) headers: &'a HeaderMap,
}

impl Part<'_> {
    /// Whether another part's result may take the place of something in the target: what stands there then is
    /// not what was judged.
    pub(super) fn refers(&self) -> bool {
        let path = self.target.split('?').next().unwrap_or_default();
        let before_last = path.rsplit_once('/').map_or("", |(before, _)| before);
        before_last.trim_matches('/').is_empty()
            || ["$", "%24", "%25"].iter().any(|mark| before_last.contains(mark))
    }
}

/// Checks that the id of a part makes no reference of what OData begins with `$`. To servers that look for `$` and
/// the id in the text alone, the id `q` makes one of `$query`.
///
/// # Errors
/// It does.
pub(super) fn check_id(id: &str) -> Result<(), Refusal> {
    let id = id.trim();
    if READ.get(..id.len()).is_some_and(|start| start.eq_ignore_ascii_case(id)) {
        return unreadable(format!(
            "has the id `{id}`, with which `${READ}` can be read as a reference"
        ));
    }
    Ok(())
}

/// Why a batch is refused: a sentence about one of its parts, or about what is around them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It can't be read, or not in one way only.
    Unreadable(String),
    /// A part may not be sent.
    Forbidden(String),
}

/// Shorthand for a batch that can't be read.
pub(super) fn unreadable<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Unreadable(why.into()))
}

/// Judges one part. Pure readers get it as an argument.
pub(super) type Judge<'a> = &'a dyn Fn(&Part<'_>) -> Result<(), Refusal>;

/// Whose batch it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    OData,
    Scim,
}

impl Kind {
    /// Whether a server could take this target for a batch.
    pub(super) fn of(target: &[u8]) -> Option<Self> {
        if route::may_hold(target, BATCH) {
            Some(Self::OData)
        } else if route::may_end_with(target, BULK) {
            Some(Self::Scim)
        } else {
            None
        }
    }
}

/// How a batch is written.
#[derive(Debug)]
pub(super) enum Reader {
    Multipart(MultipartReader),
    Json(JsonReader),
    Suspect(SuspectReader),
}

impl Reader {
    pub(super) fn new(content_type: &HeaderValue, kind: Kind) -> Result<Self, Refusal> {
        let text = content_type.to_str().unwrap_or_default();
        let media = Media::parse(text)?;
        media.check_charset()?;
        match (media.essence.as_str(), kind) {
            ("multipart/mixed", Kind::OData) => Ok(Self::Multipart(MultipartReader::new(&media)?)),
            ("application/json", _) | ("application/scim+json", Kind::Scim) => {
                Ok(Self::Json(JsonReader::new(kind)))
            }
            _ => unreadable(format!("has the type `{text}`, which is no batch's")),
        }
    }

    pub(super) fn push(
        &mut self,
        input: &[u8],
        judge: Judge<'_>,
        output: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        match self {
            Self::Multipart(reader) => reader.push(input, judge, output),
            Self::Json(reader) => reader.push(input, judge, output),
            Self::Suspect(reader) => reader.push(input, judge, output),
        }
    }

    pub(super) fn finish(&mut self, judge: Judge<'_>, output: &mut Vec<u8>) -> Result<(), Refusal> {
        match self {
            Self::Multipart(reader) => reader.finish(judge, output),
            Self::Json(reader) => reader.finish(),
            Self::Suspect(reader) => reader.finish(judge, output),
        }
    }

    /// How many parts were begun.
    pub(super) fn parts(&self) -> usize {
        match self {
            Self::Multipart(reader) => reader.parts(),
            Self::Json(reader) => reader.parts(),
            Self::Suspect(reader) => reader.parts(),
        }
    }
}

/// A media type with its parameters.
#[derive(Debug)]
pub(super) struct Media {
    /// In lower case.
    pub(super) essence: String,
    /// Names in lower case.
    parameters: Vec<(String, String)>,
}

impl Media {
    /// Reads what every server reads alike: no escapes in quotes, no comments, and one boundary, wherever
    /// a server looks for it.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        if boundaries(text) > 1 {
            return unreadable("has a type with two boundaries");
        }
        let mut rest = text;
        let essence = rest.split(';').next().unwrap_or_default();
        rest = rest.get(essence.len()..).unwrap_or_default();
        let mut parameters = Vec::new();
        while let Some(parameter) = rest.strip_prefix(';') {
            let Some((name, value)) = parameter.split_once('=') else {
                if parameter.trim().is_empty() {
                    break;
                }
                return unreadable("has a type that is no media type");
            };
            let name = name.trim().to_ascii_lowercase();
            let (value, behind) = match value.strip_prefix('"') {
                Some(quoted) => quoted
                    .split_once('"')
                    .map_or(("\\", ""), |(value, behind)| (value, behind.trim_start())),
                None => {
                    let end = value.find(';').unwrap_or(value.len());
                    let (value, behind) = value.split_at(end);
                    let value = value.trim_end();
                    let is_token = |byte: u8| {
                        byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
                    };
                    (if value.bytes().all(is_token) { value } else { "\\" }, behind)
                }
            };
            let is_plain =
                !value.contains(['"', '\\', '\r', '\n']) && !name.contains(['"', ' ', ';', '*']);
            if !is_plain || !behind.is_empty() && !behind.starts_with(';') {
                return unreadable("has a type that is no media type");
            }
            parameters.push((name, value.to_owned()));
            rest = behind;
        }
        Ok(Self { essence: essence.trim().to_ascii_lowercase(), parameters })
    }

    /// UTF-8, and what is a part of it.
    pub(super) fn check_charset(&self) -> Result<(), Refusal> {
        let is_known = |charset: &str| {
            ["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known))
        };
        match self.parameter("charset")? {
            Some(charset) if !is_known(charset) => {
                unreadable(format!("is in the character set `{charset}`, not UTF-8"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn parameter(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let mut values = self.parameters.iter().filter(|(given, _)| given == name);
        match (values.next(), values.next()) {
            (_, Some(_)) => unreadable(format!("has a type with two values of `{name}`")),
            (found, None) => Ok(found.map(|(_, value)| value.as_str())),
        }
    }
}

/// How many boundaries a server finds that looks for `boundary=` in the text alone.
fn boundaries(text: &str) -> usize {
    let text = text.to_ascii_lowercase();
    text.split("boundary")
        .skip(1)
        .filter(|behind| behind.trim_start().starts_with(['=', '*']))
        .count()
}

/// Whether the lines of a text are what they seem if it is in the character sets that this type names, wherever
/// in it a server finds them.
pub(super) fn is_like_ascii(content_type: &[u8]) -> bool {
    let text = content_type.to_ascii_lowercase();
    // Java takes `charſet` for `charset`, and trims control characters.
    let is_plain = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~');
    text.iter().all(is_plain)
        && memmem::find_iter(&text, b"charset").all(|at| {
            let value = text.get(at + b"charset".len()..).unwrap_or_default().trim_ascii_start();
            let Some(value) = value.strip_prefix(b"=") else { return false };
            let value = value.trim_ascii_start();
            let value = value.strip_prefix(b"\"").unwrap_or(value);
            let end =
                value.iter().position(|byte| b" \t\";,".contains(byte)).unwrap_or(value.len());
            is_known(value.get(..end).unwrap_or_default())
        })
}

/// Whether bytes of ASCII are in this character set what they are in ASCII.
fn is_known(charset: &[u8]) -> bool {
    let is_numbered = |family: &&str| {
        charset.strip_prefix(family.as_bytes()).is_some_and(|number| {
            matches!(number.len(), 1 | 2) && number.iter().all(u8::is_ascii_digit)
        })
    };
    LIKE_ASCII.iter().any(|known| charset == known.as_bytes())
        || ["iso-8859-", "windows-125"].iter().any(is_numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_they_seem_in_some_character_sets_only() {
        for known in [
            "text/plain",
            "text/plain; charset=UTF-8",
            "text/plain; charset = \"utf-8\"; x=y",
            "text/plain;charset=ISO-8859-15",
            "text/plain;charset=windows-1252",
        ] {
            assert!(is_like_ascii(known.as_bytes()), "{known}");
        }
        for other in [
            "text/plain; charset=ISO-2022-JP",
            "text/plain; charset=utf-16",
            "text/plain; charset=utf-7",
            "text/plain; charset=utf-8; Charset=Cp037",
            "text/plain; charset*=utf-8''x",
            "text/plain; charset=",
            "text/plain; charset=utf-8-x",
            "text/plain; x=charset",
            "text/plain; char\u{17f}et=ISO-2022-JP",
            "text/plain;\u{b}charset=utf-8",
            "text/plain; charset\u{1b}(B=utf-8",
            "text/plain; charset=windows-125",
            "text/plain; charset=iso-8859-",
        ] {
            assert!(!is_like_ascii(other.as_bytes()), "{other}");
        }
    }
}
