//! Which answers of the upstream refuse a token. Pure.

use crate::metrics::labels::TokenRefusal;
use flate2::read::GzDecoder;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::borrow::Cow;
use std::io::Read;
use url::{Host, Url};

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
pub enum Verdict {
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

/// How much of a body is checked. SAP's login page is shorter than 2 KiB.
pub const PEEK: usize = 4096;

/// Cookies of the front end's login page, which lead back after the login.
const LOGIN_COOKIES: [&str; 2] = ["locationAfterLogin", "fragmentAfterLogin"];
/// Paths of logins: XSUAA, and identity services with OpenID Connect.
const AUTHORIZE_PATHS: [&str; 2] = ["/oauth/authorize", "/oauth2/authorize"];
/// The parameter of a SAML login, in a query or in a form that submits itself.
const SAML_REQUEST: &str = "SAMLRequest";
/// Domains of SAP's identity service. Its pages are logins.
const LOGIN_HOSTS: [&str; 2] = [".accounts.ondemand.com", ".accounts.cloud.sap"];

/// Classifies an answer by its status and header, and by the kind of its request. With
/// `serves_html`, pages are data. The request's `Accept` is ignored: Java's default accepts HTML.
pub fn classify(
    kind: impl FnOnce() -> RequestKind,
    serves_html: bool,
    status: StatusCode,
    response: &HeaderMap,
) -> Verdict {
    match status.as_u16() {
        401 => Verdict::Refused(TokenRefusal::Unauthorized),
        403 if requires_csrf(response) => Verdict::WantsCsrf,
        403 => Verdict::Refused(TokenRefusal::Forbidden),
        301 | 302 | 303 | 307 | 308 if leads_to_login(response) => {
            Verdict::Refused(TokenRefusal::LoginRedirect)
        }
        // 203: an intermediary changed the answer.
        200 | 203 | 206 => classify_page(kind, serves_html, response),
        _ => Verdict::Answer,
    }
}

fn classify_page(
    kind: impl FnOnce() -> RequestKind,
    serves_html: bool,
    response: &HeaderMap,
) -> Verdict {
    let is_untyped = response.get_all(CONTENT_TYPE).iter().all(HeaderValue::is_empty);
    if !is_untyped && !is_html(response) || is_empty(response) {
        return Verdict::Answer;
    }
    if sets_login_cookie(response) {
        return Verdict::Refused(TokenRefusal::LoginPage);
    }
    if serves_html {
        return Verdict::Answer;
    }
    match kind() {
        RequestKind::Head => Verdict::Answer,
        RequestKind::Read if !is_untyped => Verdict::Suspect,
        // An executed write cannot be sent again, and an answer without a type is rarely a page.
        RequestKind::Read | RequestKind::Write => Verdict::Unsure,
    }
}

/// Whether the first bytes of an HTML page are those of a login page.
pub fn is_login_page(start: &[u8]) -> bool {
    // In UTF-16, each second byte is zero; in scripts, a slash may be escaped.
    let plain: Vec<u8> = start.iter().copied().filter(|byte| !matches!(byte, 0 | b'\\')).collect();
    let text = String::from_utf8_lossy(&plain);
    let mut signs = AUTHORIZE_PATHS.iter().chain(&LOGIN_COOKIES).chain([&SAML_REQUEST]);
    signs.any(|sign| text.contains(sign))
}

/// The beginning of a body, decompressed if it is gzip.
pub fn inflated(start: &[u8]) -> Cow<'_, [u8]> {
    if !start.starts_with(&[0x1f, 0x8b]) {
        return start.into();
    }
    let mut plain = Vec::new();
    let most = u64::try_from(PEEK).unwrap_or_default();
    // The input may end anywhere.
    let _ = GzDecoder::new(start).take(most).read_to_end(&mut plain);
    plain.into()
}

/// The beginnings of HTML pages, in lower case.
const PAGE_STARTS: [&[u8]; 5] = [b"<!doctype html", b"<html", b"<head", b"<script", b"<!--"];

/// Whether a body begins like an HTML page.
pub fn is_html_page(start: &[u8]) -> bool {
    let start = first_letters(start);
    PAGE_STARTS.iter().any(|known| {
        start.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known))
    })
}

