//! Requests: the sidecar's URLs in headers and bodies become the upstream's.

use super::format::{Format, FormatRewriter};
use super::header;
use super::json::JsonRewriter;
use super::multipart_batch_request::BatchRequestRewriter;
use super::plan::LinkPlan;
use super::rewrite::Rewrite;
use crate::profile::Links;
use crate::proxy::route;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, RANGE};
use pingora::http::RequestHeader;

/// Rewrites the body of one request.
#[derive(Debug)]
pub(crate) enum RequestRewriter {
    Body(FormatRewriter),
    /// A multipart `$batch`.
    Batch(Box<BatchRequestRewriter>),
}

impl RequestRewriter {
    /// A rewriter that changes nothing.
    pub(in crate::proxy) const fn none() -> Self {
        Self::Body(FormatRewriter::None)
    }

    /// Takes the next bytes and appends what is decided to `output`.
    pub(in crate::proxy) fn push(&mut self, input: &[u8], output: &mut Vec<u8>) {
        match self {
            Self::Body(body) => body.push(input, output),
            Self::Batch(batch) => batch.push(input, output),
        }
    }

    /// Ends the body: appends what is held back to `output`.
    pub(in crate::proxy) fn finish(&mut self, output: &mut Vec<u8>) {
        match self {
            Self::Body(body) => body.finish(output),
            Self::Batch(batch) => batch.finish(output),
        }
    }

    /// How many URLs were changed so far.
    pub(in crate::proxy) fn rewritten(&self) -> u64 {
        match self {
            Self::Body(body) => body.rewritten(),
            Self::Batch(batch) => batch.rewritten(),
        }
    }

    /// A rewriter of JSON, for tests of what is done with one.
    #[cfg(test)]
    pub(in crate::proxy) fn json(rewriter: JsonRewriter) -> Self {
        Self::Body(FormatRewriter::json(rewriter))
    }
}

impl LinkPlan {
    /// A rewriter for the body of this request, if the body can hold a URL of the sidecar.
    pub(in crate::proxy) fn request_rewriter(
        &self,
        request: &RequestHeader,
    ) -> Option<RequestRewriter> {
        if self.formats == Links::Off || request.headers.contains_key(CONTENT_ENCODING) {
            return None;
        }
        let content_type = request.headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let is_batch = route::ends_with(request.raw_path(), route::BATCH);
        let to_upstream = &self.maps(&request.headers).to_upstream;
        if is_batch
            && let Some(batch) = BatchRequestRewriter::new(content_type, to_upstream.clone())
        {
            return Some(RequestRewriter::Batch(Box::new(batch)));
        }
        let format = Format::named(content_type).filter(|format| format.is_in(self.formats))?;
        if is_batch && format == Format::Json {
            let batch = JsonRewriter::for_batch_request(to_upstream.urls.clone());
            return Some(RequestRewriter::Body(FormatRewriter::json(batch)));
        }
        Some(RequestRewriter::Body(FormatRewriter::new(Some(format), &to_upstream.urls)))
    }

    /// Restores the upstream's own URLs and entity tags in a request's header, and asks for an
    /// encoding that can be rewritten: gzip, which saves bandwidth. `caller` is the request as it
    /// came.
    pub(in crate::proxy) fn rewrite_request_header(
        &self,
        caller: &RequestHeader,
        request: &mut RequestHeader,
    ) -> pingora::Result<()> {
        header::restore_tags(request);
        if header::has_urls(request) {
            header::rewrite_request(request, &self.maps(&caller.headers).to_upstream.urls);
        }
        // A range counts the upstream's bytes: it passes unchanged, both ways.
        if self.formats != Links::Off && !request.headers.contains_key(RANGE) {
            request.insert_header(ACCEPT_ENCODING, "gzip")?;
        }
        Ok(())
    }
}
