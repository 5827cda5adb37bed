//! A body on its way through: decompressed if it has to be, and its links rewritten, chunk by chunk.

use super::json::JsonRewriter;
use super::origin::OriginMap;
use super::xml::XmlRewriter;
use flate2::write::MultiGzDecoder;
use http::{HeaderMap, header::CONTENT_TYPE};
use std::io::{self, Write};
use std::sync::Arc;

/// What is done to a body.
pub(crate) struct Body {
    decoder: Option<MultiGzDecoder<Vec<u8>>>,
    rewriter: Rewriter,
}

enum Rewriter {
    None,
    Json(Box<JsonRewriter>),
    Xml(Box<XmlRewriter>),
}

/// A format that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Xml,
}

impl Format {
    /// The format of an answer, by its media type: also of types such as `application/scim+json`.
    pub(super) fn of(response: &HeaderMap) -> Option<Self> {
        let text = response.get(CONTENT_TYPE)?.to_str().ok()?;
        let essence = text.split(';').next()?.trim().to_ascii_lowercase();
        if essence == "application/json" || essence.ends_with("+json") {
            Some(Self::Json)
        } else if matches!(essence.as_str(), "application/xml" | "text/xml")
            || essence.ends_with("+xml")
        {
            Some(Self::Xml)
        } else {
            None
        }
    }
}

impl Body {
    pub(super) fn new(is_gzip: bool, format: Option<Format>, map: &Arc<OriginMap>) -> Self {
        let rewriter = match format {
            None => Rewriter::None,
            Some(Format::Json) => Rewriter::Json(Box::new(JsonRewriter::new(map.clone()))),
            Some(Format::Xml) => Rewriter::Xml(Box::new(XmlRewriter::new(map.clone()))),
        };
        Self { decoder: is_gzip.then(|| MultiGzDecoder::new(Vec::new())), rewriter }
    }

    /// The output for one more chunk of input, and for the end.
    ///
    /// # Errors
    /// The compressed data is broken or ends too early.
    pub(super) fn push(&mut self, input: &[u8], is_end: bool) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        let input = match &mut self.decoder {
            None => input,
            Some(decoder) => {
                decoder.write_all(input)?;
                if is_end {
                    decoder.try_finish()?;
                }
                std::mem::swap(decoder.get_mut(), &mut plain);
                plain.as_slice()
            }
        };
        let mut output = Vec::with_capacity(input.len() + 64);
        match &mut self.rewriter {
            Rewriter::None => output.extend_from_slice(input),
            Rewriter::Json(json) => {
                json.push(input, &mut output);
                if is_end {
                    json.finish(&mut output);
                }
            }
            Rewriter::Xml(xml) => {
                xml.push(input, &mut output);
                if is_end {
                    xml.finish(&mut output);
                }
            }
        }
        Ok(output)
    }

    /// How many links were changed so far.
    pub(super) fn rewritten(&self) -> u64 {
        match &self.rewriter {
            Rewriter::None => 0,
            Rewriter::Json(json) => json.rewritten(),
            Rewriter::Xml(xml) => xml.rewritten(),
        }
    }
}
