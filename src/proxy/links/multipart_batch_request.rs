//! Multipart `$batch` requests (OData 4.01 part 1, section 11.7.7): the sidecar's URLs become the
//! upstream's while the batch streams through. Pure.
//!
//! Callers built on .NET write absolute request lines by default.

use super::embedded_header::{name_of, value_of, with_value};
use super::entity_tag::strengthened;
use super::format::{Format, FormatRewriter};
use super::multipart::{Messages, Multipart, NewMessage};
use super::origin::OriginMap;
use std::sync::Arc;

/// What URLs in requests become.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestUrls {
    /// Maps the sidecar's URLs to the upstream's.
    pub(super) urls: Arc<OriginMap>,
    /// The sidecar's `Host`, and the upstream's.
    pub(super) host: (String, String),
}

/// Rewrites one multipart batch of requests.
pub(super) type BatchRequestRewriter = Multipart<RequestUrls>;

impl Messages for RequestUrls {
    type Body = FormatRewriter;

    fn begin_message(&self, head: &[u8]) -> NewMessage<FormatRewriter> {
        let (changed, count) = self.rewrite_message_head(head);
        let rewriter = FormatRewriter::new(format(head), &self.urls);
        NewMessage { head: (count > 0).then_some(changed), count, rewriter }
    }
}

impl RequestUrls {
    /// Returns the header with the URLs of the upstream, and how many URLs changed in it.
    fn rewrite_message_head(&self, head: &[u8]) -> (Vec<u8>, u64) {
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

    /// Rewrites `GET http://127.0.0.1:8080/... HTTP/1.1`.
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

/// The format of a request's body, if it may hold links.
fn format(head: &[u8]) -> Option<Format> {
    if value_of(head, "content-encoding").is_some() {
        return None;
    }
    value_of(head, "content-type").and_then(|kind| Format::named(&kind))
}

/// The restored line of entity tags, if some were made weak by bearerd.
fn restored(line: &[u8]) -> Option<Vec<u8>> {
    let (_, tags) = str::from_utf8(line).ok()?.split_once(':')?;
    let restored = strengthened(tags.trim());
    (restored != tags.trim()).then(|| with_value(line, &restored)).flatten()
}

#[cfg(test)]
mod tests;
