//! Responses: the tenant's URLs in headers and bodies become the sidecar's.

use super::body::BodyRewriter;
use super::header;
use super::multipart_batch_response::LinkRewriter;
use super::plan::LinkPlan;
use super::rewrite::Rewrite;
use crate::profile::Links;
use crate::proxy::route;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING,
};
use http::{HeaderMap, Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};

impl LinkPlan {
    /// Rewrites a response's header. Returns how many links were changed there, and a rewriter for
    /// the body if the body changes.
    pub(in crate::proxy) fn rewrite_response_header(
        &self,
        request: &RequestHeader,
        response: &mut ResponseHeader,
    ) -> pingora::Result<(u64, Option<BodyRewriter>)> {
        let map = self.maps(&request.headers).to_caller.clone();
        let count = header::rewrite_response(response, &map);
        let coding = Coding::of(&response.headers);
        let (is_gzip, is_readable) = (coding == Coding::Gzip, coding != Coding::Other);
        let is_batch = route::ends_with(request.raw_path(), route::BATCH);
        let rewriter = LinkRewriter::of_response(&response.headers, is_batch, self.formats, &map);
        let rewriter = if is_readable { rewriter } else { LinkRewriter::default() };
        // The caller did not ask for gzip, only bearerd did: the caller gets a plain body.
        let must_decode = is_gzip && !accepts_gzip(&request.headers);
        let changes = !rewriter.is_none() || must_decode;
        let passes = self.formats == Links::Off
            || response.headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0")
            || matches!(
                response.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::PARTIAL_CONTENT
            );
        // A 304 or a HEAD response about a changed body carries the tag of that body.
        let is_about_rewritten = response.status == StatusCode::NOT_MODIFIED
            && header::asks_about_rewritten(&request.headers);
        if (passes || !changes) && !is_about_rewritten {
            return Ok((count, None));
        }
        if is_gzip {
            response.remove_header(&CONTENT_ENCODING);
        }
        // Headers that describe the bytes are wrong once the bytes change.
        response.remove_header(&CONTENT_LENGTH);
        response.remove_header(&ACCEPT_RANGES);
        for name in header::DIGESTS {
            response.remove_header(name);
        }
        if passes || request.method == Method::HEAD {
            header::weaken_tag(response);
            return Ok((count, None));
        }
        response.set_version(Version::HTTP_11);
        response.insert_header(TRANSFER_ENCODING, "chunked")?;
        header::weaken_tag(response);
        Ok((count, Some(BodyRewriter::new(is_gzip, rewriter, map.growth()))))
    }
}

/// The compression of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Plain,
    Gzip,
    Other,
}

impl Coding {
    fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(CONTENT_ENCODING).iter();
        let codings = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        codings.fold(Self::Plain, |coding, name| {
            // `x-gzip` is the old name of gzip (RFC 9110 section 8.4.1.3).
            match (coding, &*name.trim_ascii().to_ascii_lowercase()) {
                (coding, b"" | b"identity") => coding,
                (Self::Plain, b"gzip" | b"x-gzip") => Self::Gzip,
                _ => Self::Other,
            }
        })
    }
}

fn accepts_gzip(request: &HeaderMap) -> bool {
    let mut accepts_any = false;
    for value in request.get_all(ACCEPT_ENCODING) {
        let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
        for coding in text.split(',') {
            let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
            let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
            let is_accepted = weight.contains(|digit: char| ('1'..='9').contains(&digit));
            match name.trim() {
                "gzip" | "x-gzip" => return is_accepted,
                "*" => accepts_any = is_accepted,
                _ => {}
            }
        }
    }
    accepts_any
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_caller_that_refuses_gzip_does_not_accept_it() {
        let accepts = |text: &'static str| {
            let value = HeaderValue::from_static(text);
            accepts_gzip(&HeaderMap::from_iter([(ACCEPT_ENCODING, value)]))
        };
        assert!(accepts("gzip") && accepts("br, GZIP;q=0.5") && accepts("*"));
        assert!(!accepts("gzip;q=0, *") && accepts("identity, *;q=0.1, br;q=0"));
        assert!(!accepts("br") && !accepts("gzip;q=0") && !accepts("identity"));
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn gzip_is_known_by_each_of_its_names_and_only_by_itself() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            Coding::of(&headers)
        };
        for gzip in [&["gzip"][..], &["X-GZip"], &["identity, gzip"], &["", "x-gzip "]] {
            assert_eq!(of(gzip), Coding::Gzip, "{gzip:?}");
        }
        assert!([&[][..], &[""], &["identity"]].iter().all(|plain| of(plain) == Coding::Plain));
        for other in [&["br"][..], &["gzip, gzip"], &["gzip", "x-gzip"], &["gzip, br"], &["x gzip"]]
        {
            assert_eq!(of(other), Coding::Other, "{other:?}");
        }
    }
}
