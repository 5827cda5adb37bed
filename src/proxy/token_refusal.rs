//! Which answers of the upstream refuse a token. Pure.

use super::login_page::{leads_to_login, sets_login_cookie};
use crate::metrics::labels::TokenRefusal;
use crate::profile::Csrf;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};

/// The header by which CSRF tokens are sent, asked for, and required.
pub(super) const X_CSRF_TOKEN: HeaderName = HeaderName::from_static("x-csrf-token");

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Only a header.
    Head,
    /// Data, whatever the method. Sending the request again is harmless.
    Read,
    /// A change.
    Write,
}

/// What the header of an answer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerVerdict {
    /// The answer does not refuse the token.
    Answer,
    /// The answer refuses the token.
    Refused(TokenRefusal),
    /// 403 with `x-csrf-token: Required`: the access token is accepted, the CSRF token is missing
    /// or stale. The request was not executed.
    WantsCsrf,
    /// HTML instead of data. The answer is held back until the first bytes of its body are checked.
    Suspect,
    /// Probably no refusal. The answer is passed on while its first bytes are checked.
    Unsure,
}

/// Classifies an answer by its status and header, and by the kind of its request. With
/// `serves_html`, pages are data. The request's `Accept` is ignored: Java's default accepts HTML.
pub fn classify(
    kind: impl FnOnce() -> RequestKind,
    serves_html: bool,
    status: StatusCode,
    response: &HeaderMap,
) -> AnswerVerdict {
    match status.as_u16() {
        401 => AnswerVerdict::Refused(TokenRefusal::Unauthorized),
        403 if requires_csrf(response) => AnswerVerdict::WantsCsrf,
        403 => AnswerVerdict::Refused(TokenRefusal::Forbidden),
        301 | 302 | 303 | 307 | 308 if leads_to_login(response) => {
            AnswerVerdict::Refused(TokenRefusal::LoginRedirect)
        }
        // 203: an intermediary changed the answer.
        200 | 203 | 206 => classify_page(kind, serves_html, response),
        _ => AnswerVerdict::Answer,
    }
}

fn classify_page(
    kind: impl FnOnce() -> RequestKind,
    serves_html: bool,
    response: &HeaderMap,
) -> AnswerVerdict {
    let is_untyped = response.get_all(CONTENT_TYPE).iter().all(HeaderValue::is_empty);
    if !is_untyped && !is_html(response) || is_empty(response) {
        return AnswerVerdict::Answer;
    }
    if sets_login_cookie(response) {
        return AnswerVerdict::Refused(TokenRefusal::LoginPage);
    }
    if serves_html {
        return AnswerVerdict::Answer;
    }
    match kind() {
        RequestKind::Head => AnswerVerdict::Answer,
        RequestKind::Read if !is_untyped => AnswerVerdict::Suspect,
        // An executed write cannot be sent again, and an answer without a type is rarely a page.
        RequestKind::Read | RequestKind::Write => AnswerVerdict::Unsure,
    }
}

/// Whether a body is compressed.
pub fn is_encoded(response: &HeaderMap) -> bool {
    response.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity")
}

/// Whether an answer asks a caller for a CSRF token that handles these tokens itself. The caller
/// expects that answer.
pub(super) fn asks_caller(request: &RequestHeader, csrf: Csrf, response: &ResponseHeader) -> bool {
    response.status == StatusCode::FORBIDDEN
        && (csrf == Csrf::Off || request.headers.contains_key(X_CSRF_TOKEN))
        && requires_csrf(&response.headers)
}

/// Whether the upstream requires a CSRF token. `Required` may be in any case.
fn requires_csrf(response: &HeaderMap) -> bool {
    let required = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"required");
    response.get(X_CSRF_TOKEN).is_some_and(required)
}

