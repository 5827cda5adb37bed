//! The token for a client that is authenticated: its grant, its scopes and its claims.

use super::error::RefusedTokenRequest;
use super::parameters::Parameters;
use crate::demo::state::TenantState;
use serde_json::{Value, json};
use uuid::Uuid;

/// The scopes of a technical user: it may use the tenant's APIs, read its own data, and pass the
/// API proxy of newer tenants.
const SCOPES: [&str; 3] =
    ["approuter-sac-demo!t1.sap.fpa.user", "uaa.resource", "dmi-api-proxy-demo!t1.apiaccess"];

/// The audience of a token, which consists of the prefixes of its scopes.
const AUDIENCE: [&str; 3] = ["approuter-sac-demo!t1.sap.fpa", "dmi-api-proxy-demo!t1", "uaa"];

/// The subaccount, which is also the identity zone.
const ZONE: &str = "0c8f2d1e-5a74-4c7b-9b6e-3f1d2a4b5c6d";

/// Issues a token of this lifetime. Returns the body of the response.
pub(super) fn issue(
    state: &TenantState,
    lifetime: u64,
    parameters: &Parameters,
) -> Result<Value, RefusedTokenRequest> {
    match parameters.get("grant_type") {
        Some("client_credentials") => {}
        Some(other) => return Err(RefusedTokenRequest::UnsupportedGrantType(other.to_owned())),
        None => return Err(RefusedTokenRequest::InvalidRequest),
    }
    let scopes = requested_scopes(parameters.get("scope").unwrap_or_default())?;
    let id = Uuid::new_v4().simple().to_string();
    let claims = claims(state, lifetime, &scopes, &id);
    let jku = format!("{}/token_keys", state.issuer_origin);
    let token = state.keys.sign(&jku, &claims).map_err(|_| RefusedTokenRequest::CannotSign)?;
    state.record_issued(id.clone());
    Ok(json!({
        "access_token": token,
        "token_type": "bearer",
        "expires_in": lifetime,
        "scope": scopes.join(" "),
        "jti": id,
    }))
}

/// The requested scopes, or all if none are requested.
fn requested_scopes(requested: &str) -> Result<Vec<&str>, RefusedTokenRequest> {
    if requested.trim().is_empty() {
        return Ok(SCOPES.to_vec());
    }
    match requested.split_whitespace().find(|scope| !SCOPES.contains(scope)) {
        Some(unknown) => Err(RefusedTokenRequest::InvalidScope(unknown.to_owned())),
        None => Ok(requested.split_whitespace().collect()),
    }
}

/// The claims of a token. A technical user is its OAuth client: `sub`, `cid` and `azp` are the
/// client id, and there is no `user_name`.
fn claims(state: &TenantState, lifetime: u64, scopes: &[&str], id: &str) -> Value {
    let now = state.issuer_now();
    json!({
        "jti": id,
        "ext_attr": {
            "enhancer": "XSUAA",
            "subaccountid": ZONE,
            "zdn": "demo",
            "serviceinstanceid": "4f0c9a52-6b1d-4e0f-8a3c-7d9e2f1b0a64",
        },
        "sub": state.client.id,
        "authorities": scopes,
        "scope": scopes,
        "client_id": state.client.id,
        "cid": state.client.id,
        "azp": state.client.id,
        "grant_type": "client_credentials",
        "rev_sig": "5e1f70a2",
        "iat": now,
        "exp": now.saturating_add(lifetime),
        "iss": state.token_url(),
        "zid": ZONE,
        "aud": AUDIENCE,
    })
}
