//! The formats whose URLs are rewritten: JSON and XML.

use super::json::JsonRewriter;
use super::origin::OriginMap;
use super::rewrite::Rewrite;
use super::xml::XmlRewriter;
use crate::profile::Links;
use std::sync::Arc;

/// A format whose links are known.
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

    /// The format of a media type, with the structured suffixes `+json` and `+xml` (RFC 6839).
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

/// Rewrites the links of one body by its format.
#[derive(Debug, Default)]
pub(crate) enum FormatRewriter {
    /// The format is not known: the body passes.
    #[default]
    None,
    Json(Box<JsonRewriter>),
    Xml(Box<XmlRewriter>),
}

impl FormatRewriter {
    pub(super) fn new(format: Option<Format>, map: &Arc<OriginMap>) -> Self {
        match format {
            None => Self::None,
            Some(Format::Json) => Self::json(JsonRewriter::new(map.clone())),
            Some(Format::Xml) => Self::Xml(Box::new(XmlRewriter::new(map.clone()))),
        }
    }

    pub(super) fn json(rewriter: JsonRewriter) -> Self {
        Self::Json(Box::new(rewriter))
    }
}

impl Rewrite for FormatRewriter {
    fn push(&mut self, input: &[u8], output: &mut Vec<u8>) {
        match self {
            Self::None => output.extend_from_slice(input),
            Self::Json(json) => json.push(input, output),
            Self::Xml(xml) => xml.push(input, output),
        }
    }

    fn finish(&mut self, output: &mut Vec<u8>) {
        match self {
            Self::None => {}
            Self::Json(json) => json.finish(output),
            Self::Xml(xml) => xml.finish(output),
        }
    }

    fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    fn held(&self) -> usize {
        0
    }

    fn rewritten(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Json(json) => json.rewritten(),
            Self::Xml(xml) => xml.rewritten(),
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
