//! CSRF headers of requests and answers.

use super::tokens::CsrfSession;
use crate::proxy::cookies;
use crate::proxy::token_refusal::X_CSRF_TOKEN as CSRF_TOKEN;
use http::HeaderValue;
use http::header::{COOKIE, SET_COOKIE};
use pingora::http::{RequestHeader, ResponseHeader};

/// Whether the caller sends its own CSRF token, or asks for one.
pub(in crate::proxy) fn is_managed_by_caller(request: &RequestHeader) -> bool {
    request.headers.contains_key(CSRF_TOKEN)
}

/// Adds the token and the cookies of a CSRF session to a write. They replace the caller's cookies
/// of the same names: the token is valid for no other session.
pub(in crate::proxy) fn inject(
    request: &mut RequestHeader,
    session: &CsrfSession,
) -> pingora::Result<()> {
    if let Some(token) = &session.token {
        request.insert_header(CSRF_TOKEN, token)?;
    }
    if session.cookies.is_empty() {
        return Ok(());
    }
    let values: Vec<HeaderValue> = request.headers.get_all(COOKIE).iter().cloned().collect();
    let is_replaced = |pair: &[u8]| session.cookies.iter().any(|(name, _)| is_named(pair, name));
    // Bytes, since a caller's cookie may hold any bytes that a header can.
    let own = cookies::pairs(&values)
        .filter(|pair| !pair.is_empty() && !is_replaced(pair))
        .map(<[u8]>::to_vec);
    let added = session.cookies.iter().map(|(name, value)| format!("{name}={value}").into_bytes());
    cookies::set(request, &own.chain(added).collect::<Vec<_>>())
}

/// Whether a pair of a `Cookie` header has this name.
fn is_named(pair: &[u8], name: &str) -> bool {
    let given = pair.split(|byte| *byte == b'=').next().unwrap_or(pair);
    given.trim_ascii() == name.as_bytes()
}

/// Removes bearerd's own CSRF token and cookies from an answer. The token confuses callers that do
/// not support CSRF (the `datasphere` CLI prints nothing), and the cookies belong to bearerd's
/// session.
pub(in crate::proxy) fn strip(
    request: &RequestHeader,
    response: &mut ResponseHeader,
    is_managed: bool,
) {
    if is_managed_by_caller(request) {
        return;
    }
    response.remove_header(&CSRF_TOKEN);
    if is_managed {
        response.remove_header(&SET_COOKIE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::test_request::request;

    fn session(cookies: &[(&str, &str)]) -> CsrfSession {
        let cookies = cookies.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        CsrfSession::of(HeaderValue::from_static("abc"), cookies.collect())
    }

    fn cookie_sent(own: &[(&'static str, &'static str)], kept: &[(&str, &str)]) -> Option<String> {
        let mut request = request("POST", own);
        inject(&mut request, &session(kept)).unwrap();
        let cookies: Vec<_> = request.headers.get_all(COOKIE).iter().collect();
        assert!(cookies.len() <= 1);
        cookies.first().map(|cookie| cookie.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_sessions_cookies_win_by_name_and_the_callers_others_stay() {
        let kept = [("JSESSIONID", "ours"), ("__VCAP_ID__", "1")];
        assert_eq!(cookie_sent(&[], &kept).unwrap(), "JSESSIONID=ours; __VCAP_ID__=1");
        let own = [("cookie", "JSESSIONID=own; a=b")];
        assert_eq!(cookie_sent(&own, &kept).unwrap(), "a=b; JSESSIONID=ours; __VCAP_ID__=1");
        let two = [("cookie", "a=b"), ("cookie", "c=d")];
        assert_eq!(cookie_sent(&two, &[("e", "f")]).unwrap(), "a=b; c=d; e=f");
        let odd = RequestHeader::build("POST", b"/", None).map(|mut request| {
            let own = HeaderValue::from_bytes(b"a=\xe9; u=own").unwrap();
            request.insert_header(COOKIE, own).unwrap();
            inject(&mut request, &session(&[("u", "ours"), ("b", "1")])).unwrap();
            request.headers[COOKIE].as_bytes().to_vec()
        });
        assert_eq!(odd.unwrap(), b"a=\xe9; u=ours; b=1");
        assert_eq!(cookie_sent(&[], &[]), None);
        assert_eq!(cookie_sent(&own, &[]).unwrap(), "JSESSIONID=own; a=b");
    }

    #[test]
    fn csrf_is_managed_only_for_callers_that_send_no_token() {
        assert!(!is_managed_by_caller(&request("POST", &[])));
        assert!(is_managed_by_caller(&request("POST", &[("X-CSRF-Token", "own")])));
    }

    #[test]
    fn an_answer_keeps_its_token_for_callers_that_manage_csrf() {
        let answer = |own: &[(&'static str, &'static str)], managed| {
            let mut response = ResponseHeader::build(200, None).unwrap();
            response.insert_header(CSRF_TOKEN, "abc").unwrap();
            response.insert_header(SET_COOKIE, "a=b").unwrap();
            strip(&request("POST", own), &mut response, managed);
            (response.headers.contains_key(CSRF_TOKEN), response.headers.contains_key(SET_COOKIE))
        };
        assert_eq!(answer(&[("x-csrf-token", "fetch")], true), (true, true));
        assert_eq!(answer(&[], true), (false, false));
        assert_eq!(answer(&[], false), (false, true));
    }
}
