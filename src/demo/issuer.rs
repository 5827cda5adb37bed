//! The token endpoint, as XSUAA (Cloud Foundry's UAA) answers a client with the
//! `client_credentials` grant.
//!
//! Three points matter to a client:
//!
//! - There is no refresh token: for another token, a client makes the same request again.
//! - `token_type` is in lower case.
//! - A client can authenticate in several ways, and HTTP Basic is easy to get wrong (see
//!   [`credentials`]).

mod assertion;
mod certificate;
mod credentials;
mod error;
mod fault;
mod grant;
mod parameters;

use super::answer;
use super::registered_client::AuthMethod;
use super::state::{Shared, TenantState};
use super::time::delay;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::DATE;
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use axum_server::tls::TlsInfo;
use error::{RefusedTokenRequest, no_store};
use parameters::Parameters;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// The routes of the issuer.
pub(super) fn routes(state: Shared) -> Router {
    Router::new()
        .route("/oauth/token", get(token).post(token))
        // Some clients keep a slash at the end of the configured URL.
        .route("/oauth/token/", get(token).post(token))
        .route("/oauth/authorize", get(login))
        .route("/token_keys", get(token_keys))
        .fallback(answer::no_such_path)
        .method_not_allowed_fallback(answer::method_not_allowed)
        .with_state(state)
}

/// The routes of the host for client certificates.
pub(super) fn certificate_routes(state: Shared) -> Router {
    Router::new()
        .route("/oauth/token", get(token_for_certificate).post(token_for_certificate))
        .route("/oauth/token/", get(token_for_certificate).post(token_for_certificate))
        .fallback(answer::no_such_path)
        .method_not_allowed_fallback(answer::method_not_allowed)
        .with_state(state)
}

/// The public half of the signing key, as a JWK set.
async fn token_keys(State(state): State<Shared>) -> Json<Value> {
    Json(state.keys.jwk_set())
}

/// The login page for people. A technical user should never get it.
async fn login() -> Html<&'static str> {
    Html(
        "<!doctype html><title>Log on</title><h1>Log on</h1>\
         <p>This is where people log on. Programs use /oauth/token.",
    )
}

async fn token(State(state): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let parameters = Parameters::parse(&uri, &body);
    respond(&state, &parameters, || credentials::authenticate(&state, &headers, &parameters)).await
}

async fn token_for_certificate(
    State(state): State<Shared>,
    Extension(tls): Extension<Arc<TlsInfo>>,
    uri: Uri,
    body: Bytes,
) -> Response {
    let parameters = Parameters::parse(&uri, &body);
    let authenticate =
        || certificate::authenticate(&state.client.id, &tls.peer_certificates, &parameters);
    respond(&state, &parameters, authenticate).await
}

/// Answers a token request of a client that `authenticate` accepts.
async fn respond(
    state: &TenantState,
    parameters: &Parameters,
    authenticate: impl FnOnce() -> Result<AuthMethod, RefusedTokenRequest>,
) -> Response {
    state.record(|seen| seen.token_requests += 1);
    let faults = state.faults();
    delay(faults.issuer_delay_ms).await;
    if let Some(response) = fault::response(&faults).await {
        return with_date(state, response);
    }
    let granted = authenticate()
        .and_then(|method| Ok((method, grant::issue(state, faults.token_lifetime, parameters)?)));
    let response = match granted {
        Ok((method, answer)) => {
            state.record(|seen| seen.add_issued(method));
            no_store(Json(answer).into_response())
        }
        Err(error) => error.into_response(),
    };
    with_date(state, response)
}

/// Sets `Date` by the issuer's clock.
fn with_date(state: &TenantState, mut response: Response) -> Response {
    let time = UNIX_EPOCH + Duration::from_secs(state.issuer_now());
    if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(time)) {
        response.headers_mut().insert(DATE, date);
    }
    response
}