fn is_html(response: &HeaderMap) -> bool {
    response.get_all(CONTENT_TYPE).iter().any(|value| {
        let mut parts = value.as_bytes().split(|byte| matches!(byte, b';' | b','));
        let essence = parts.next().unwrap_or_default().trim_ascii();
        essence.eq_ignore_ascii_case(b"text/html")
            || essence.eq_ignore_ascii_case(b"application/xhtml+xml")
    })
}

fn is_empty(response: &HeaderMap) -> bool {
    let length = response.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    length.is_some_and(|length| length.trim().parse() == Ok(0u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::LOCATION;
    use proptest::prelude::*;

    const LOGIN_COOKIE: (&str, &str) = ("set-cookie", "locationAfterLogin=x; Path=/");

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        lines.iter().map(line).collect()
    }

    fn judged(status: u16, response: &[(&'static str, &str)]) -> AnswerVerdict {
        let status = StatusCode::from_u16(status).unwrap();
        classify(|| RequestKind::Read, false, status, &headers(response))
    }

    #[test]
    fn every_form_of_refusal_is_recognised() {
        use TokenRefusal::*;
        for (status, response, refusal) in [
            (401, vec![], Unauthorized),
            (403, vec![], Forbidden),
            (403, vec![("x-csrf-token", "abc")], Forbidden),
            (
                302,
                vec![("location", "https://acme.authentication.eu10.hana.ondemand.com/x")],
                LoginRedirect,
            ),
            (
                302,
                vec![("location", "https://acme.authentication.cert.eu10.hana.ondemand.com/")],
                LoginRedirect,
            ),
            (
                303,
                vec![("location", "https://login.example/oauth/authorize?client_id=a")],
                LoginRedirect,
            ),
            (307, vec![("location", "/oauth/authorize")], LoginRedirect),
            (302, vec![("location", "https://ias.example/oauth2/authorize?x")], LoginRedirect),
            (302, vec![("location", "https://idp.example/sso?a=b&SAMLRequest=x")], LoginRedirect),
            (302, vec![("location", "https://acme.accounts.ondemand.com/")], LoginRedirect),
            (
                200,
                vec![
                    ("content-type", "text/html; charset=utf-8"),
                    ("set-cookie", "locationAfterLogin=%2F; Path=/"),
                ],
                LoginPage,
            ),
            (
                200,
                vec![
                    ("content-type", "TEXT/HTML"),
                    ("set-cookie", "a=b"),
                    ("set-cookie", "fragmentAfterLogin="),
                ],
                LoginPage,
            ),
            (203, vec![("content-type", "text/html"), LOGIN_COOKIE], LoginPage),
            (200, vec![("content-type", "application/xhtml+xml"), LOGIN_COOKIE], LoginPage),
            (200, vec![LOGIN_COOKIE], LoginPage),
        ] {
            assert_eq!(
                judged(status, &response),
                AnswerVerdict::Refused(refusal),
                "{status} {response:?}"
            );
        }
    }

    #[test]
    fn answers_are_not_taken_for_refusals() {
        for (status, response) in [
            (200, vec![("content-type", "application/json")]),
            (
                200,
                vec![("content-type", "application/json"), ("set-cookie", "locationAfterLogin=x")],
            ),
            (200, vec![("content-type", "text/htmlish")]),
            (302, vec![("location", "https://acme.eu10.hcs.cloud.sap/next")]),
            (302, vec![("location", "https://authentication.example/")]),
            (302, vec![("location", "/oauth/authorized")]),
            (302, vec![]),
            (404, vec![("content-type", "text/html")]),
            (500, vec![("content-type", "text/html")]),
        ] {
            assert_eq!(judged(status, &response), AnswerVerdict::Answer, "{status} {response:?}");
        }
    }

    #[test]
    fn an_empty_page_is_an_answer_however_its_length_is_written() {
        for length in ["0", "00", " 0 "] {
            let empty = [("content-type", "text/html"), ("content-length", length)];
            assert_eq!(judged(200, &empty), AnswerVerdict::Answer, "{length:?}");
        }
    }

    #[test]
    fn a_location_that_is_not_ascii_leads_to_the_login_too() {
        let location = HeaderValue::from_bytes("/oauth/authorize?r=/é".as_bytes()).unwrap();
        let response = HeaderMap::from_iter([(LOCATION, location)]);
        let verdict = classify(|| RequestKind::Read, false, StatusCode::FOUND, &response);
        assert_eq!(verdict, AnswerVerdict::Refused(TokenRefusal::LoginRedirect));
    }

    #[test]
    fn a_complaint_about_csrf_is_known_in_any_case() {
        for value in ["Required", "required", "REQUIRED"] {
            assert_eq!(judged(403, &[("x-csrf-token", value)]), AnswerVerdict::WantsCsrf);
        }
        let json = ("content-type", "application/json");
        assert_eq!(judged(200, &[("x-csrf-token", "Required"), json]), AnswerVerdict::Answer);
    }

    #[test]
    fn only_a_caller_that_handles_csrf_tokens_itself_is_asked_for_one() {
        let mut response = ResponseHeader::build(StatusCode::FORBIDDEN, None).unwrap();
        response.insert_header(X_CSRF_TOKEN, "Required").unwrap();
        let plain = RequestHeader::build("POST", b"/", None).unwrap();
        let mut own = plain.clone();
        own.insert_header(X_CSRF_TOKEN, "old").unwrap();
        assert!(asks_caller(&own, Csrf::Managed, &response));
        assert!(asks_caller(&plain, Csrf::Off, &response));
        assert!(!asks_caller(&plain, Csrf::Managed, &response), "bearerd's own has failed");
        let refused = ResponseHeader::build(StatusCode::FORBIDDEN, None).unwrap();
        assert!(!asks_caller(&own, Csrf::Off, &refused));
    }

    #[test]
    fn a_page_is_suspect_unless_the_route_serves_pages() {
        for (content_type, read, write) in [
            ("text/html", AnswerVerdict::Suspect, AnswerVerdict::Unsure),
            ("Text/HTML; charset=utf-8", AnswerVerdict::Suspect, AnswerVerdict::Unsure),
            ("application/xhtml+xml", AnswerVerdict::Suspect, AnswerVerdict::Unsure),
            ("none", AnswerVerdict::Unsure, AnswerVerdict::Unsure),
            ("", AnswerVerdict::Unsure, AnswerVerdict::Unsure),
            ("text/plain", AnswerVerdict::Answer, AnswerVerdict::Answer),
            ("application/xml", AnswerVerdict::Answer, AnswerVerdict::Answer),
        ] {
            let lines = [("content-type", content_type)];
            let headers = headers(if content_type == "none" { &[] } else { &lines });
            for status in [StatusCode::OK, StatusCode::NON_AUTHORITATIVE_INFORMATION] {
                let judged = |asked, serves_html| classify(|| asked, serves_html, status, &headers);
                assert_eq!(judged(RequestKind::Read, false), read, "{content_type}");
                assert_eq!(judged(RequestKind::Write, false), write, "{content_type}");
                assert_eq!(judged(RequestKind::Head, false), AnswerVerdict::Answer);
                for asked in [RequestKind::Head, RequestKind::Read, RequestKind::Write] {
                    assert_eq!(judged(asked, true), AnswerVerdict::Answer);
                }
            }
        }
        let login = headers(&[("content-type", "text/html"), LOGIN_COOKIE]);
        for asked in [RequestKind::Head, RequestKind::Read, RequestKind::Write] {
            let judged = classify(|| asked, true, StatusCode::OK, &login);
            assert_eq!(
                judged,
                AnswerVerdict::Refused(TokenRefusal::LoginPage),
                "no page that was asked for"
            );
        }
    }

    proptest! {
        #[test]
        fn no_location_panics(location in "[ -~]{0,60}") {
            judged(302, &[("location", &location)]);
        }
    }
}
