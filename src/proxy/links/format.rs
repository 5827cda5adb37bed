//! The formats whose links are known, and who rewrites them.

use super::batch::BatchRewriter;
use super::json::JsonRewriter;
use super::origin::OriginMap;
use super::parts::PartsRewriter;
use super::xml::XmlRewriter;
use crate::profile::Links;
use http::{HeaderMap, header::CONTENT_TYPE};
use std::sync::Arc;

/// A format that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Xml,
}

impl Format {
    /// Whether links are rewritten in it.
    pub(super) fn is_in(self, formats: Links) -> bool {
        match formats {
            Links::Off => false,
            Links::Json => self == Self::Json,
            Links::JsonAndXml => true,
        }
    }

    /// The format of a media type: also of types such as `application/scim+json`.
    pub(super) fn named(media_type: &str) -> Option<Self> {
        let essence = media_type.split(';').next()?.trim().to_ascii_lowercase();
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

/// Rewrites the links of one body.
#[derive(Debug)]
pub(crate) enum Rewriter {
    /// Its format is not known: it passes.
    None,
    Json(Box<JsonRewriter>),
    Xml(Box<XmlRewriter>),
    Batch(Box<BatchRewriter>),
    Parts(Box<PartsRewriter>),
}

impl Rewriter {
    pub(super) fn new(format: Option<Format>, map: &Arc<OriginMap>) -> Self {
        match format {
            None => Self::None,
            Some(Format::Json) => Self::Json(Box::new(JsonRewriter::new(map.clone()))),
            Some(Format::Xml) => Self::Xml(Box::new(XmlRewriter::new(map.clone()))),
        }
    }

    /// For an answer with these headers, on a route where links are rewritten in these formats.
    pub(super) fn of_answer(
        headers: &HeaderMap,
        is_batch: bool,
        formats: Links,
        map: &Arc<OriginMap>,
    ) -> Self {
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.filter(|_| formats != Links::Off).unwrap_or_default();
        match Format::named(content_type).filter(|format| format.is_in(formats)) {
            Some(Format::Json) if is_batch => {
                Self::Json(Box::new(JsonRewriter::of_batch_answer(map.clone())))
            }
            Some(format) => Self::new(Some(format), map),
            None => PartsRewriter::of_answer(content_type, formats, map)
                .map_or(Self::None, |parts| Self::Parts(Box::new(parts))),
        }
    }

    /// Whether it changes nothing, whatever comes.
    pub(super) const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Takes the next bytes and appends what is decided to `output`.
    pub(in crate::proxy) fn push(&mut self, input: &[u8], output: &mut Vec<u8>) {
        match self {
            Self::None => output.extend_from_slice(input),
            Self::Json(json) => json.push(input, output),
            Self::Xml(xml) => xml.push(input, output),
            Self::Batch(batch) => batch.push(input, output),
            Self::Parts(parts) => parts.push(input, output),
        }
    }

    /// The body is over: what is held back is appended to `output`.
    pub(in crate::proxy) fn finish(&mut self, output: &mut Vec<u8>) {
        match self {
            Self::None => {}
            Self::Json(json) => json.finish(output),
            Self::Xml(xml) => xml.finish(output),
            Self::Batch(batch) => batch.finish(output),
            Self::Parts(parts) => parts.finish(output),
        }
    }

    /// How many bytes of parts it holds. What the others hold is not worth mentioning.
    pub(super) fn holds(&self) -> usize {
        match self {
            Self::None | Self::Json(_) | Self::Xml(_) => 0,
            Self::Batch(batch) => batch.holds(),
            Self::Parts(parts) => parts.holds(),
        }
    }

    /// How many links were changed so far.
    pub(in crate::proxy) fn rewritten(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Json(json) => json.rewritten(),
            Self::Xml(xml) => xml.rewritten(),
            Self::Batch(batch) => batch.rewritten(),
            Self::Parts(parts) => parts.rewritten(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_xml_are_known_by_their_media_types() {
        let of = Format::named;
        assert_eq!(of("application/json;odata.metadata=minimal"), Some(Format::Json));
        assert_eq!(of("Application/SCIM+JSON"), Some(Format::Json));
        assert_eq!(of("application/atom+xml;type=feed"), Some(Format::Xml));
        assert_eq!(of("text/xml"), Some(Format::Xml));
        assert_eq!(
            [of("text/csv"), of("text/html"), of("multipart/mixed; boundary=json")],
            [None; 3]
        );
    }
}
