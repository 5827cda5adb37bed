//! Fetches, keeps and renews CSRF tokens, each with the cookies of its session.

use super::backoff::{FetchFailures, Need};
use crate::http_client::HttpClient;
use crate::metrics::CsrfMetrics;
use crate::metrics::labels::{CsrfFetch, TokenRefusal};
use crate::proxy::injected_headers::CUSTOM_AUTH;
use crate::proxy::token_refusal::{self, AnswerVerdict, RequestKind, X_CSRF_TOKEN as CSRF_TOKEN};
use crate::proxy::upstream::UpstreamHandle;
use crate::redact::Secrets;
use crate::retry_after::server_time;
use crate::token::store::Usable;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use cookie::Cookie;
use cookie::time::OffsetDateTime;
use http::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;
use url::Url;

/// The largest number of bytes of cookies in a session. Front ends refuse larger headers.
const MAX_COOKIES: usize = 16 * 1024;

/// The CSRF tokens of one OAuth client at one upstream.
#[derive(Debug)]
pub(crate) struct CsrfTokens {
    http: HttpClient,
    url: Url,
    metrics: CsrfMetrics,
    current: ArcSwapOption<CsrfSession>,
    /// Locked during a fetch: other requests wait for its result.
    fetching: Arc<Mutex<Option<FetchFailures>>>,
    serial: AtomicU64,
}

/// The shortest cookie value that is secret. A shorter one occurs in any text.
const SHORTEST_SECRET: usize = 8;
/// The shortest secret that is a single word or number. Shorter ones, for example `disabled` or
/// `20261130`, identify no session.
const SHORTEST_WORD: usize = 16;
/// Cookies with settings, which occur in links: `sap-language=EN&sap-client=100`.
const SETTINGS: [&str; 2] = ["sap-usercontext", "sap-language"];

/// The result of a fetch: a CSRF token and its cookies.
#[derive(Debug)]
pub(in crate::proxy) struct CsrfSession {
    /// The generation of the access token with which it was fetched. It is valid with no other.
    generation: u64,
    serial: u64,
    /// When the fetch started. The session was valid after that.
    fetched_at: Instant,
    pub(super) token: Option<HeaderValue>,
    /// Names and values, as the upstream set them.
    pub(super) cookies: Vec<(String, String)>,
}

impl CsrfSession {
    #[cfg(test)]
    pub(super) fn of(token: HeaderValue, cookies: Vec<(String, String)>) -> Self {
        Self { generation: 1, serial: 1, fetched_at: Instant::now(), token: Some(token), cookies }
    }

    /// The secrets of the session: its token, and the values of its cookies.
    pub(in crate::proxy) fn secrets(&self) -> Option<Secrets> {
        let cookies = self.cookies.iter().filter(|(name, value)| is_secret(name, value));
        let values = cookies.map(|(_, value)| value.trim_matches('"').as_bytes());
        let all = values.chain(self.token.iter().map(HeaderValue::as_bytes));
        Secrets::new(all.map(Bytes::copy_from_slice), SHORTEST_SECRET)
    }
}

/// Whether a cookie's value may identify a session.
fn is_secret(name: &str, value: &str) -> bool {
    let is_word = value.bytes().all(|byte| byte.is_ascii_alphabetic())
        || value.bytes().all(|byte| byte.is_ascii_digit());
    let is_setting = SETTINGS.iter().any(|known| known.eq_ignore_ascii_case(name));
    let is_short_word = is_word && value.len() < SHORTEST_WORD;
    !is_setting && !is_short_word
}

impl CsrfTokens {
    /// Creates the CSRF tokens of an upstream, if they are managed.
    pub(in crate::proxy) fn new(upstream: &UpstreamHandle, metrics: CsrfMetrics) -> Option<Self> {
        Some(Self {
            http: upstream.http.clone(),
            url: upstream.csrf_url.clone()?,
            metrics,
            current: ArcSwapOption::empty(),
            fetching: Arc::default(),
            serial: AtomicU64::new(0),
        })
    }

    /// Returns the session for an access token: the one that is kept, or a new one. `None` if none
    /// can be fetched now.
    pub(in crate::proxy) async fn get_or_fetch(
        self: &Arc<Self>,
        token: &Usable,
        need: Need,
    ) -> Option<Arc<CsrfSession>> {
        if let Some(kept) = self.good(token.generation, need) {
            return Some(kept);
        }
        let failing = self.fetching.clone().lock_owned().await;
        if let Some(kept) = self.good(token.generation, need) {
            return Some(kept);
        }
        let kept = self.kept(token.generation);
        let now = Instant::now();
        if failing.is_some_and(|failing| !failing.is_over(token.generation, need, now)) {
            return kept;
        }
        // A separate task: other requests wait for its result even if this caller leaves.
        let renewal = self.clone().renew(token.clone(), need, failing);
        tokio::spawn(renewal).await.ok().flatten()
    }

