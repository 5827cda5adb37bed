//! Does an answer refuse the token, and may its request be sent again? Pure.

use super::headers::all_methods;
use super::profile::Replay;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use url::{Host, Url};

/// How an upstream says that it does not accept a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 401.
    Unauthorized,
    /// 403 that is not about CSRF: the token's scopes may be out of date.
    Forbidden,
    /// A redirect to the login of the tenant's identity zone.
    LoginRedirect,
    /// 200 with the page that sends a browser there.
    LoginPage,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Self; 4] =
        [Self::Unauthorized, Self::Forbidden, Self::LoginRedirect, Self::LoginPage];

    /// The label in metrics and in the access log.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::LoginRedirect => "login_redirect",
            Self::LoginPage => "login_page",
        }
    }

    /// In words.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Unauthorized => "401",
            Self::Forbidden => "403",
            Self::LoginRedirect => "redirect to the login page",
            Self::LoginPage => "login page",
        }
    }
}

/// What the header of an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is an answer.
    Answer,
    /// It refuses the token.
    Refused(Refusal),
    /// 403 with `x-csrf-token: Required`: the access token is fine, the CSRF token is missing or old.
    /// Nothing was done.
    WantsCsrf,
    /// HTML that nobody asked for: the first bytes of its body decide.
    Suspect,
}

/// How much of a suspect body is looked at. SAP's login page is shorter than 2 KiB.
pub const PEEK: usize = 4096;

/// Set by the front door's login page, to find the way back after the login.
const LOGIN_COOKIES: [&str; 2] = ["locationAfterLogin", "fragmentAfterLogin"];
const AUTHORIZE_PATH: &str = "/oauth/authorize";

/// Judges an answer by its status and header, and by what was asked for.
pub fn judge(
    method: &Method,
    request: &HeaderMap,
    status: StatusCode,
    response: &HeaderMap,
) -> Verdict {
    match status.as_u16() {
        401 => Verdict::Refused(Refusal::Unauthorized),
        403 if requires_csrf(response) => Verdict::WantsCsrf,
        403 => Verdict::Refused(Refusal::Forbidden),
        301 | 302 | 303 | 307 | 308 if leads_to_login(response) => {
            Verdict::Refused(Refusal::LoginRedirect)
        }
        200 if is_html(response) && !is_empty(response) && !asks_for_html(request) => {
            if sets_login_cookie(response) {
                Verdict::Refused(Refusal::LoginPage)
            } else if all_methods(method, request, |method| method == Method::GET) {
                Verdict::Suspect
            } else {
                // Only a GET is answered with a login page; HEAD has no body to look into.
                Verdict::Answer
            }
        }
        _ => Verdict::Answer,
    }
}

/// Whether the first bytes of an HTML page are those of a login page.
pub fn is_login_page(start: &[u8]) -> bool {
    let text = String::from_utf8_lossy(start);
    text.contains(AUTHORIZE_PATH) || LOGIN_COOKIES.iter().any(|cookie| text.contains(cookie))
}

/// Whether a request may be sent a second time after a refusal before processing.
pub fn may_replay(replay: Replay, method: &Method, request: &HeaderMap) -> bool {
    match replay {
        Replay::Any => true,
        Replay::Idempotent => all_methods(method, request, Method::is_idempotent),
    }
}

/// Whether a body is compressed, so that its first bytes say nothing.
pub fn is_encoded(response: &HeaderMap) -> bool {
    response.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity")
}

/// `Required` comes in any case.
fn requires_csrf(response: &HeaderMap) -> bool {
    let required = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"required");
    response.get("x-csrf-token").is_some_and(required)
}

fn leads_to_login(response: &HeaderMap) -> bool {
    let Some(location) = response.get(LOCATION) else {
        return false;
    };
    let location = String::from_utf8_lossy(location.as_bytes());
    // A relative location is resolved against any base: only its path matters.
    let base = Url::parse("https://upstream.invalid/").ok();
    let Ok(url) = Url::options().base_url(base.as_ref()).parse(&location) else {
        return false;
    };
    let is_issuer = match url.host() {
        Some(Host::Domain(name)) => name.split('.').skip(1).any(|label| label == "authentication"),
        _ => false,
    };
    is_issuer || url.path().ends_with(AUTHORIZE_PATH)
}

