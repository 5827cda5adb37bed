//! What a write needs besides its bearer token: a token against cross-site request forgery (CSRF).
//!
//! A client fetches one by a GET with `x-csrf-token: fetch`, at `/api/v1/csrf` or at any path of a guarded API, and
//! finds it in the answer's header of the same name, whatever the answer's status. A write without a good one gets
//! **403 with `x-csrf-token: Required`**; a 403 without that header is about rights, and no new token helps.
//!
//! A token is good only together with the very bearer token that fetched it: who gets a new access token needs a new
//! one of these, too. Some tenants keep it in a session besides, and expect the session's cookies ([`CsrfRegime`]).
//! OData consumption is not guarded: it only reads, `$batch` included.

use std::collections::HashMap;
use std::sync::Mutex;

use axum::Router;
use axum::http::header::{COOKIE, HeaderName, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::get;
use uuid::Uuid;

use super::answer::{self, is_under};
use super::faults::CsrfRegime;
use super::state::{Shared, TenantState, lock};

const X_CSRF_TOKEN: HeaderName = HeaderName::from_static("x-csrf-token");

/// Where people and programs are told to fetch a token.
const FETCH_PATH: &str = "/api/v1/csrf";

/// The APIs whose writes are guarded.
const GUARDED: [&str; 6] = [
    "/api/v1/scim2",
    "/api/v1/content",
    "/api/v1/audit",
    "/api/v1/datasphere",
    "/dwaas-core",
    "/api/v1/spaces",
];

/// The one exception.
const CONSUMPTION: &str = "/api/v1/datasphere/consumption";

/// The approuter's session, and the instance that holds it.
const COOKIES: [&str; 2] = ["JSESSIONID", "__VCAP_ID__"];

/// The path that is there to be asked for a token; the front door adds it to the answer.
pub(super) fn routes() -> Router<Shared> {
    Router::new().route(FETCH_PATH, get(StatusCode::OK))
}

/// The CSRF tokens given out since the start.
#[derive(Default)]
pub(super) struct CsrfTokens(Mutex<HashMap<String, Grant>>);

/// What belongs to a CSRF token.
struct Grant {
    /// The id (`jti`) of the bearer token that fetched it.
    bearer: String,
    /// The values of [`COOKIES`], if it came with a session.
    session: Option<[String; 2]>,
}

impl CsrfTokens {
    fn add(&self, token: String, grant: Grant) {
        lock(&self.0).insert(token, grant);
    }

    fn forget(&self, token: &str) {
        lock(&self.0).remove(token);
    }

    /// Whether the token was given to this bearer and, where sessions count, the request has the session's cookies.
    fn admit(&self, token: &str, bearer: &str, regime: CsrfRegime, headers: &HeaderMap) -> bool {
        let grants = lock(&self.0);
        let Some(grant) = grants.get(token).filter(|grant| grant.bearer == bearer) else {
            return false;
        };
        regime != CsrfRegime::Session
            || grant.session.as_ref().is_some_and(|session| {
                COOKIES.iter().zip(session).all(|(name, value)| has_cookie(headers, name, value))
            })
    }
}

/// Whether the request may go on; if not, [`required`] is the answer. `bearer` is the id of its bearer token.
pub(super) fn admits(
    state: &TenantState,
    regime: CsrfRegime,
    bearer: &str,
    request: &Parts,
) -> bool {
    let guarded = is_write(&request.method) && is_guarded(request.uri.path());
    if regime == CsrfRegime::Off || !guarded {
        return true;
    }
    let Some(token) = only_value(&request.headers) else {
        return false;
    };
    if !state.csrf.admit(token, bearer, regime, &request.headers) {
        return false;
    }
    let rejected = state.take_csrf_rejection();
    if rejected {
        state.csrf.forget(token);
    }
    !rejected
}

/// 403 to a write without a good token.
pub(super) fn required() -> Response {
    let description = "a write needs a CSRF token of its own bearer token";
    let response = answer::error(StatusCode::FORBIDDEN, "csrf_token_required", description);
    ([(X_CSRF_TOKEN, "Required")], response).into_response()
}

/// Whether the answer to this request is to carry a token.
pub(super) fn is_fetch(regime: CsrfRegime, request: &Parts) -> bool {
    let reads = request.method == Method::GET || request.method == Method::HEAD;
    let path = request.uri.path();
    reads
        && regime != CsrfRegime::Off
        && (path == FETCH_PATH || is_guarded(path))
        && only_value(&request.headers).is_some_and(|value| value.eq_ignore_ascii_case("fetch"))
}

/// Adds a new token to the answer, with a new session where sessions count.
pub(super) fn give(
    state: &TenantState,
    regime: CsrfRegime,
    bearer: String,
    answer: Response,
) -> Response {
    // Told by their names, wherever they should turn up.
    let [token, id, instance] = ["demo-csrf", "demo-session", "demo-instance"]
        .map(|kind| format!("{kind}-{}", Uuid::new_v4().simple()));
    let session = (regime == CsrfRegime::Session).then_some([id, instance]);
    let cookies = session.as_ref().map(|[id, instance]| {
        let [id_name, instance_name] = COOKIES;
        AppendHeaders([
            (SET_COOKIE, format!("{id_name}={id}; Path=/; HttpOnly; Secure")),
            (SET_COOKIE, format!("{instance_name}={instance}; Path=/; Secure")),
        ])
    });
    state.csrf.add(token.clone(), Grant { bearer, session });
    state.count(|seen| seen.csrf_fetches += 1);
    ([(X_CSRF_TOKEN, token)], cookies, answer).into_response()
}

fn is_write(method: &Method) -> bool {
    ["POST", "PUT", "PATCH", "DELETE", "MERGE"].contains(&method.as_str())
}

fn is_guarded(path: &str) -> bool {
    GUARDED.iter().any(|api| is_under(path, api)) && !is_under(path, CONSUMPTION)
}

/// The request's `x-csrf-token`, if it has exactly one.
fn only_value(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(X_CSRF_TOKEN).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Whether the request has this cookie once, with this value. Other cookies do no harm.
fn has_cookie(headers: &HeaderMap, name: &str, value: &str) -> bool {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut found = pairs
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(cookie, _)| *cookie == name)
        .map(|(_, value)| value);
    found.next() == Some(value) && found.next().is_none()
}
