//! SAP's protection against cross-site requests, spoken for callers that do not know it.
//!
//! A write needs an `x-csrf-token` that was fetched before with the same access token, and on some
//! tenants the cookies of that fetch too. bearerd fetches one for each access token, keeps it, and
//! sends it with the writes of callers that bring none.

use super::recover::{self, Verdict};
use super::upstream::Upstream;
use crate::metrics::CsrfMetrics;
use crate::token::store::Usable;
use arc_swap::ArcSwapOption;
use cookie::Cookie;
use http::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pingora::http::{RequestHeader, ResponseHeader};
use reqwest::{Client, Response};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

/// The header of the token, of the wish to get one, and of the complaint about its absence.
pub(super) const CSRF_TOKEN: HeaderName = HeaderName::from_static("x-csrf-token");
const CUSTOM_AUTH: HeaderName = HeaderName::from_static("x-sap-sac-custom-auth");
/// The most that is kept of cookies, in bytes: front doors refuse larger headers.
const MAX_COOKIES: usize = 16 * 1024;
/// After a fetch that failed, writes go out without a token for this long before the next fetch.
const PAUSE: Duration = Duration::from_secs(5);

/// How a fetch ended; the label of `csrf_fetches_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FetchOutcome {
    /// It brought a token.
    Fetched,
    /// It was answered without one: the upstream wants none.
    NoneNeeded,
    /// It was answered with an error.
    Refused,
    /// It was not answered.
    Failed,
}

impl FetchOutcome {
    pub(crate) const ALL: [Self; 4] =
        [Self::Fetched, Self::NoneNeeded, Self::Refused, Self::Failed];

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Fetched => "fetched",
            Self::NoneNeeded => "none_needed",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Keeps the CSRF token of one OAuth client at one upstream.
#[derive(Debug)]
pub(crate) struct Keeper {
    http: Client,
    url: Url,
    metrics: CsrfMetrics,
    current: ArcSwapOption<Session>,
    /// Held while fetching: the others wait for the same answer. Tells when a fetch last failed, and
    /// for which access token.
    fetching: Mutex<Option<(u64, Instant)>>,
    serial: AtomicU64,
}

/// What a fetch brought.
#[derive(Debug)]
pub(super) struct Session {
    /// Of the access token with which it was fetched; it is good for no other.
    generation: u64,
    serial: u64,
    token: Option<HeaderValue>,
    /// Name and value, as they were set.
    cookies: Vec<(String, String)>,
}

impl Keeper {
    /// A keeper for the upstream, if its CSRF tokens are managed.
    pub(super) fn new(upstream: &Upstream, metrics: CsrfMetrics) -> Option<Self> {
        Some(Self {
            http: upstream.http.clone(),
            url: upstream.csrf_url.clone()?,
            metrics,
            current: ArcSwapOption::empty(),
            fetching: Mutex::new(None),
            serial: AtomicU64::new(0),
        })
    }

    /// The session that goes with an access token: the one that is kept, or a new one. `None` when
    /// it cannot be had now.
    pub(super) async fn session(&self, token: &Usable) -> Option<Arc<Session>> {
        if let Some(kept) = self.kept(token.generation) {
            return Some(kept);
        }
        let mut failed = self.fetching.lock().await;
        if let Some(kept) = self.kept(token.generation) {
            return Some(kept);
        }
        if failed.is_some_and(|(of, at)| of == token.generation && at.elapsed() < PAUSE) {
            return None;
        }
        let (outcome, session) = self.fetch(token).await;
        self.metrics.fetched(outcome);
        *failed = session.is_none().then(|| (token.generation, Instant::now()));
        let session = Arc::new(session?);
        let kept = self.current.load();
        // A late fetch of an old access token must not take a newer one's place.
        if kept.as_ref().is_none_or(|kept| kept.generation <= session.generation) {
            self.current.store(Some(session.clone()));
        }
        Some(session)
    }

    fn kept(&self, generation: u64) -> Option<Arc<Session>> {
        self.current.load_full().filter(|session| session.generation == generation)
    }

    /// The upstream does not accept this session; the next write gets another. Of many writes that
    /// were refused with it, the first one's word counts.
    pub(super) fn forget(&self, session: &Session) {
        let current = self.current.load_full();
        if current.as_ref().is_some_and(|current| current.serial == session.serial) {
            self.current.compare_and_swap(&current, None);
        }
    }

