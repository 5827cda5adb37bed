//! Rewrites the sidecar's URLs in a multipart `$batch` request (OData 4.01 part 1, section 11.7.7)
//! while it streams through. Pure.
//!
//! Clients built on .NET write absolute request lines by default.

use super::format::{Format, Rewriter};
use super::head::{
    name_of, split_end, split_message, value_of, with_length, with_value, without_length,
};
use super::header;
use super::multipart::{Beginning, Messages, Multipart};
use super::origin::OriginMap;
use std::sync::Arc;

/// What becomes of the URLs in requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Back {
    /// Our origin becomes the upstream's.
    pub(super) urls: Arc<OriginMap>,
    /// Our `Host`, and the upstream's.
    pub(super) host: (String, String),
}

/// Rewrites one multipart batch.
pub(super) type BatchRewriter = Multipart<Back>;

impl Messages for Back {
    fn whole(&self, header: &[u8], request: &[u8], _is_delimited: bool) -> Option<(Vec<u8>, u64)> {
        let (lead, head, rest) = split_message(request);
        let (body, end) = split_end(rest);
        let (new_body, links) = self.body(head, body).unzip();
        let (mut changed, urls) = self.head(head);
        let count = urls + links.unwrap_or_default();
        if count == 0 {
            return None;
        }
        let new_body = new_body.as_deref().unwrap_or(body);
        changed = with_length(&changed, body.len(), new_body.len());
        changed.extend_from_slice(new_body);
        let mut part = with_length(header, head.len() + body.len(), changed.len());
        for piece in [lead, &changed, end] {
            part.extend_from_slice(piece);
        }
        Some((part, count))
    }

    fn beginning(&self, header: &[u8], request: &[u8]) -> Option<Beginning> {
        let (lead, head, body) = split_message(request);
        let (new_head, count) = self.head(head);
        let (header, new_head, rewriter) = match format(head) {
            Some(format) => {
                let rewriter = Rewriter::new(Some(format), &self.urls);
                (without_length(header), without_length(&new_head), rewriter)
            }
            None => (with_length(header, head.len(), new_head.len()), new_head, Rewriter::None),
        };
        let head = [&header, lead, &new_head].concat();
        Some(Beginning { head, count, body: body.to_vec(), rewriter })
    }
}

impl Back {
    /// The header of a request, and how many URLs changed in it.
    fn head(&self, head: &[u8]) -> (Vec<u8>, u64) {
        let (mut changed, mut count) = (Vec::with_capacity(head.len()), 0);
        for (index, line) in head.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let new_line = match name_of(line).as_str() {
                _ if index == 0 => self.request_line(line),
                "if-match" | "if-none-match" => restored(line),
                "host" => self.host_line(line),
                _ => None,
            };
            count += u64::from(new_line.is_some());
            changed.extend(new_line.unwrap_or_else(|| line.to_vec()));
        }
        (changed, count)
    }

    /// The body of a request in a batch, if it changes, and how many URLs did.
    fn body(&self, head: &[u8], body: &[u8]) -> Option<(Vec<u8>, u64)> {
        let mut rewriter = Rewriter::new(Some(format(head)?), &self.urls);
        let mut output = Vec::with_capacity(body.len() + 64);
        rewriter.push(body, &mut output);
        rewriter.finish(&mut output);
        let count = rewriter.rewritten();
        (count > 0).then_some((output, count))
    }

    /// `GET http://127.0.0.1:8080/... HTTP/1.1`
    fn request_line(&self, line: &[u8]) -> Option<Vec<u8>> {
        let text = str::from_utf8(line).ok()?;
        let (method, rest) = text.split_once(' ')?;
        let (target, version) = rest.split_once(' ')?;
        let theirs = self.urls.rewrite(target)?;
        Some(format!("{method} {theirs} {version}").into_bytes())
    }

    fn host_line(&self, line: &[u8]) -> Option<Vec<u8>> {
        let (ours, theirs) = &self.host;
        let (_, value) = str::from_utf8(line).ok()?.split_once(':')?;
        value.trim().eq_ignore_ascii_case(ours).then(|| with_value(line, theirs)).flatten()
    }
}

/// The format of a request's body, if there may be links in it.
fn format(head: &[u8]) -> Option<Format> {
    if value_of(head, "content-encoding").is_some() {
        return None;
    }
    value_of(head, "content-type").and_then(|kind| Format::named(&kind))
}

/// A line of entity tags, if some of them were marked here.
fn restored(line: &[u8]) -> Option<Vec<u8>> {
    let (_, tags) = str::from_utf8(line).ok()?.split_once(':')?;
    let restored = header::strengthened(tags.trim());
    (restored != tags.trim()).then(|| with_value(line, &restored)).flatten()
}

#[cfg(test)]
mod tests;