fn is_html(response: &HeaderMap) -> bool {
    let essence = |value: &HeaderValue| {
        let text = value.to_str().unwrap_or_default();
        let essence = text.split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case("text/html")
    };
    response.get(CONTENT_TYPE).is_some_and(essence)
}

fn is_empty(response: &HeaderMap) -> bool {
    let length = response.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    length.is_some_and(|length| length.trim().parse() == Ok(0u64))
}

/// `*/*` does not ask for HTML: every tool sends it.
fn asks_for_html(request: &HeaderMap) -> bool {
    request.get_all(ACCEPT).iter().any(|value| {
        let accepted = value.to_str().unwrap_or_default().to_ascii_lowercase();
        accepted.contains("text/html") || accepted.contains("application/xhtml")
    })
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
    use http::HeaderName;
    use proptest::prelude::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        lines.iter().map(line).collect()
    }

    fn judged(status: u16, response: &[(&'static str, &str)]) -> Verdict {
        let status = StatusCode::from_u16(status).unwrap();
        judge(&Method::GET, &headers(&[("accept", "*/*")]), status, &headers(response))
    }

    #[test]
    fn every_form_of_refusal_is_recognised() {
        use Refusal::*;
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
    fn a_location_that_is_not_ascii_leads_to_the_login_all_the_same() {
        let location = HeaderValue::from_bytes("/oauth/authorize?r=/é".as_bytes()).unwrap();
        let response = HeaderMap::from_iter([(LOCATION, location)]);
        let verdict = judge(&Method::GET, &HeaderMap::new(), StatusCode::FOUND, &response);
        assert_eq!(verdict, Verdict::Refused(Refusal::LoginRedirect));
    }

    #[test]
    fn a_complaint_about_csrf_is_known_in_any_case() {
        for value in ["Required", "required", "REQUIRED"] {
            assert_eq!(judged(403, &[("x-csrf-token", value)]), Verdict::WantsCsrf);
        }
        assert_eq!(judged(200, &[("x-csrf-token", "Required")]), Verdict::Answer);
    }

    #[test]
    fn html_is_suspect_only_where_nobody_asked_for_it() {
        let judge = |method: Method, accept: &str| {
            let html = headers(&[("content-type", "text/html")]);
            judge(&method, &headers(&[("accept", accept)]), StatusCode::OK, &html)
        };
        assert_eq!(judge(Method::GET, "*/*"), Verdict::Suspect);
        assert_eq!(judge(Method::GET, "application/json"), Verdict::Suspect);
        assert_eq!(judge(Method::GET, "Text/HTML, */*;q=0.1"), Verdict::Answer);
        assert_eq!(judge(Method::POST, "*/*"), Verdict::Answer);
        let tunnelled = headers(&[("x-http-method", "DELETE")]);
        let html = headers(&[("content-type", "text/html")]);
        assert_eq!(super::judge(&Method::GET, &tunnelled, StatusCode::OK, &html), Verdict::Answer);
    }

    #[test]
    fn a_login_page_is_known_by_its_first_bytes() {
        assert!(is_login_page(b"<html><script>location='https://x/oauth/authorize?a'</script>"));
        assert!(is_login_page(b"<script>document.cookie=\"fragmentAfterLogin=\"</script>"));
        assert!(!is_login_page(b"<html><body>A report</body></html>"));
    }

    #[test]
    fn a_profile_that_replays_idempotent_requests_replays_no_post() {
        let may = |replay, method, tunnelled: &str| {
            may_replay(replay, &method, &headers(&[("x-http-method", tunnelled)]))
        };
        assert!(may(Replay::Any, Method::POST, "PATCH"));
        assert!(may(Replay::Idempotent, Method::PUT, "DELETE"));
        assert!(!may(Replay::Idempotent, Method::POST, "PUT"));
        assert!(!may(Replay::Idempotent, Method::PUT, "PATCH"));
        assert!(!may(Replay::Idempotent, Method::GET, "no method"));
        assert!(may_replay(Replay::Idempotent, &Method::PUT, &HeaderMap::new()));
    }

    proptest! {
        #[test]
        fn no_location_panics(location in "[ -~]{0,60}") {
            judged(302, &[("location", &location)]);
        }
    }
}