    async fn fetch(&self, token: &Usable) -> (FetchOutcome, Option<Session>) {
        let request = self
            .http
            .get(self.url.clone())
            .header(AUTHORIZATION, token.authorization.clone())
            .header(CUSTOM_AUTH, "true")
            .header(CSRF_TOKEN, "fetch");
        let answer = match request.send().await {
            Ok(answer) if is_answer(&answer) => answer,
            Ok(_) => return (FetchOutcome::Refused, None),
            Err(_) => return (FetchOutcome::Failed, None),
        };
        let session = Session {
            generation: token.generation,
            serial: self.serial.fetch_add(1, Ordering::Relaxed),
            token: told(answer.headers()),
            cookies: cookies(answer.headers()),
        };
        if session.cookies.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
            > MAX_COOKIES
        {
            return (FetchOutcome::Refused, None);
        }
        let outcome = match session.token {
            Some(_) => FetchOutcome::Fetched,
            None => FetchOutcome::NoneNeeded,
        };
        (outcome, Some(session))
    }
}

/// Whether a fetch was answered at all: a login page is none, nor is any other HTML.
fn is_answer(answer: &Response) -> bool {
    let verdict =
        recover::judge(&Method::GET, &HeaderMap::new(), answer.status(), answer.headers());
    answer.status().is_success() && verdict == Verdict::Answer
}

/// The token in an answer, sensitive as all that lets somebody write.
fn told(answer: &HeaderMap) -> Option<HeaderValue> {
    let mut token = answer.get(CSRF_TOKEN)?.clone();
    token.set_sensitive(true);
    let is_complaint = token.as_bytes().eq_ignore_ascii_case(b"required");
    (!is_complaint && !token.is_empty()).then_some(token)
}

/// The cookies that an answer sets, the last of each name, without those that it deletes.
fn cookies(answer: &HeaderMap) -> Vec<(String, String)> {
    let mut kept: Vec<(String, String)> = Vec::new();
    let set = answer.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
    for cookie in set.filter_map(|text| Cookie::parse(text).ok()) {
        kept.retain(|(name, _)| name != cookie.name());
        if !is_deletion(&cookie) {
            kept.push((cookie.name().to_owned(), cookie.value().to_owned()));
        }
    }
    kept
}

/// RFC 6265 section 3.1: a cookie is removed by an expiry in the past.
fn is_deletion(cookie: &Cookie<'_>) -> bool {
    let now = cookie::time::OffsetDateTime::now_utc();
    cookie.max_age().is_some_and(|age| !age.is_positive())
        || cookie.expires_datetime().is_some_and(|expiry| expiry <= now)
}

/// Whether bearerd speaks CSRF for this request: it is a write, and its caller does not do so itself.
pub(super) fn speaks_for(request: &RequestHeader) -> bool {
    is_write(&request.method) && !does_itself(request)
}

fn is_write(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE)
}

/// Whether the caller sends a token of its own, or asks for one.
fn does_itself(request: &RequestHeader) -> bool {
    request.headers.contains_key(CSRF_TOKEN)
}

/// Puts the token and the cookies of a session into a write. The caller's own cookies win.
pub(super) fn inject(request: &mut RequestHeader, session: &Session) -> pingora::Result<()> {
    if let Some(token) = &session.token {
        request.insert_header(CSRF_TOKEN, token)?;
    }
    if session.cookies.is_empty() {
        return Ok(());
    }
    // Bytes, since a caller's cookie may be anything that a header can hold.
    let own: Vec<&[u8]> =
        request.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let mut all = own.join(&b"; "[..]);
    let own = all.clone();
    for (name, value) in &session.cookies {
        if own.split(|byte| *byte == b';').any(|pair| is_named(pair, name)) {
            continue;
        }
        if !all.is_empty() {
            all.extend_from_slice(b"; ");
        }
        all.extend_from_slice(format!("{name}={value}").as_bytes());
    }
    let mut value = HeaderValue::from_bytes(&all).map_err(|error| {
        pingora::Error::because(pingora::ErrorType::InternalError, "a cookie is no header", error)
    })?;
    value.set_sensitive(true);
    request.insert_header(COOKIE, value)
}

/// Whether a pair of a `Cookie` header has this name.
fn is_named(pair: &[u8], name: &str) -> bool {
    let given = pair.split(|byte| *byte == b'=').next().unwrap_or(pair);
    given.trim_ascii() == name.as_bytes()
}

