//! An upstream that sends our token back, as debugging front doors do, does not get it to the caller:
//! the token is for the upstream alone. Pure.

use super::context::Context;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use memchr::memmem;
use pingora::http::ResponseHeader;

/// What takes a token's place. In a body it is filled up to the token's length, so that the body's
/// length stays true.
const REMOVED: &str = "[token removed]";
const FILLER: u8 = b'*';
/// How much of a body is looked at: errors and echoes are short.
const LOOKED_AT: usize = 64 * 1024;
/// A shorter beginning than this is passed on at once, or a chunk that ends in the token's first letter
/// would be short of it until the next one comes. If it was one, the rest of the token goes all the same.
const WORTH_HOLDING: usize = 4;
/// A token shorter than this is none of SAP's, and could stand in any text.
const SHORTEST: usize = 16;

/// Looks for one token in one answer.
pub(crate) struct Echo {
    token: HeaderValue,
    /// How many bytes of the body have gone by.
    seen: usize,
    /// The end of the last chunk, which may be the beginning of the token.
    held: Vec<u8>,
    /// A beginning that was too short to be held back: it has gone by.
    gone: Vec<u8>,
    removed: u64,
}

impl Echo {
    /// For an answer to this request. `None`: there is nothing to look for.
    pub(super) fn in_answer_to(context: &Context) -> Option<Self> {
        context.token.as_ref().and_then(|token| Self::of(&token.authorization))
    }

    /// `authorization` is what was sent. `None`: there is nothing to look for.
    pub(crate) fn of(authorization: &HeaderValue) -> Option<Self> {
        let echo = Self {
            token: authorization.clone(),
            seen: 0,
            held: Vec::new(),
            gone: Vec::new(),
            removed: 0,
        };
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
        let has_it = |value: &HeaderValue| find(value.as_bytes(), token).is_some();
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
        self.clean_reason(response);
        is_plain_text(response)
    }

    /// Removes the token from where no value is: the reason behind the status, and names.
    fn clean_reason(&mut self, response: &mut ResponseHeader) {
        let token = self.token();
        if response
            .get_reason_phrase()
            .is_some_and(|reason| find(reason.as_bytes(), token).is_some())
        {
            // To none, which any reason may be.
            let _ = response.set_reason_phrase(None);
            self.removed += 1;
        }
        // A header's name does not keep its case.
        let token = self.token();
        let is_token = |name: &&HeaderName| {
            name.as_str().len() >= token.len()
                && find(name.as_str().as_bytes(), &token.to_ascii_lowercase()).is_some()
        };
        let names: Vec<_> = response.headers.keys().filter(is_token).cloned().collect();
        for name in names {
            response.remove_header(&name);
            self.removed += 1;
        }
    }

