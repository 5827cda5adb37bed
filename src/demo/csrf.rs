//! Tokens against cross-site request forgery (CSRF). A write needs one in addition to its bearer
//! token.
//!
//! A client fetches one by a GET with `x-csrf-token: fetch`, at `/api/v1/csrf` or at any path of a
//! guarded API. The response carries it in a header of the same name, whatever its status. A write
//! without a valid one gets **403 with `x-csrf-token: Required`**. A 403 without that header is
//! about rights, and a new CSRF token does not help.
//!
//! A CSRF token is valid only with the bearer token that fetched it. A client with a new access
//! token therefore needs a new CSRF token. Some tenants also bind it to a session, and expect the
//! session's cookies ([`CsrfRegime`]). OData consumption is not guarded, because it only reads,
//! even by `$batch`.

use super::answer::{self, is_under};
use super::faults::CsrfRegime;
use super::state::TenantState;
use axum::Router;
use axum::http::header::{COOKIE, HeaderName, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex;
use std::collections::HashMap;
use uuid::Uuid;

const X_CSRF_TOKEN: HeaderName = HeaderName::from_static("x-csrf-token");

/// The documented path to fetch a token from.
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

/// The only part of a guarded API that is not guarded.
const CONSUMPTION: &str = "/api/v1/datasphere/consumption";

/// Names of the cookies for the approuter's session and for the instance that holds it.
const COOKIES: [&str; 2] = ["JSESSIONID", "__VCAP_ID__"];

/// The path to fetch a token from. It answers with an empty 200, to which the token is added.
pub(super) fn routes() -> Router {
    Router::new().route(FETCH_PATH, get(StatusCode::OK))
}

/// The CSRF tokens issued since the start.
#[derive(Default)]
pub(super) struct CsrfSessions(Mutex<HashMap<String, Grant>>);

/// What a CSRF token is bound to.
struct Grant {
    /// The id (`jti`) of the bearer token that fetched it.
    bearer: String,
    /// The values of [`COOKIES`], if it came with a session.
    session: Option<[String; 2]>,
}

/// The response to a write without a valid CSRF token.
pub(super) struct TokenRequired;

impl IntoResponse for TokenRequired {
    fn into_response(self) -> Response {
        let description = "a write needs a CSRF token that was fetched with its own bearer token";
        let response = answer::error(StatusCode::FORBIDDEN, "csrf_token_required", description);
        ([(X_CSRF_TOKEN, "Required")], response).into_response()
    }
}

impl CsrfSessions {
    /// Checks the CSRF token of a write. `bearer` is the id of its bearer token. A token that is
    /// rejected because of `csrf_reject_next` in the faults is not valid any more.
    pub(super) fn check(
        &self,
        state: &TenantState,
        regime: CsrfRegime,
        bearer: &str,
        request: &Parts,
    ) -> Result<(), TokenRequired> {
        if regime == CsrfRegime::Off
            || !is_write(&request.method)
            || !is_guarded(request.uri.path())
        {
            return Ok(());
        }
        let token = only_value(&request.headers).ok_or(TokenRequired)?;
        if !self.is_valid(token, bearer, regime, &request.headers) {
            return Err(TokenRequired);
        }
        if state.take_csrf_rejection() {
            self.0.lock().remove(token);
            return Err(TokenRequired);
        }
        Ok(())
    }

    /// Adds a new token to the response, with a new session if the tenant has sessions.
    pub(super) fn issue(&self, regime: CsrfRegime, bearer: String, response: Response) -> Response {
        // The prefixes make the values recognisable wherever they appear.
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
        self.0.lock().insert(token.clone(), Grant { bearer, session });
        ([(X_CSRF_TOKEN, token)], cookies, response).into_response()
    }

    /// Whether the token was issued to this bearer token and, with sessions, the request has the
    /// session's cookies.
    fn is_valid(&self, token: &str, bearer: &str, regime: CsrfRegime, headers: &HeaderMap) -> bool {
        let grants = self.0.lock();
        let Some(grant) = grants.get(token).filter(|grant| grant.bearer == bearer) else {
            return false;
        };
        regime != CsrfRegime::Session
            || grant.session.as_ref().is_some_and(|session| {
                COOKIES.iter().zip(session).all(|(name, value)| has_cookie(headers, name, value))
            })
    }
}

/// Whether the response to this request is to carry a token.
pub(super) fn is_fetch(regime: CsrfRegime, request: &Parts) -> bool {
    let reads = request.method == Method::GET || request.method == Method::HEAD;
    let path = request.uri.path();
    reads
        && regime != CsrfRegime::Off
        && (path == FETCH_PATH || is_guarded(path))
        && only_value(&request.headers).is_some_and(|value| value.eq_ignore_ascii_case("fetch"))
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

/// Whether the request has this cookie exactly once, with this value, among any other cookies.
fn has_cookie(headers: &HeaderMap, name: &str, value: &str) -> bool {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut found = pairs
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(cookie, _)| *cookie == name)
        .map(|(_, value)| value);
    found.next() == Some(value) && found.next().is_none()
}