/// Takes out of an answer what belongs to bearerd's own CSRF: callers that do not speak it are
/// confused by the token (the `datasphere` CLI prints nothing), and must not keep the cookies.
pub(super) fn strip(request: &RequestHeader, response: &mut ResponseHeader, is_managed: bool) {
    if does_itself(request) {
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

    fn request(headers: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut request = RequestHeader::build("POST", b"/", None).unwrap();
        for (name, value) in headers {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    fn session(cookies: &[(&str, &str)]) -> Session {
        let cookies = cookies.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Session {
            generation: 1,
            serial: 1,
            token: Some(HeaderValue::from_static("abc")),
            cookies: cookies.collect(),
        }
    }

    fn cookie_sent(own: &[(&'static str, &'static str)], kept: &[(&str, &str)]) -> Option<String> {
        let mut request = request(own);
        inject(&mut request, &session(kept)).unwrap();
        let cookies: Vec<_> = request.headers.get_all(COOKIE).iter().collect();
        assert!(cookies.len() <= 1);
        cookies.first().map(|cookie| cookie.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_callers_cookies_win_by_name() {
        let kept = [("JSESSIONID", "ours"), ("__VCAP_ID__", "1")];
        assert_eq!(cookie_sent(&[], &kept).unwrap(), "JSESSIONID=ours; __VCAP_ID__=1");
        let own = [("cookie", "JSESSIONID=own; a=b")];
        assert_eq!(cookie_sent(&own, &kept).unwrap(), "JSESSIONID=own; a=b; __VCAP_ID__=1");
        let two = [("cookie", "a=b"), ("cookie", "c=d")];
        assert_eq!(cookie_sent(&two, &[("e", "f")]).unwrap(), "a=b; c=d; e=f");
        let odd = RequestHeader::build("POST", b"/", None).map(|mut request| {
            let own = HeaderValue::from_bytes(b"a=\xe9; u=own").unwrap();
            request.insert_header(COOKIE, own).unwrap();
            inject(&mut request, &session(&[("a", "ours"), ("b", "1")])).unwrap();
            request.headers[COOKIE].as_bytes().to_vec()
        });
        assert_eq!(odd.unwrap(), b"a=\xe9; u=own; b=1");
        assert_eq!(cookie_sent(&[], &[]), None);
        assert_eq!(cookie_sent(&own, &[]).unwrap(), "JSESSIONID=own; a=b");
    }

    #[test]
    fn deleted_cookies_and_complaints_are_not_kept() {
        let mut answer = HeaderMap::new();
        for value in [
            "a=0",
            "a=1; Path=/; HttpOnly",
            "b=; Max-Age=0",
            "gone=; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            "nonsense",
            "c=x=y; Secure; Expires=Fri, 01 Jan 2100 00:00:00 GMT",
        ] {
            answer.append(SET_COOKIE, HeaderValue::from_static(value));
        }
        let kept = [("a".to_owned(), "1".to_owned()), ("c".to_owned(), "x=y".to_owned())];
        assert_eq!(cookies(&answer), kept);
        answer.insert(CSRF_TOKEN, HeaderValue::from_static("Required"));
        assert!(told(&answer).is_none());
        answer.insert(CSRF_TOKEN, HeaderValue::from_static("abc"));
        assert!(told(&answer).unwrap().is_sensitive());
    }

    #[test]
    fn only_writes_of_callers_that_bring_nothing_are_spoken_for() {
        assert!(speaks_for(&request(&[])));
        assert!(!speaks_for(&request(&[("X-CSRF-Token", "own")])));
        let read = RequestHeader::build("GET", b"/", None).unwrap();
        assert!(!speaks_for(&read));
    }

    #[test]
    fn an_answer_keeps_its_token_for_those_who_speak_csrf_themselves() {
        let answer = |own: &[(&'static str, &'static str)], managed| {
            let mut response = ResponseHeader::build(200, None).unwrap();
            response.insert_header(CSRF_TOKEN, "abc").unwrap();
            response.insert_header(SET_COOKIE, "a=b").unwrap();
            strip(&request(own), &mut response, managed);
            (response.headers.contains_key(CSRF_TOKEN), response.headers.contains_key(SET_COOKIE))
        };
        assert_eq!(answer(&[("x-csrf-token", "fetch")], true), (true, true));
        assert_eq!(answer(&[], true), (false, false));
        assert_eq!(answer(&[], false), (false, true));
    }
}
