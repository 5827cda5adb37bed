//! An upstream that sends our token back, as debugging front doors do, does not get it to the caller:
//! the token is for the upstream alone. Pure.

use bytes::Bytes;
use http::HeaderValue;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use memchr::memmem;
use pingora::http::ResponseHeader;

/// What takes a token's place. In a body it is filled up to the token's length, so that the body's
/// length stays true.
const REMOVED: &str = "[token removed]";
const FILLER: u8 = b'*';
/// How much of a body is looked at: errors and echoes are short.
const LOOKED_AT: usize = 64 * 1024;
/// A token shorter than this is none of SAP's, and could stand in any text.
const SHORTEST: usize = 16;

/// Looks for one token in one answer.
pub(crate) struct Echo {
    token: HeaderValue,
    /// How many bytes of the body have gone by.
    seen: usize,
    /// The end of the last chunk, which may be the beginning of the token.
    held: Vec<u8>,
    removed: u64,
}

impl Echo {
    /// `authorization` is what was sent. `None`: there is nothing to look for.
    pub(crate) fn of(authorization: &HeaderValue) -> Option<Self> {
        let echo = Self { token: authorization.clone(), seen: 0, held: Vec::new(), removed: 0 };
        (echo.token().len() >= SHORTEST).then_some(echo)
    }

    fn token(&self) -> &[u8] {
        let value = self.token.as_bytes();
        value.strip_prefix(b"Bearer ").unwrap_or(value)
    }

    /// How often the token was removed so far.
    pub(crate) const fn removed(&self) -> u64 {
        self.removed
    }

    /// Removes the token from an answer's header. Tells whether its body is to be looked at.
    pub(crate) fn clean_header(&mut self, response: &mut ResponseHeader) -> bool {
        let token = self.token();
        let has_it = |value: &HeaderValue| {
            value.len() >= token.len() && memmem::find(value.as_bytes(), token).is_some()
        };
        let names: Vec<_> = response
            .headers
            .iter()
            .filter(|(_, value)| has_it(value))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let values: Vec<_> = response.headers.get_all(&name).iter().cloned().collect();
            response.remove_header(&name);
            let token = String::from_utf8_lossy(self.token()).into_owned();
            for value in values {
                let text = String::from_utf8_lossy(value.as_bytes());
                self.removed += u64::try_from(text.matches(&token).count()).unwrap_or_default();
                let cleaned = HeaderValue::try_from(text.replace(&token, REMOVED));
                // A name that was there, and a value that was one.
                let _ = response.append_header(name.clone(), cleaned.unwrap_or(value));
            }
        }
        is_plain_text(response)
    }

    /// Removes the token from the next chunk of a body.
    pub(crate) fn clean_body(&mut self, chunk: &mut Option<Bytes>, is_end: bool) {
        if self.held.is_empty() && self.seen >= LOOKED_AT {
            return;
        }
        let input = chunk.take().unwrap_or_default();
        let is_new = self.held.is_empty() && memmem::find(&input, self.token()).is_none();
        let cut = if is_end { input.len() } else { self.beginning_in(&input) };
        if is_new && cut == input.len() {
            // As nearly always.
            self.seen += input.len();
            *chunk = (!input.is_empty()).then_some(input);
            return;
        }
        let mut body = std::mem::take(&mut self.held);
        body.extend_from_slice(&input);
        while let Some(at) = memmem::find(&body, self.token()) {
            let length = self.token().len();
            let mut replacement = REMOVED.as_bytes().to_vec();
            replacement.resize(length.max(REMOVED.len()), FILLER);
            body.splice(at..at + length, replacement);
            self.removed += 1;
        }
        if !is_end {
            let cut = self.beginning_in(&body);
            self.held = body.split_off(cut);
        }
        self.seen += body.len();
        *chunk = (!body.is_empty()).then(|| body.into());
    }

    /// Where a beginning of the token begins that goes on in the next chunk; the length if nowhere.
    fn beginning_in(&self, chunk: &[u8]) -> usize {
        let token = self.token();
        let from = chunk.len().saturating_sub(token.len() - 1);
        let tail = chunk.get(from..).unwrap_or_default();
        let first = token.first().copied().unwrap_or_default();
        memchr::memchr_iter(first, tail)
            .find(|at| tail.get(*at..).is_some_and(|end| token.starts_with(end)))
            .map_or(chunk.len(), |at| from + at)
    }
}