    /// Renews the session. Returns the one that is kept if no new one can be fetched.
    async fn renew(
        self: Arc<Self>,
        token: Usable,
        need: Need,
        mut failing: OwnedMutexGuard<Option<FetchFailures>>,
    ) -> Option<Arc<CsrfSession>> {
        let kept = self.kept(token.generation);
        let (outcome, session) = self.fetch_session(&token, kept.as_deref()).await;
        self.metrics.record_fetch(outcome);
        let Some(session) = session else {
            *failing = Some(FetchFailures::with(*failing, token.generation, need, Instant::now()));
            // A session that may have expired is better than none.
            return kept;
        };
        *failing = None;
        let session = Arc::new(session);
        let current = self.current.load();
        // A late fetch with an old access token must not replace a newer session.
        if current.as_ref().is_none_or(|current| current.generation <= session.generation) {
            self.current.store(Some(session.clone()));
        }
        Some(session)
    }

    fn kept(&self, generation: u64) -> Option<Arc<CsrfSession>> {
        self.current.load_full().filter(|session| session.generation == generation)
    }

    /// The session that is kept, if it is good enough for this need.
    fn good(&self, generation: u64, need: Need) -> Option<Arc<CsrfSession>> {
        self.kept(generation).filter(|session| match need {
            Need::Usual | Need::Required(_) => true,
            // Without a token, nothing can be stale.
            Need::Sure(since) => session.fetched_at >= since || session.token.is_none(),
        })
    }

    /// Forgets a session that the upstream refused, so that the next write fetches another. If many
    /// writes were refused with it, only the first forgets it.
    pub(in crate::proxy) fn forget(&self, session: &CsrfSession) {
        let current = self.current.load_full();
        if current.as_ref().is_some_and(|current| current.serial == session.serial) {
            self.current.compare_and_swap(&current, None);
        }
    }

    /// Fetches a session with the cookies of the one that is kept, as a browser does, so that a
    /// valid one continues. If that brings no token, fetches a new session.
    async fn fetch_session(
        &self,
        token: &Usable,
        kept: Option<&CsrfSession>,
    ) -> (CsrfFetch, Option<CsrfSession>) {
        let with_cookies = kept.filter(|kept| !kept.cookies.is_empty());
        let (outcome, session) = self.fetch(token, with_cookies).await;
        let has_token = session.as_ref().is_some_and(|session| session.token.is_some());
        if with_cookies.is_none() || has_token || outcome == CsrfFetch::Failed {
            return (outcome, session);
        }
        self.fetch(token, None).await
    }

    async fn fetch(
        &self,
        token: &Usable,
        kept: Option<&CsrfSession>,
    ) -> (CsrfFetch, Option<CsrfSession>) {
        let fetched_at = Instant::now();
        let mut request = self
            .http
            .get(self.url.clone())
            .header(AUTHORIZATION, token.authorization.clone())
            .header(CUSTOM_AUTH, "true")
            .header(CSRF_TOKEN, "fetch");
        let before = kept.map_or(&[][..], |kept| &kept.cookies);
        if !before.is_empty() {
            let pairs: Vec<_> =
                before.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let Ok(mut value) = HeaderValue::from_str(&pairs.join("; ")) else {
                return (CsrfFetch::Refused, None);
            };
            value.set_sensitive(true);
            request = request.header(COOKIE, value);
        }
        let Ok(answer) = self.http.send(request).await else {
            return (CsrfFetch::Failed, None);
        };
        let token_value = token_in(answer.headers());
        let outcome = outcome(answer.status(), answer.headers(), token_value.is_some());
        let cookies = cookies(before, answer.headers());
        let size = cookies.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if outcome == CsrfFetch::Refused || size > MAX_COOKIES {
            return (CsrfFetch::Refused, None);
        }
        let session = CsrfSession {
            generation: token.generation,
            serial: self.serial.fetch_add(1, Ordering::Relaxed),
            fetched_at,
            token: token_value,
            cookies,
        };
        (outcome, Some(session))
    }
}

