//! The control API: faults on demand, rotation of keys and secrets, and counters. SAP has nothing
//! like it.

use super::answer;
use super::faults::DemoFaults;
use super::keys::GENERATION_TIMEOUT;
use super::seen::Seen;
use super::state::Shared;
use crate::blocking;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

/// The routes of the control API. `address` is for the help text.
pub(super) fn routes(state: Shared, address: SocketAddr) -> Router {
    let help = help(address);
    Router::new()
        .route("/", get(async move || help))
        .route(
            "/faults",
            get(read_faults).put(replace_faults).patch(merge_faults).delete(reset_faults),
        )
        .route("/rotate-keys", post(rotate_keys))
        .route("/rotate-secret", post(rotate_secret))
        .route("/old-secrets", delete(retire_old_secrets))
        .route("/seen", get(read_seen))
        .fallback(answer::no_such_path)
        .method_not_allowed_fallback(answer::method_not_allowed)
        .with_state(state)
}

fn help(address: SocketAddr) -> String {
    format!(
        "The demo tenant's control API.

Show counters and the last request:
  curl http://{address}/seen

Show the current faults:
  curl http://{address}/faults

Set some faults and keep the others:
  curl -X PATCH -d '{{\"token_lifetime\": 60}}' http://{address}/faults
  curl -X PATCH -d '{{\"issuer\": \"too_many_requests\", \"issuer_retry_after\": \"5\"}}' http://{address}/faults
  curl -X PATCH -d '{{\"tenant\": \"login_page\", \"login_page_delay_ms\": 500}}' http://{address}/faults
  curl -X PATCH -d '{{\"csrf\": \"session\", \"csrf_reject_next\": 1}}' http://{address}/faults
  curl -X PATCH -d '{{\"next_links\": \"relative\"}}' http://{address}/faults
  curl -X PATCH -d '{{\"issuer_clock_s\": -90}}' http://{address}/faults

Set some faults and reset the others:
  curl -X PUT -d '{{\"issuer_delay_ms\": 2000}}' http://{address}/faults

Reset all faults, except for token_lifetime:
  curl -X DELETE http://{address}/faults

Replace the signing key, so that every token issued so far is refused:
  curl -X POST http://{address}/rotate-keys

Make a new client secret; the old ones stay valid until they are deleted:
  curl -X POST http://{address}/rotate-secret
  curl -X DELETE http://{address}/old-secrets

issuer: none, too_many_requests, internal_error, unavailable, hang, html, empty_token, refuse_client
tenant: none, unauthorized, refuse_always, scopes_changed, login_page, login_redirect, internal_error, hang
csrf:   stateless, session, off
next_links: absolute, absolute_path, relative
"
    )
}

async fn read_faults(State(state): State<Shared>) -> Json<DemoFaults> {
    Json(state.faults())
}

/// PUT: resets the faults that the body does not name.
async fn replace_faults(
    State(state): State<Shared>,
    body: Bytes,
) -> Result<Json<DemoFaults>, BadRequest> {
    let faults = validate(serde_json::from_slice(&body)?)?;
    state.set_faults(faults.clone());
    Ok(Json(faults))
}

/// PATCH: keeps the faults that the body does not name.
async fn merge_faults(
    State(state): State<Shared>,
    body: Bytes,
) -> Result<Json<DemoFaults>, BadRequest> {
    let changes: serde_json::Map<String, Value> = serde_json::from_slice(&body)?;
    let merged = state.change_faults(|faults| -> Result<DemoFaults, BadRequest> {
        let mut merged = serde_json::to_value(faults)?;
        if let Some(fields) = merged.as_object_mut() {
            fields.extend(changes);
        }
        validate(serde_json::from_value(merged)?)
    })?;
    Ok(Json(merged))
}

async fn reset_faults(State(state): State<Shared>) -> Json<DemoFaults> {
    // The life of tokens is no fault: the demo has short ones, so that refreshes are seen.
    state
        .change_faults(|faults| {
            Ok::<_, Infallible>(DemoFaults {
                token_lifetime: faults.token_lifetime,
                ..DemoFaults::default()
            })
        })
        .unwrap_or_else(|never| match never {});
    Json(state.faults())
}

async fn read_seen(State(state): State<Shared>) -> Json<Seen> {
    Json(state.seen())
}

async fn rotate_keys(State(state): State<Shared>) -> Response {
    let shared = Arc::clone(&state);
    match blocking::within(GENERATION_TIMEOUT, move || shared.keys.rotate()).await {
        Ok(Ok(kid)) => Json(json!({ "kid": kid })).into_response(),
        Ok(Err(error)) => {
            answer::error(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", &error.to_string())
        }
        Err(_) => answer::error(
            StatusCode::SERVICE_UNAVAILABLE,
            "stopping",
            "the demo tenant is stopping",
        ),
    }
}

async fn rotate_secret(State(state): State<Shared>) -> Json<Value> {
    Json(json!({ "client_secret": state.client.rotate_secret() }))
}

async fn retire_old_secrets(State(state): State<Shared>) -> Json<Value> {
    Json(json!({ "retired": state.client.retire_old_secrets() }))
}

fn validate(faults: DemoFaults) -> Result<DemoFaults, BadRequest> {
    if faults.issuer_retry_after.as_deref().is_some_and(|text| HeaderValue::from_str(text).is_err())
    {
        let reason = "issuer_retry_after has a control character, which a header cannot carry";
        return Err(BadRequest(reason.to_owned()));
    }
    Ok(faults)
}

/// A 400 response with this reason.
struct BadRequest(String);

impl From<serde_json::Error> for BadRequest {
    fn from(error: serde_json::Error) -> Self {
        Self(format!("the body is not a JSON object of faults: {error}"))
    }
}

impl IntoResponse for BadRequest {
    fn into_response(self) -> Response {
        answer::error(StatusCode::BAD_REQUEST, "bad_request", &self.0)
    }
}