/// Whether a body whose rest is unknown may begin like an HTML page.
pub fn may_be_html_page(start: &[u8]) -> bool {
    let start = first_letters(start);
    PAGE_STARTS.iter().any(|known| {
        let common = known.len().min(start.len());
        known.get(..common).zip(start.get(..common)).is_some_and(|(a, b)| a.eq_ignore_ascii_case(b))
    })
}

/// A body without byte order mark and leading white space.
fn first_letters(start: &[u8]) -> &[u8] {
    start.strip_prefix("\u{feff}".as_bytes()).unwrap_or(start).trim_ascii_start()
}

/// Whether a body is compressed.
pub fn is_encoded(response: &HeaderMap) -> bool {
    response.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity")
}

/// Whether the upstream requires a CSRF token. `Required` may be in any case.
fn requires_csrf(response: &HeaderMap) -> bool {
    let required = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"required");
    response.get(X_CSRF_TOKEN).is_some_and(required)
}

fn leads_to_login(response: &HeaderMap) -> bool {
    let Some(location) = response.get(LOCATION) else {
        return false;
    };
    let location = String::from_utf8_lossy(location.as_bytes());
    // Any base is good enough for a relative location: only its path matters.
    let base = Url::parse("https://upstream.invalid/").ok();
    let Ok(url) = Url::options().base_url(base.as_ref()).parse(&location) else {
        return false;
    };
    let is_issuer = match url.host() {
        Some(Host::Domain(name)) => {
            name.split('.').skip(1).any(|label| label == "authentication")
                || LOGIN_HOSTS.iter().any(|known| name.ends_with(known))
        }
        _ => false,
    };
    is_issuer
        || AUTHORIZE_PATHS.iter().any(|path| url.path().ends_with(path))
        || url.query_pairs().any(|(name, _)| name == SAML_REQUEST)
}

fn is_html(response: &HeaderMap) -> bool {
    response.get_all(CONTENT_TYPE).iter().any(|value| {
        let text = value.to_str().unwrap_or_default();
        let essence = text.split([';', ',']).next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("text/html")
            || essence.eq_ignore_ascii_case("application/xhtml+xml")
    })
}

fn is_empty(response: &HeaderMap) -> bool {
    let length = response.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    length.is_some_and(|length| length.trim().parse() == Ok(0u64))
}