/// The outcome of a fetch. An answer with a token is a success whatever its status: a path that
/// returns tokens need not be a readable resource. A login page is never a success.
fn outcome(status: StatusCode, headers: &HeaderMap, has_token: bool) -> CsrfFetch {
    let is_login = match token_refusal::classify(|| RequestKind::Read, false, status, headers) {
        AnswerVerdict::Refused(refusal) => refusal != TokenRefusal::Forbidden,
        AnswerVerdict::Suspect => !has_token,
        AnswerVerdict::Answer | AnswerVerdict::WantsCsrf | AnswerVerdict::Unsure => false,
    };
    match has_token {
        _ if is_login => CsrfFetch::Refused,
        true => CsrfFetch::Fetched,
        false if status.is_success() => CsrfFetch::NoneNeeded,
        false => CsrfFetch::Refused,
    }
}

/// The token in an answer, marked sensitive.
fn token_in(answer: &HeaderMap) -> Option<HeaderValue> {
    let mut token = answer.get(CSRF_TOKEN)?.clone();
    token.set_sensitive(true);
    let is_requirement = token.as_bytes().eq_ignore_ascii_case(b"required");
    (!is_requirement && !token.is_empty()).then_some(token)
}

/// The earlier cookies and those that an answer sets, the last of each name, without those that it
/// deletes. Expiry is checked by the server's clock: the local clock may be ahead.
fn cookies(before: &[(String, String)], answer: &HeaderMap) -> Vec<(String, String)> {
    let now = server_time(answer).unwrap_or_else(SystemTime::now).into();
    let mut kept = before.to_vec();
    let set = answer.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
    for cookie in set.filter_map(|text| Cookie::parse(text).ok()) {
        kept.retain(|(name, _)| name != cookie.name());
        if !is_deletion(&cookie, now) {
            kept.push((cookie.name().to_owned(), cookie.value().to_owned()));
        }
    }
    kept
}

/// Whether a cookie is deleted by an expiry in the past (RFC 6265 section 3.1). `Max-Age` takes
/// precedence over `Expires`.
fn is_deletion(cookie: &Cookie<'_>, now: OffsetDateTime) -> bool {
    match cookie.max_age() {
        Some(age) => !age.is_positive(),
        None => cookie.expires_datetime().is_some_and(|expiry| expiry <= now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    #[test]
    fn deleted_cookies_and_requirements_are_not_kept() {
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
        assert_eq!(cookies(&[], &answer), kept);
        let before = ["a", "b", "d"].map(|name| (name.to_owned(), "old".to_owned()));
        let merged = [("d".to_owned(), "old".to_owned())].into_iter().chain(kept);
        assert_eq!(cookies(&before, &answer), merged.collect::<Vec<_>>());
        answer.insert(CSRF_TOKEN, HeaderValue::from_static("Required"));
        assert!(token_in(&answer).is_none());
        answer.insert(CSRF_TOKEN, HeaderValue::from_static("abc"));
        assert!(token_in(&answer).unwrap().is_sensitive());
    }

    #[test]
    fn a_cookie_ends_by_the_servers_clock() {
        let cookies = |date: &'static str| {
            let set = "a=1; Expires=Fri, 01 Jan 2010 12:00:00 GMT";
            let headers = [(SET_COOKIE, set), (http::header::DATE, date)];
            let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
            cookies(&[], &HeaderMap::from_iter(headers)).len()
        };
        assert_eq!(cookies("Fri, 01 Jan 2010 10:00:00 GMT"), 1, "the local clock is years ahead");
        assert_eq!(cookies("Fri, 01 Jan 2010 14:00:00 GMT"), 0);
    }

    #[test]
    fn an_answer_with_a_token_counts_whatever_its_status_and_a_login_page_never() {
        let outcome = |status: u16, lines: &[(&'static str, &'static str)]| {
            let line = |(name, value): &(&'static str, &'static str)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            };
            let headers: HeaderMap = lines.iter().map(line).collect();
            let status = StatusCode::from_u16(status).unwrap();
            outcome(status, &headers, token_in(&headers).is_some())
        };
        let token = ("x-csrf-token", "abc");
        for status in [200, 204, 400, 403, 404, 405, 406, 415, 429, 500, 501, 503] {
            assert_eq!(outcome(status, &[token]), CsrfFetch::Fetched, "{status}");
        }
        let html = ("content-type", "text/html");
        assert_eq!(outcome(404, &[token, html]), CsrfFetch::Fetched);
        assert_eq!(outcome(200, &[]), CsrfFetch::NoneNeeded);
        let login = ("location", "/oauth/authorize");
        for (status, headers) in [
            (401, vec![token]),
            (302, vec![token, login]),
            (200, vec![token, html, ("set-cookie", "locationAfterLogin=x")]),
            (200, vec![html]),
            (403, vec![("x-csrf-token", "Required")]),
            (404, vec![]),
            (500, vec![]),
        ] {
            assert_eq!(outcome(status, &headers), CsrfFetch::Refused, "{status} {headers:?}");
        }
    }
}
