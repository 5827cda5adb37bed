//! A body on its way through: decompressed if it has to be, and its links rewritten, chunk by chunk.

use super::json::JsonRewriter;
use super::origin::OriginMap;
use super::xml::XmlRewriter;
use flate2::write::MultiGzDecoder;
use http::{HeaderMap, header::CONTENT_TYPE};
use std::io::{self, Write};
use std::sync::Arc;

/// How much compressed data is inflated at once; a thousand times as much can come out.
const SLICE: usize = 2048;
/// The most that one chunk of an upstream may inflate to: more is no answer but an attack.
const MOST_OUTPUT: usize = 16 << 20;

/// What is done to a body.
pub(crate) struct Body {
    is_gzip: bool,
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
        Self { is_gzip, decoder: None, rewriter }
    }

    /// The output for one more chunk of input, and for the end.
    ///
    /// # Errors
    /// The compressed data is broken, ends too early, or grows beyond all measure.
    pub(super) fn push(&mut self, input: &[u8], is_end: bool) -> io::Result<Vec<u8>> {
        let mut output = Vec::with_capacity(input.len() + 64);
        if self.is_gzip {
            // In slices, so that what one of them inflates to stays small.
            for slice in input.chunks(SLICE) {
                let plain = self.inflate(slice)?;
                self.rewrite(&plain, &mut output);
                if output.len() > MOST_OUTPUT {
                    return Err(io::Error::other("the compressed data inflates too much"));
                }
            }
            if let Some(mut decoder) = self.decoder.take_if(|_| is_end) {
                decoder.try_finish()?;
                self.rewrite(decoder.get_ref(), &mut output);
            }
        } else {
            self.rewrite(input, &mut output);
        }
        if is_end {
            match &mut self.rewriter {
                Rewriter::None => {}
                Rewriter::Json(json) => json.finish(&mut output),
                Rewriter::Xml(xml) => xml.finish(&mut output),
            }
        }
        Ok(output)
    }

    /// The decoder begins with the first byte: a body that has none is empty, not broken.
    fn inflate(&mut self, input: &[u8]) -> io::Result<Vec<u8>> {
        let decoder = self.decoder.get_or_insert_with(|| MultiGzDecoder::new(Vec::new()));
        decoder.write_all(input)?;
        // What there is goes on now: the rest may be long in coming.
        decoder.flush()?;
        Ok(std::mem::take(decoder.get_mut()))
    }

    fn rewrite(&mut self, input: &[u8], output: &mut Vec<u8>) {
        match &mut self.rewriter {
            Rewriter::None => output.extend_from_slice(input),
            Rewriter::Json(json) => json.push(input, output),
            Rewriter::Xml(xml) => xml.push(input, output),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    #[test]
    fn what_a_flush_brings_goes_on_at_once() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"{\"first\":1,").unwrap();
        encoder.flush().unwrap();
        let first = std::mem::take(encoder.get_mut());
        encoder.write_all(b"\"second\":2}").unwrap();
        let rest = encoder.finish().unwrap();
        let mut body = Body::new(true, Some(Format::Json), &Arc::default());
        assert_eq!(body.push(&first, false).unwrap(), b"{\"first\":1,");
        assert_eq!(body.push(&rest, true).unwrap(), b"\"second\":2}");
    }

    #[test]
    fn a_body_that_ends_too_early_is_an_error_and_one_that_never_begins_is_empty() {
        let gzip = |is_gzip| Body::new(is_gzip, None, &Arc::default());
        assert_eq!(gzip(true).push(b"", true).unwrap(), b"");
        assert!(gzip(true).push(&[0x1f, 0x8b], true).is_err());
        assert!(gzip(true).push(b"no gzip", true).is_err());
        assert_eq!(gzip(false).push(b"plain", true).unwrap(), b"plain");
    }

    #[test]
    fn json_and_xml_are_known_by_their_media_types() {
        let of = |text: &'static str| {
            let value = http::HeaderValue::from_static(text);
            Format::of(&HeaderMap::from_iter([(CONTENT_TYPE, value)]))
        };
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
