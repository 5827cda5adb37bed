//! The reader of a batch, by the form of the batch. Pure.

use super::json::JsonReader;
use super::kind::BatchKind;
use super::media_type::MediaType;
use super::multipart::MultipartReader;
use super::part_request::CheckPart;
use super::possible_bulk::PossibleBulkReader;
use super::refusal::{BatchRefusal, unreadable};
use http::HeaderValue;

/// Reads one batch.
#[derive(Debug)]
pub(super) enum BatchReader {
    Multipart(MultipartReader),
    Json(JsonReader),
    PossibleBulk(PossibleBulkReader),
}

impl BatchReader {
    /// A reader for a body that is a batch.
    pub(super) fn of_batch(
        content_type: &HeaderValue,
        kind: BatchKind,
    ) -> Result<Self, BatchRefusal> {
        let media = media_type(content_type)?;
        if let Some(json) = json_reader(&media, kind) {
            return Ok(Self::Json(json));
        }
        match (media.essence.as_str(), kind) {
            ("multipart/mixed", BatchKind::OData) => {
                Ok(Self::Multipart(MultipartReader::new(&media)?))
            }
            _ => no_batch(content_type),
        }
    }

    /// A reader for a body that may be a SCIM batch, which only its content shows. `content_type`
    /// is the type of the batch, or why it can't be read.
    pub(super) fn of_possible_bulk(content_type: Result<HeaderValue, BatchRefusal>) -> Self {
        let strict = content_type.and_then(|content_type| {
            match json_reader(&media_type(&content_type)?, BatchKind::Scim) {
                Some(json) => Ok(json),
                None => no_batch(&content_type),
            }
        });
        Self::PossibleBulk(PossibleBulkReader::new(strict))
    }

    /// Takes the next bytes, and appends to `output` what is checked.
    pub(super) fn push(
        &mut self,
        input: &[u8],
        check: CheckPart<'_>,
        output: &mut Vec<u8>,
    ) -> Result<(), BatchRefusal> {
        match self {
            Self::Multipart(reader) => reader.push(input, check, output),
            Self::Json(reader) => reader.push(input, check, output),
            Self::PossibleBulk(reader) => reader.push(input, check, output),
        }
    }

    /// Ends the batch: appends the rest to `output`.
    pub(super) fn finish(
        &mut self,
        check: CheckPart<'_>,
        output: &mut Vec<u8>,
    ) -> Result<(), BatchRefusal> {
        match self {
            Self::Multipart(reader) => reader.finish(check, output),
            Self::Json(reader) => reader.finish(),
            Self::PossibleBulk(reader) => reader.finish(output),
        }
    }

    /// How many parts have begun.
    pub(super) fn parts(&self) -> usize {
        match self {
            Self::Multipart(reader) => reader.parts(),
            Self::Json(reader) => reader.parts(),
            Self::PossibleBulk(reader) => reader.parts(),
        }
    }
}

fn media_type(content_type: &HeaderValue) -> Result<MediaType, BatchRefusal> {
    let media = MediaType::parse(content_type.to_str().unwrap_or_default())?;
    media.check_charset()?;
    Ok(media)
}

fn json_reader(media: &MediaType, kind: BatchKind) -> Option<JsonReader> {
    let is_json = match media.essence.as_str() {
        "application/json" => true,
        "application/scim+json" => kind == BatchKind::Scim,
        _ => false,
    };
    is_json.then(|| JsonReader::new(kind))
}

fn no_batch<T>(content_type: &HeaderValue) -> Result<T, BatchRefusal> {
    let text = content_type.to_str().unwrap_or_default();
    unreadable(format!("has the type `{text}`, which is not a batch's"))
}