fn sets_login_cookie(response: &HeaderMap) -> bool {
    response.get_all(SET_COOKIE).iter().any(|value| {
        let name = value.to_str().unwrap_or_default().split('=').next().unwrap_or_default();
        LOGIN_COOKIES.contains(&name.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use std::io::Write;

    const LOGIN_COOKIE: (&str, &str) = ("set-cookie", "locationAfterLogin=x; Path=/");

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        lines.iter().map(line).collect()
    }

    fn judged(status: u16, response: &[(&'static str, &str)]) -> Verdict {
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
                Verdict::Refused(refusal),
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
            assert_eq!(judged(status, &response), Verdict::Answer, "{status} {response:?}");
        }
    }

    #[test]
    fn an_empty_page_is_an_answer_however_its_length_is_written() {
        for length in ["0", "00", " 0 "] {
            let empty = [("content-type", "text/html"), ("content-length", length)];
            assert_eq!(judged(200, &empty), Verdict::Answer, "{length:?}");
        }
    }

    #[test]
    fn a_location_that_is_not_ascii_leads_to_the_login_too() {
        let location = HeaderValue::from_bytes("/oauth/authorize?r=/é".as_bytes()).unwrap();
        let response = HeaderMap::from_iter([(LOCATION, location)]);
        let verdict = classify(|| RequestKind::Read, false, StatusCode::FOUND, &response);
        assert_eq!(verdict, Verdict::Refused(TokenRefusal::LoginRedirect));
    }

    #[test]
    fn a_complaint_about_csrf_is_known_in_any_case() {
        for value in ["Required", "required", "REQUIRED"] {
            assert_eq!(judged(403, &[("x-csrf-token", value)]), Verdict::WantsCsrf);
        }
        let json = ("content-type", "application/json");
        assert_eq!(judged(200, &[("x-csrf-token", "Required"), json]), Verdict::Answer);
    }

    #[test]
    fn a_page_is_suspect_unless_the_route_serves_pages() {
        for (content_type, read, write) in [
            ("text/html", Verdict::Suspect, Verdict::Unsure),
            ("Text/HTML; charset=utf-8", Verdict::Suspect, Verdict::Unsure),
            ("application/xhtml+xml", Verdict::Suspect, Verdict::Unsure),
            ("none", Verdict::Unsure, Verdict::Unsure),
            ("", Verdict::Unsure, Verdict::Unsure),
            ("text/plain", Verdict::Answer, Verdict::Answer),
            ("application/xml", Verdict::Answer, Verdict::Answer),
        ] {
            let lines = [("content-type", content_type)];
            let headers = headers(if content_type == "none" { &[] } else { &lines });
            for status in [StatusCode::OK, StatusCode::NON_AUTHORITATIVE_INFORMATION] {
                let judged = |asked, serves_html| classify(|| asked, serves_html, status, &headers);
                assert_eq!(judged(RequestKind::Read, false), read, "{content_type}");
                assert_eq!(judged(RequestKind::Write, false), write, "{content_type}");
                assert_eq!(judged(RequestKind::Head, false), Verdict::Answer);
                for asked in [RequestKind::Head, RequestKind::Read, RequestKind::Write] {
                    assert_eq!(judged(asked, true), Verdict::Answer);
                }
            }
        }
        let login = headers(&[("content-type", "text/html"), LOGIN_COOKIE]);
        for asked in [RequestKind::Head, RequestKind::Read, RequestKind::Write] {
            let judged = classify(|| asked, true, StatusCode::OK, &login);
            assert_eq!(
                judged,
                Verdict::Refused(TokenRefusal::LoginPage),
                "no page that was asked for"
            );
        }
    }

    #[test]
    fn a_login_page_is_known_by_its_first_bytes() {
        let utf_16: Vec<u8> = "<a href='/oauth/authorize'>".bytes().flat_map(|b| [b, 0]).collect();
        for page in [
            &b"<html><script>location='https://x/oauth/authorize?a'</script></html>"[..],
            b"<script>document.cookie=\"fragmentAfterLogin=\"</script>",
            b"<script>location='https:\\/\\/x\\/oauth\\/authorize'</script>",
            b"<form><input type='hidden' name='SAMLRequest' value='x'></form>",
            &utf_16,
        ] {
            assert!(is_login_page(page), "{}", String::from_utf8_lossy(page));
        }
        assert!(!is_login_page(b"<html><body>A report</body></html>"));
    }

    #[test]
    fn the_beginning_of_a_compressed_page_is_enough() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"<html>/oauth/authorize</html>").unwrap();
        encoder.flush().unwrap();
        assert!(is_login_page(&inflated(encoder.get_ref())));
        assert_eq!(*inflated(&encoder.get_ref()[..8]), *b"");
        assert_eq!(*inflated(b"\x1f\x8bnonsense"), *b"");
        assert_eq!(*inflated(b"plain"), *b"plain");
        let bomb = std::iter::repeat_n(0, 1 << 20).collect::<Vec<u8>>();
        encoder.write_all(&bomb).unwrap();
        assert_eq!(inflated(&encoder.finish().unwrap()).len(), PEEK);
    }

    #[test]
    fn a_page_is_known_by_how_it_begins() {
        for page in ["<html>", "\u{feff} \r\n<!DOCTYPE HTML PUBLIC", "<head lang=x>", "<!-- x -->"]
        {
            assert!(is_html_page(page.as_bytes()) && may_be_html_page(page.as_bytes()), "{page}");
        }
        for start in ["", "\u{feff}", " ", "<", "<!doc", "<HT"] {
            assert!(!is_html_page(start.as_bytes()) && may_be_html_page(start.as_bytes()));
        }
        for other in ["{", "<?xml version='1.0'?>", "<feed>", "html", "<htm>"] {
            assert!(!may_be_html_page(other.as_bytes()), "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_location_panics(location in "[ -~]{0,60}") {
            judged(302, &[("location", &location)]);
        }
    }
}
