//! Responses to a request without a valid token, if the approuter treats it as a browser's.
//!
//! SAP's approuter receives all requests to the tenant. It may answer an unauthenticated GET with
//! **200** and an HTML page, whose script redirects the browser to the login. A program that checks
//! only the status treats that page as data. Other methods get a 401, and so does a GET with
//! `X-Requested-With: XMLHttpRequest`.

use super::answer;
use super::refusal::Refusal;
use super::state::TenantState;
use super::time::delay;
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, LOCATION, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{AppendHeaders, Html, IntoResponse, Response};
use futures_util::stream;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::convert::Infallible;

/// 200 and a page that leads to the login for a browser, 401 for anything else. The page comes
/// `body_delay` milliseconds after its header.
pub(super) fn page(state: &TenantState, request: &Parts, body_delay: u64) -> Response {
    if request.method != Method::GET || is_script(&request.headers) {
        return Refusal::LoginNeeded.into_response();
    }
    let here = request.uri.path_and_query().map_or("/", |path| path.as_str());
    let after_login = utf8_percent_encode(here, NON_ALPHANUMERIC);
    let page = format!(
        "<html><head><script>\
         document.cookie=\"fragmentAfterLogin=\"+encodeURIComponent(location.hash)+\";path=/;Secure\";\
         location=\"{}\";\
         </script></head></html>",
        authorize_url(state, &request.headers)
    );
    let body = match body_delay {
        0 => Body::from(page),
        milliseconds => Body::from_stream(stream::once(async move {
            delay(milliseconds).await;
            Ok::<_, Infallible>(page)
        })),
    };
    let cookies = AppendHeaders([
        (SET_COOKIE, "fragmentAfterLogin=;Path=/;Secure;SameSite=None".to_owned()),
        (
            SET_COOKIE,
            format!("locationAfterLogin={after_login};Path=/;Secure;HttpOnly;SameSite=None"),
        ),
    ]);
    ([(CACHE_CONTROL, "no-cache, no-store")], cookies, Html(body)).into_response()
}

/// 302 to the issuer's login page.
pub(super) fn redirect(state: &TenantState, request: &Parts) -> Response {
    (StatusCode::FOUND, [(LOCATION, authorize_url(state, &request.headers))]).into_response()
}

/// The URL of the login page, which leads back to the origin of the request.
fn authorize_url(state: &TenantState, headers: &HeaderMap) -> String {
    let back = format!("{}/login/callback", answer::origin(headers, &state.tenant_origin));
    format!(
        "{}/oauth/authorize?response_type=code&client_id={}&redirect_uri={}",
        state.issuer_origin,
        utf8_percent_encode(&state.client.id, NON_ALPHANUMERIC),
        utf8_percent_encode(&back, NON_ALPHANUMERIC),
    )
}

fn is_script(headers: &HeaderMap) -> bool {
    headers
        .get("x-requested-with")
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"XMLHttpRequest"))
}
