//! What logs may say of a request: its path, and the ids by which SAP finds it.

use super::method_override::overriding_methods;
use super::outcome::final_answer;
use crate::readable;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{CONTROLS, percent_encode};
use pingora::proxy::Session;
use std::borrow::Cow;

/// SAP's ids of a request: one identifies a chain of calls, the other a call in Cloud Foundry.
pub(super) const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlationid");
pub(super) const VCAP_REQUEST_ID: HeaderName = HeaderName::from_static("x-vcap-request-id");
/// The length of the longest id that is logged.
const LONGEST_ID: usize = 64;
/// The number of texts of a list that are logged.
const MOST_TEXTS: usize = 8;
/// The length of the longest one that is logged whole.
const LONGEST_TEXT: usize = 256;

/// An id of the answer, or else of the request.
pub(super) fn id<'a>(session: &'a Session, name: &HeaderName) -> Option<&'a str> {
    let answer = final_answer(session).and_then(|answer| plain_id(&answer.headers, name));
    answer.or_else(|| plain_id(&session.req_header().headers, name))
}

/// An id of the answer. A caller can't choose it.
pub(super) fn id_of_answer<'a>(session: &'a Session, name: &HeaderName) -> Option<&'a str> {
    final_answer(session).and_then(|answer| plain_id(&answer.headers, name))
}

/// The methods by which headers override a request's own, for the audit log.
pub(super) fn overrides(headers: &HeaderMap) -> Vec<String> {
    let name = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    several(overriding_methods(headers).map(name))
}

/// The first texts of a list that others chose, and how many there are, if there are more.
pub(super) fn several(mut texts: impl Iterator<Item = String>) -> Vec<String> {
    let shown =
        |text: String| readable::cut_at(LONGEST_TEXT, readable::one_line(&text)).into_owned();
    let mut shown: Vec<_> = texts.by_ref().take(MOST_TEXTS).map(shown).collect();
    match texts.count() {
        0 => {}
        more => shown.push(format!("... ({more} more)")),
    }
    shown
}

/// A whole path, in which control characters are percent-encoded.
pub(super) fn whole(path: &[u8]) -> Cow<'_, str> {
    percent_encode(path, CONTROLS).into()
}

/// A path for the log: control characters, which could imitate another line or control a terminal,
/// are percent-encoded. Only the beginning of a long path is shown.
pub(super) fn readable(path: &[u8]) -> Cow<'_, str> {
    readable::cut(percent_encode(path, CONTROLS).into())
}

/// The id in a header, if it looks like one. Other values are not logged.
fn plain_id<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let id = headers.get(name)?.to_str().ok()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:".contains(&byte);
    (id.len() <= LONGEST_ID && id.bytes().all(is_plain)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_logged_without_control_characters() {
        let logged = readable("/a%20b/\u{9b}31m\u{85}\u{a0}x=1".as_bytes());
        assert_eq!(logged, "/a%20b/%C2%9B31m%C2%85%C2%A0x=1");
    }

    #[test]
    fn only_the_beginning_of_a_long_path_is_logged() {
        let path = "/%20".repeat(15_000);
        let logged = readable(path.as_bytes());
        assert_eq!(logged, format!("{}... (60000 bytes)", "/%20".repeat(256)));
    }

    #[test]
    fn of_a_long_list_only_the_beginning_is_logged() {
        let long = "\u{202e}".repeat(100);
        let logged = several(std::iter::repeat_n(long, 20));
        assert_eq!(logged.len(), 9);
        assert!(logged.iter().all(|text| text.len() < 300), "{logged:?}");
        assert!(logged[0].starts_with(r"\u202e\u202e"), "{logged:?}");
        assert_eq!(logged[8], "... (12 more)");
        assert_eq!(several(["GET".to_owned()].into_iter()), ["GET"]);
    }

    #[test]
    fn only_what_looks_like_an_id_is_logged() {
        let logged = |value: &str| {
            let value = HeaderValue::from_str(value).unwrap();
            let headers = HeaderMap::from_iter([(CORRELATION_ID, value)]);
            plain_id(&headers, &CORRELATION_ID).is_some()
        };
        assert!(logged("5f4d7a8e-0b1c-4d2e-9f3a-1b2c3d4e5f60"));
        for other in ["Bearer x", "a.b.c", "{}", "a b", &"x".repeat(LONGEST_ID + 1)] {
            assert!(!logged(other), "{other}");
        }
    }
}
