//! The readers of batches, whatever route they take. Pure.

use super::json::JsonReader;
use super::multipart::MultipartReader;
use super::suspect::SuspectReader;
use crate::proxy::route::{self, BATCH};
use http::{HeaderMap, HeaderValue, Method};

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
        if text.to_ascii_lowercase().matches("boundary").count() > 1 {
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
