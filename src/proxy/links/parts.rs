//! Rewrites the tenant's links in answers that hold answers: the parts of a multipart `$batch` answer, and
//! `application/http`, which reports how an asynchronous request ended (OData 4.01 part 1, sections 11.6
//! and 11.7). Pure.

use super::format::{Format, Rewriter};
use super::head::{
    name_of, split_end, split_message, value_of, with_length, with_value, without_length,
};
use super::multipart::{Beginning, Messages, Multipart};
use super::origin::OriginMap;
use super::value::Kind;
use crate::proxy::profile::Links;
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
    fn whole(&self, header: &[u8], answer: &[u8], is_delimited: bool) -> Option<(Vec<u8>, u64)> {
        let (lead, head, rest) = split_message(answer);
        let (body, end) = if is_delimited { split_end(rest) } else { (rest, &[][..]) };
        let mut rewriter = self.rewriter(head);
        let (new_head, mut count) = self.head(head, matches!(rewriter, Rewriter::None));
        let mut new_body = Vec::with_capacity(body.len() + 64);
        rewriter.push(body, &mut new_body);
        rewriter.finish(&mut new_body);
        count += rewriter.rewritten();
        if count == 0 && new_head.is_none() && new_body == body {
            return None;
        }
        let head_bytes = new_head.unwrap_or_else(|| head.to_vec());
        let mut changed = Vec::with_capacity(head_bytes.len() + new_body.len());
        changed.extend(with_length(&head_bytes, body.len(), new_body.len()));
        changed.append(&mut new_body);
        let before = head.len() + body.len();
        let mut part = with_length(header, before, changed.len());
        part.extend_from_slice(lead);
        part.append(&mut changed);
        part.extend_from_slice(end);
        Some((part, count))
    }

    fn beginning(&self, header: &[u8], answer: &[u8]) -> Option<Beginning> {
        let (lead, head, body) = split_message(answer);
        if !head.ends_with(b"\n\r\n") && !head.ends_with(b"\n\n") {
            return None;
        }
        let rewriter = self.rewriter(head);
        let keeps_length = matches!(rewriter, Rewriter::None);
        let (new_head, count) = self.head(head, keeps_length);
        let new_head = new_head.unwrap_or_else(|| head.to_vec());
        let new_head = if keeps_length { new_head } else { without_length(&new_head) };
        let head = [&without_length(header), lead, &new_head].concat();
        Some(Beginning { head, count, body: body.to_vec(), rewriter })
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
        for line in head.split_inclusive(|byte| *byte == b'\n') {
            let kind = Kind::of(name_of(line).as_bytes());
            let new_line = kind.filter(|kind| *kind != Kind::Tag || !keeps_body).and_then(|kind| {
                let (_, value) = str::from_utf8(line).ok()?.split_once(':')?;
                let ours = with_value(line, &kind.rewritten(value.trim(), &self.map)?)?;
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