    /// Removes the token from the next chunk of a body.
    pub(crate) fn clean_body(&mut self, chunk: &mut Option<Bytes>, is_end: bool) {
        let is_new = self.held.is_empty() && self.gone.is_empty();
        if is_new && self.seen >= LOOKED_AT {
            return;
        }
        let input = chunk.take().unwrap_or_default();
        let cut = if is_end { input.len() } else { self.beginning_in(&input) };
        if is_new && cut == input.len() && find(&input, self.token()).is_none() {
            // As nearly always.
            self.seen += input.len();
            *chunk = (!input.is_empty()).then_some(input);
            return;
        }
        let mut body = std::mem::take(&mut self.gone);
        let gone = body.len();
        body.append(&mut self.held);
        body.extend_from_slice(&input);
        while let Some(at) = find(&body, self.token()) {
            let length = self.token().len();
            let mut replacement = REMOVED.as_bytes().to_vec();
            replacement.resize(length.max(REMOVED.len()), FILLER);
            body.splice(at..at + length, replacement);
            self.removed += 1;
        }
        if !is_end {
            let cut = self.beginning_in(&body);
            let mut beginning = body.split_off(cut);
            if beginning.len() < WORTH_HOLDING {
                body.extend_from_slice(&beginning);
            } else {
                self.held = beginning.split_off(gone.saturating_sub(cut));
            }
            self.gone = beginning;
        }
        // What takes the token's place is as long as the token.
        body.drain(..gone.min(body.len()));
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

/// Where the token is. Its end is looked for first, which is as good as random: to prepare a search for
/// all of a long token takes longer than the search.
fn find(text: &[u8], token: &[u8]) -> Option<usize> {
    let (start, end) = token.split_at(token.len().saturating_sub(SHORTEST));
    let ends = text.get(start.len()..).filter(|ends| ends.len() >= end.len())?;
    let finder = memmem::Finder::new(end);
    let mut from = 0;
    loop {
        let at = from + finder.find(ends.get(from..)?)?;
        if text.get(at..)?.starts_with(start) {
            return Some(at);
        }
        // Another may begin within this one.
        from = at + 1;
    }
}

/// What could be text, and is not compressed. What has no type could be anything.
fn is_plain_text(response: &ResponseHeader) -> bool {
    const TEXTS: [&[u8]; 8] = [
        b"text/",
        b"multipart/",
        b"message/",
        b"json",
        b"xml",
        b"yaml",
        b"javascript",
        b"urlencoded",
    ];
    let mut kinds = response.headers.get_all(CONTENT_TYPE).iter().peekable();
    let is_text = |kind: &HeaderValue| {
        let kind = kind.as_bytes().to_ascii_lowercase();
        TEXTS.iter().any(|part| memmem::find(&kind, part).is_some())
    };
    let is_plain = |coding: &HeaderValue| {
        coding.is_empty() || coding.as_bytes().eq_ignore_ascii_case(b"identity")
    };
    (kinds.peek().is_none() || kinds.any(is_text))
        && response.headers.get_all(CONTENT_ENCODING).iter().all(is_plain)
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
    fn a_token_in_a_name_or_a_reason_goes_with_it() {
        let mut response = ResponseHeader::build(200, None).unwrap();
        response.set_reason_phrase(Some(&format!("OK {TOKEN}"))).unwrap();
        let name = TOKEN.replace('.', "-");
        let mut echo =
            Echo::of(&HeaderValue::from_str(&format!("Bearer {name}")).unwrap()).unwrap();
        response.append_header(name.clone(), "x").unwrap();
        echo.clean_header(&mut response);
        assert!(response.headers.is_empty());
        response.set_reason_phrase(Some(&name)).unwrap();
        echo.clean_header(&mut response);
        assert_ne!(response.get_reason_phrase(), Some(name.as_str()));
        assert_eq!(echo.removed(), 2);
    }

    #[test]
    fn a_chunk_that_ends_in_the_tokens_first_letters_is_not_short_of_them() {
        let mut echo = echo();
        let mut chunk = Some(Bytes::from_static(b"done"));
        echo.clean_body(&mut chunk, false);
        assert_eq!(chunk.unwrap(), "done");
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
        assert!(looks(&[("content-type", "multipart/mixed; boundary=x")]));
        assert!(looks(&[("content-type", "text/plain"), ("content-encoding", "identity")]));
        assert!(looks(&[]), "it could be anything");
        assert!(looks(&[("content-type", "image/png"), ("content-type", "text/plain")]));
        assert!(!looks(&[("content-type", "application/zip")]));
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
        fn a_token_is_found_where_it_is_first(
            token in "[ab]{16,24}",
            text in "[ab]{0,80}",
            at in 0_usize..40,
        ) {
            let mut text = text.into_bytes();
            prop_assert_eq!(find(&text, token.as_bytes()), memmem::find(&text, token.as_bytes()));
            let at = at.min(text.len());
            text.splice(at..at, token.bytes());
            prop_assert_eq!(find(&text, token.as_bytes()), memmem::find(&text, token.as_bytes()));
        }

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
            prop_assert_eq!(output.len(), wanted.len());
            prop_assert!(memmem::find(&output, TOKEN.as_bytes()).is_none());
            // Of a token that was cut behind its first letters, these have gone by.
            let pairs = output.iter().zip(wanted.bytes().zip(body.bytes()));
            let odd = pairs.filter(|(is, (wanted, _))| *is != wanted);
            for (is, (_, was)) in odd.clone() {
                prop_assert_eq!(*is, was);
            }
            prop_assert!(odd.count() <= count as usize * (WORTH_HOLDING - 1));
            prop_assert_eq!(count, body.matches(TOKEN).count() as u64);
        }
    }
}
