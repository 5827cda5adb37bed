//! Client authentication with a secret or an assertion.
//!
//! 1. Id and secret in the parameters (`client_id`, `client_secret`): SAP's own libraries do this,
//!    and no encoding can go wrong.
//! 2. HTTP Basic with the **raw** id and secret: SAP documents this, although RFC 6749 §2.3.1
//!    requires encoding.
//! 3. HTTP Basic with id and secret **form-encoded first**, as RFC 6749 requires: UAA decodes them
//!    only if the request also has `X-CF-ENCODED-CREDENTIALS: true`. Without that header, an id
//!    with `|` or `!` does not match. With it, a raw secret with `+` does not.
//! 4. An assertion, signed with a private key, instead of a secret: see [`assertion`].
//!
//! A client certificate has a listener of its own: see [`certificate`](super::certificate).

use super::assertion;
use super::error::RefusedTokenRequest;
use super::parameters::Parameters;
use crate::demo::registered_client::AuthMethod;
use crate::demo::state::TenantState;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Checks the client's id and secret, or its assertion. Basic wins over parameters, as in UAA.
pub(super) fn authenticate(
    state: &TenantState,
    headers: &HeaderMap,
    parameters: &Parameters,
) -> Result<AuthMethod, RefusedTokenRequest> {
    let client = &state.client;
    let (id, secret) = match headers.get(AUTHORIZATION) {
        Some(value) => from_basic(value.as_bytes(), is_encoded(headers))
            .ok_or(RefusedTokenRequest::BadCredentials)?,
        None if assertion::is_present(parameters) => {
            assertion::authenticate(client, &state.token_url(), parameters, state.issuer_now())?;
            return Ok(AuthMethod::Assertion);
        }
        None => from_parameters(parameters).ok_or(RefusedTokenRequest::NoCredentials)?,
    };
    if id == client.id && client.has_secret(&secret) {
        Ok(AuthMethod::Secret)
    } else {
        Err(RefusedTokenRequest::BadCredentials)
    }
}

fn from_parameters(parameters: &Parameters) -> Option<(String, String)> {
    let id = parameters.get("client_id")?;
    // A missing secret is a wrong secret, not missing credentials.
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

/// Decodes `application/x-www-form-urlencoded`, in which `+` is a space.
fn form_decode(text: &str) -> String {
    percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}