fn is_plain_text(response: &ResponseHeader) -> bool {
    let kind = response.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let kind = kind.to_ascii_lowercase();
    let is_text = kind.starts_with(b"text/")
        || [&b"json"[..], b"xml", b"javascript", b"urlencoded"]
            .iter()
            .any(|part| memmem::find(&kind, part).is_some());
    is_text && !response.headers.contains_key(CONTENT_ENCODING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJqdGkiOiJ4In0.c2ln";

    fn echo() -> Echo {
        Echo::of(&HeaderValue::from_str(&format!("Bearer {TOKEN}")).unwrap()).unwrap()
    }

    fn clean(body: &[u8], sizes: &[usize]) -> (Vec<u8>, u64) {
        let mut echo = echo();
        let mut output = Vec::new();
        let mut rest = body;
        let mut sizes = sizes.iter().cycle();
        loop {
            let (now, later) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            rest = later;
            let is_end = rest.is_empty();
            let mut chunk = Some(Bytes::copy_from_slice(now));
            echo.clean_body(&mut chunk, is_end);
            assert!(
                chunk.as_ref().is_none_or(|chunk| !chunk.is_empty()),
                "it would end a chunked body"
            );
            output.extend_from_slice(&chunk.unwrap_or_default());
            assert!(echo.held.len() < TOKEN.len());
            if is_end {
                return (output, echo.removed());
            }
        }
    }

    fn removed() -> String {
        format!("{REMOVED}{}", "*".repeat(TOKEN.len() - REMOVED.len()))
    }

    #[test]
    fn a_token_in_a_header_is_removed_from_every_value() {
        let mut response = ResponseHeader::build(200, None).unwrap();
        let value = format!("a {TOKEN} b {TOKEN}");
        response.append_header("x-debug", "first").unwrap();
        response.append_header("x-debug", value).unwrap();
        response.append_header("content-type", "application/json; charset=utf-8").unwrap();
        let mut echo = echo();
        assert!(echo.clean_header(&mut response));
        let values: Vec<_> = response.headers.get_all("x-debug").iter().collect();
        assert_eq!(values, ["first", "a [token removed] b [token removed]"]);
        assert_eq!(echo.removed(), 2);
    }

    #[test]
    fn only_plain_text_is_looked_at() {
        let looks = |headers: &[(&'static str, &'static str)]| {
            let mut response = ResponseHeader::build(200, None).unwrap();
            for (name, value) in headers {
                response.append_header(*name, *value).unwrap();
            }
            echo().clean_header(&mut response)
        };
        assert!(looks(&[("content-type", "Text/HTML")]));
        assert!(looks(&[("content-type", "application/problem+json")]));
        assert!(!looks(&[("content-type", "application/zip")]) && !looks(&[]));
        assert!(!looks(&[("content-type", "text/html"), ("content-encoding", "gzip")]));
        assert!(Echo::of(&HeaderValue::from_static("Bearer x")).is_none(), "no token of SAP's");
    }

    #[test]
    fn the_body_is_looked_at_up_to_its_limit() {
        let late = [vec![b'x'; LOOKED_AT], TOKEN.as_bytes().to_vec()].concat();
        assert_eq!(clean(&late, &[LOOKED_AT]), (late.clone(), 0));
        let early = [vec![b'x'; LOOKED_AT - 10], TOKEN.as_bytes().to_vec()].concat();
        assert_eq!(clean(&early, &[LOOKED_AT - 5]).1, 1, "one that begins before it");
    }

    proptest! {
        #[test]
        fn no_chunks_hide_a_token_and_nothing_else_changes(
            parts in prop::collection::vec(prop_oneof![
                Just(TOKEN.to_owned()),
                (1..TOKEN.len()).prop_map(|length| TOKEN[..length].to_owned()),
                "[a-z.é]{0,30}",
            ], 0..8),
            sizes in prop::collection::vec(1_usize..60, 1..5),
        ) {
            let body = parts.concat();
            let wanted = body.replace(TOKEN, &removed());
            let (output, count) = clean(body.as_bytes(), &sizes);
            prop_assert_eq!(String::from_utf8(output).unwrap(), wanted);
            prop_assert_eq!(count, body.matches(TOKEN).count() as u64);
        }
    }
}
