//! What a caller without a valid token gets to see when the front door takes it for a browser.
//!
//! The tenant stands behind SAP's approuter. To a GET that is not authenticated it may answer **200** with an HTML page
//! whose script sends the browser to log on: a program that looks at the status alone takes that page for data.
//! Anything but a GET, and a GET that calls itself an `XMLHttpRequest`, gets an honest 401.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, HOST, LOCATION, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{AppendHeaders, Html, IntoResponse, Response};
use futures_util::stream;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::bearer::Refusal;
use super::faults::delay;
use super::state::TenantState;

/// 200 and a page that leads to the login, for a browser; 401 for anything else. The page comes `body_delay` after its
/// header, in milliseconds.
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

/// Where people log on, with the way back to the origin that the request was made to.
fn authorize_url(state: &TenantState, headers: &HeaderMap) -> String {
    let back = format!("{}/login/callback", origin(state, headers));
    format!(
        "{}/oauth/authorize?response_type=code&client_id={}&redirect_uri={}",
        state.issuer_origin,
        utf8_percent_encode(&state.client.id, NON_ALPHANUMERIC),
        utf8_percent_encode(&back, NON_ALPHANUMERIC),
    )
}

/// The tenant's origin as the caller knows it: `https://` and what the request's `Host` says. A proxy that forwards
/// its own `Host` gets back links to itself, one that sets the tenant's gets links to the tenant.
pub(super) fn origin(state: &TenantState, headers: &HeaderMap) -> String {
    match headers.get(HOST).and_then(|host| host.to_str().ok()) {
        Some(host) => format!("https://{host}"),
        None => state.tenant_origin.clone(),
    }
}

fn is_script(headers: &HeaderMap) -> bool {
    headers
        .get("x-requested-with")
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"XMLHttpRequest"))
}
