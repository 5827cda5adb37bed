//! How a client proves itself to the token endpoint.
//!
//! 1. In the parameters (`client_id`, `client_secret`): what SAP's own libraries do, and the way without traps.
//! 2. HTTP Basic with id and secret **as they are**: what SAP documents, and not what RFC 6749 §2.3.1 says.
//! 3. HTTP Basic with id and secret **form-encoded first**, as RFC 6749 says; UAA decodes them only if the request also
//!    has `X-CF-ENCODED-CREDENTIALS: true`. Without that header an id with `|` or `!` does not match any more; with
//!    it, a raw secret with `+` does not.
//! 4. With no secret, but an assertion signed with a private key: see [`assertion`].
//!
//! A client certificate has a listener of its own: see [`certificate`](super::certificate).

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Parameters, Proof, Refusal, assertion};
use crate::demo::state::TenantState;

/// Checks the client's id and secret, or its assertion, wherever they are. Basic goes before parameters, as in UAA.
pub(super) fn check(
    state: &TenantState,
    headers: &HeaderMap,
    parameters: &Parameters,
) -> Result<Proof, Refusal> {
    let client = &state.client;
    let (id, secret) = match headers.get(AUTHORIZATION) {
        Some(value) => {
            from_basic(value.as_bytes(), is_encoded(headers)).ok_or(Refusal::BadCredentials)?
        }
        None if assertion::is_in(parameters) => {
            assertion::check(client, &state.token_url(), parameters, state.issuer_now())?;
            return Ok(Proof::Assertion);
        }
        None => from_parameters(parameters).ok_or(Refusal::NoCredentials)?,
    };
    if id == client.id && client.has_secret(&secret) {
        Ok(Proof::Secret)
    } else {
        Err(Refusal::BadCredentials)
    }
}

fn from_parameters(parameters: &Parameters) -> Option<(String, String)> {
    let id = parameters.get("client_id")?;
    // A client without a secret is known, but can't get in.
    let secret = parameters.get("client_secret").unwrap_or_default();
    Some((id.to_owned(), secret.to_owned()))
}

fn from_basic(authorization: &[u8], encoded: bool) -> Option<(String, String)> {
    let (scheme, rest) = std::str::from_utf8(authorization).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    Some(if encoded {
        (form_decode(id), form_decode(secret))
    } else {
        (id.to_owned(), secret.to_owned())
    })
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get("x-cf-encoded-credentials")
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

/// `application/x-www-form-urlencoded`: `+` is a space.
fn form_decode(text: &str) -> String {
    percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}
