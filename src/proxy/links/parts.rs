//! Rewrites the tenant's links in answers that hold answers: the parts of a multipart `$batch` answer, and
//! `application/http`, which reports how an asynchronous request ended (OData 4.01 part 1, sections 11.6
//! and 11.7). Pure.

use super::format::{Format, Rewriter};
use super::head::{name_of, value_of, with_value};
use super::multipart::{Begun, Messages, Multipart};
use super::origin::OriginMap;
use super::value::{Kind, MOST_GROWN};
use crate::profile::Links;
use std::sync::Arc;

/// A batch's answer holds those to change sets, which hold no more of their kind.
const DEEPEST: usize = 4;

/// Rewrites one answer that holds others.
pub(super) type PartsRewriter = Multipart<Answers>;

/// What is done to the answers within.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    map: Arc<OriginMap>,
    formats: Links,
    /// How many answers these are within.
    depth: usize,
}

impl PartsRewriter {
    /// A rewriter for an answer whose `Content-Type` is this. `None`: it holds no answers.
    pub(super) fn of_answer(
        content_type: &str,
        formats: Links,
        map: &Arc<OriginMap>,
    ) -> Option<Self> {
        Answers { map: map.clone(), formats, depth: 0 }.within(content_type)
    }
}

impl Messages for Answers {
    fn begin(&self, head: &[u8]) -> Begun {
        let rewriter = self.rewriter(head);
        let (head, count) = self.head(head, rewriter.is_none());
        Begun { head, count, rewriter }
    }
}

impl Answers {
    /// A rewriter for such an answer within others.
    fn within(self, content_type: &str) -> Option<PartsRewriter> {
        if self.depth >= DEEPEST {
            return None;
        }
        Multipart::single(content_type, self.clone()).or_else(|| Multipart::new(content_type, self))
    }

    /// The header of an answer, if it changes, and how many links in it did.
    fn head(&self, head: &[u8], keeps_body: bool) -> (Option<Vec<u8>>, u64) {
        let (mut changed, mut count, mut has_changed) = (Vec::with_capacity(head.len()), 0, false);
        let mut room = MOST_GROWN;
        for line in head.split_inclusive(|byte| *byte == b'\n') {
            let kind = Kind::of(name_of(line).as_bytes());
            let new_line = kind.filter(|kind| *kind != Kind::Tag || !keeps_body).and_then(|kind| {
                let (_, value) = str::from_utf8(line).ok()?.split_once(':')?;
                let ours = kind.rewritten(value.trim(), &self.map, &mut room)?;
                let ours = with_value(line, &ours)?;
                count += u64::from(kind != Kind::Tag);
                Some(ours)
            });
            has_changed |= new_line.is_some();
            changed.extend(new_line.unwrap_or_else(|| line.to_vec()));
        }
        (has_changed.then_some(changed), count)
    }

    /// Who rewrites the body of an answer with this header.
    fn rewriter(&self, head: &[u8]) -> Rewriter {
        let kind = value_of(head, "content-type").unwrap_or_default();
        let coding = value_of(head, "content-encoding").unwrap_or_default();
        if !coding.is_empty() && !coding.eq_ignore_ascii_case("identity") {
            return Rewriter::None;
        }
        let within = Self { depth: self.depth + 1, ..self.clone() };
        if let Some(parts) = within.within(&kind) {
            return Rewriter::Parts(Box::new(parts));
        }
        let format = Format::named(&kind).filter(|format| format.is_in(self.formats));
        Rewriter::new(format, &self.map)
    }
}

#[cfg(test)]
mod tests;
