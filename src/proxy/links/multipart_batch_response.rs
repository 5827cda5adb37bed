//! Responses that hold other responses: the parts of a multipart `$batch` response, and
//! `application/http`, which reports how an asynchronous request ended (OData 4.01 part 1, sections
//! 11.6 and 11.7). Pure.

use super::embedded_header::{name_of, value_of, with_value};
use super::format::{Format, FormatRewriter};
use super::header_kind::HeaderKind;
use super::header_value::{self, MOST_GROWN};
use super::json::JsonRewriter;
use super::multipart::{Messages, Multipart, NewMessage};
use super::origin::OriginMap;
use super::rewrite::Rewrite;
use crate::profile::Links;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use std::sync::Arc;

/// The deepest nesting: a batch response holds those to change sets, which hold no others.
const DEEPEST: usize = 4;

/// Rewrites one response that holds others.
pub(super) type BatchResponseRewriter = Multipart<EmbeddedResponses>;

/// What is done to the responses within another.
#[derive(Clone, Debug)]
pub(crate) struct EmbeddedResponses {
    map: Arc<OriginMap>,
    formats: Links,
    /// How many responses these are nested in.
    depth: usize,
}

impl BatchResponseRewriter {
    /// A rewriter for a response with this `Content-Type`. `None` if it holds no responses.
    fn of_response(content_type: &str, formats: Links, map: &Arc<OriginMap>) -> Option<Self> {
        EmbeddedResponses { map: map.clone(), formats, depth: 0 }.within(content_type)
    }
}

impl Messages for EmbeddedResponses {
    type Body = LinkRewriter;

    fn begin_message(&self, head: &[u8]) -> NewMessage<LinkRewriter> {
        let rewriter = self.rewriter(head);
        let (head, count) = self.head(head, rewriter.is_none());
        NewMessage { head, count, rewriter }
    }
}

impl EmbeddedResponses {
    /// A rewriter for a response with this `Content-Type`, at this depth.
    fn within(self, content_type: &str) -> Option<BatchResponseRewriter> {
        if self.depth >= DEEPEST {
            return None;
        }
        Multipart::single(content_type, self.clone()).or_else(|| Multipart::new(content_type, self))
    }

    /// The header of a response, if it changes, and how many links changed in it.
    fn head(&self, head: &[u8], keeps_body: bool) -> (Option<Vec<u8>>, u64) {
        let (mut changed, mut count, mut has_changed) = (Vec::with_capacity(head.len()), 0, false);
        let mut room = MOST_GROWN;
        for line in head.split_inclusive(|byte| *byte == b'\n') {
            let kind = HeaderKind::of(name_of(line).as_bytes());
            let new_line =
                kind.filter(|kind| *kind != HeaderKind::Tag || !keeps_body).and_then(|kind| {
                    let (_, value) = str::from_utf8(line).ok()?.split_once(':')?;
                    let ours = header_value::rewrite(kind, value.trim(), &self.map, &mut room)?;
                    let ours = with_value(line, &ours)?;
                    count += u64::from(kind != HeaderKind::Tag);
                    Some(ours)
                });
            has_changed |= new_line.is_some();
            changed.extend(new_line.unwrap_or_else(|| line.to_vec()));
        }
        (has_changed.then_some(changed), count)
    }

    /// A rewriter for the body of a response with this header.
    fn rewriter(&self, head: &[u8]) -> LinkRewriter {
        let kind = value_of(head, "content-type").unwrap_or_default();
        let coding = value_of(head, "content-encoding").unwrap_or_default();
        if !coding.is_empty() && !coding.eq_ignore_ascii_case("identity") {
            return LinkRewriter::default();
        }
        let within = Self { depth: self.depth + 1, ..self.clone() };
        if let Some(batch) = within.within(&kind) {
            return LinkRewriter::Batch(Box::new(batch));
        }
        let format = Format::named(&kind).filter(|format| format.is_in(self.formats));
        LinkRewriter::Body(FormatRewriter::new(format, &self.map))
    }
}

/// Rewrites the links of one response's body.
#[derive(Debug)]
pub(crate) enum LinkRewriter {
    Body(FormatRewriter),
    /// The body holds other responses.
    Batch(Box<BatchResponseRewriter>),
}

impl LinkRewriter {
    /// A rewriter for the body of a response with these headers, on a route where links are
    /// rewritten in these formats.
    pub(super) fn of_response(
        headers: &HeaderMap,
        is_batch: bool,
        formats: Links,
        map: &Arc<OriginMap>,
    ) -> Self {
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.filter(|_| formats != Links::Off).unwrap_or_default();
        match Format::named(content_type).filter(|format| format.is_in(formats)) {
            Some(Format::Json) if is_batch => {
                Self::Body(FormatRewriter::json(JsonRewriter::for_batch_response(map.clone())))
            }
            Some(format) => Self::Body(FormatRewriter::new(Some(format), map)),
            None => BatchResponseRewriter::of_response(content_type, formats, map)
                .map_or_else(Self::default, |batch| Self::Batch(Box::new(batch))),
        }
    }
}

impl Default for LinkRewriter {
    fn default() -> Self {
        Self::Body(FormatRewriter::None)
    }
}

impl Rewrite for LinkRewriter {
    fn push(&mut self, input: &[u8], output: &mut Vec<u8>) {
        match self {
            Self::Body(body) => body.push(input, output),
            Self::Batch(batch) => batch.push(input, output),
        }
    }

    fn finish(&mut self, output: &mut Vec<u8>) {
        match self {
            Self::Body(body) => body.finish(output),
            Self::Batch(batch) => batch.finish(output),
        }
    }

    fn is_none(&self) -> bool {
        matches!(self, Self::Body(body) if body.is_none())
    }

    fn held(&self) -> usize {
        match self {
            Self::Body(body) => body.held(),
            Self::Batch(batch) => batch.held(),
        }
    }

    fn rewritten(&self) -> u64 {
        match self {
            Self::Body(body) => body.rewritten(),
            Self::Batch(batch) => batch.rewritten(),
        }
    }
}

#[cfg(test)]
mod tests;
