//! The token endpoint, as XSUAA (Cloud Foundry's UAA) answers a client with the `client_credentials` grant.
//!
//! Worth knowing: there is no refresh token, so a client that wants another token asks again; `token_type` comes in
//! lower case; and the client may prove itself in several ways, of which HTTP Basic has a trap (see [`credentials`]).

mod assertion;
mod certificate;
mod credentials;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, DATE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use axum_server::tls::TlsInfo;
use serde_json::{Value, json};
use uuid::Uuid;

use super::answer;
use super::faults::{Faults, IssuerFault, delay, hang};
use super::seen::Seen;
use super::state::{Shared, TenantState};
use assertion::AssertionRefusal;

/// What a technical user's token may do: use the tenant's APIs, see itself, and pass the API proxy of newer tenants.
const SCOPES: [&str; 3] =
    ["approuter-sac-demo!t1.sap.fpa.user", "uaa.resource", "dmi-api-proxy-demo!t1.apiaccess"];

/// Whom the token is for: the scopes' prefixes.
const AUDIENCE: [&str; 3] = ["approuter-sac-demo!t1.sap.fpa", "dmi-api-proxy-demo!t1", "uaa"];

/// The subaccount, which is also the identity zone.
const ZONE: &str = "0c8f2d1e-5a74-4c7b-9b6e-3f1d2a4b5c6d";

/// The issuer's paths.
pub(super) fn routes(state: Shared) -> Router {
    Router::new()
        .route("/oauth/token", get(token).post(token))
        // Some clients leave a slash at the end of the URL that they were given.
        .route("/oauth/token/", get(token).post(token))
        .route("/oauth/authorize", get(login))
        .route("/token_keys", get(token_keys))
        .fallback(answer::no_such_path)
        .method_not_allowed_fallback(answer::method_not_allowed)
        .with_state(state)
}

/// The paths of the host for client certificates.
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

/// Where a browser would log in. A technical user never should see it.
async fn login() -> Html<&'static str> {
    Html(
        "<!doctype html><title>Log on</title><h1>Log on</h1><p>This is where people log on. Programs ask /oauth/token.",
    )
}

async fn token(State(state): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let parameters = Parameters::read(&uri, &body);
    respond(&state, &parameters, || credentials::check(&state, &headers, &parameters)).await
}

async fn token_for_certificate(
    State(state): State<Shared>,
    Extension(tls): Extension<Arc<TlsInfo>>,
    uri: Uri,
    body: Bytes,
) -> Response {
    let parameters = Parameters::read(&uri, &body);
    let check = || certificate::check(&state.client.id, &tls.peer_certificates, &parameters);
    respond(&state, &parameters, check).await
}

/// Answers a token request; `check` tells whether the client is who it says.
async fn respond(
    state: &TenantState,
    parameters: &Parameters,
    check: impl FnOnce() -> Result<Proof, Refusal>,
) -> Response {
    state.count(|seen| seen.token_requests += 1);
    let faults = state.faults();
    delay(faults.issuer_delay_ms).await;
    if let Some(response) = fault(&faults).await {
        return dated(state, response);
    }
    let granted =
        check().and_then(|proof| Ok((proof, grant(state, faults.token_lifetime, parameters)?)));
    let response = match granted {
        Ok((proof, answer)) => {
            state.count(|seen| note(seen, proof));
            no_store(Json(answer).into_response())
        }
        Err(refusal) => refusal.into_response(),
    };
    dated(state, response)
}

/// Says what time it is by the issuer's clock.
fn dated(state: &TenantState, mut response: Response) -> Response {
    let time = UNIX_EPOCH + Duration::from_secs(state.issuer_now());
    if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(time)) {
        response.headers_mut().insert(DATE, date);
    }
    response
}

/// How a client proved itself.
#[derive(Clone, Copy)]
enum Proof {
    Secret,
    Certificate,
    Assertion,
}

fn note(seen: &mut Seen, proof: Proof) {
    seen.tokens_issued += 1;
    match proof {
        Proof::Secret => seen.issued_by_secret += 1,
        Proof::Certificate => seen.issued_by_certificate += 1,
        Proof::Assertion => seen.issued_by_assertion += 1,
    }
}

/// The request's parameters. UAA takes them from the query as well as from the form, whatever the method; the first
/// of two wins, so a token URL that already says `?grant_type=client_credentials` does no harm.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// The body is read as a form whatever its `Content-Type` says; unknown parameters, such as the
    /// `response_type=token` that SAP's own tools send along, are ignored.
    fn read(uri: &Uri, body: &[u8]) -> Self {
        let query =
            url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned();
        Self(query.chain(url::form_urlencoded::parse(body).into_owned()).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The happy path once the client is known: which grant, with which scopes; then the token.
fn grant(state: &TenantState, lifetime: u64, parameters: &Parameters) -> Result<Value, Refusal> {
    match parameters.get("grant_type") {
        Some("client_credentials") => {}
        Some(other) => return Err(Refusal::UnsupportedGrantType(other.to_owned())),
        None => return Err(Refusal::InvalidRequest),
    }
    let scopes = narrow(parameters.get("scope").unwrap_or_default())?;
    let id = Uuid::new_v4().simple().to_string();
    let claims = claims(state, lifetime, &scopes, &id);
    let jku = format!("{}/token_keys", state.issuer_origin);
    let token = state.keys.sign(&jku, &claims).map_err(|_| Refusal::CannotSign)?;
    state.note_issued(id.clone());
    Ok(json!({
        "access_token": token,
        "token_type": "bearer",
        "expires_in": lifetime,
        "scope": scopes.join(" "),
        "jti": id,
    }))
}

/// The scopes asked for, or all when none are.
fn narrow(wanted: &str) -> Result<Vec<&str>, Refusal> {
    if wanted.trim().is_empty() {
        return Ok(SCOPES.to_vec());
    }
    let known = |scope: &str| SCOPES.contains(&scope);
    match wanted.split_whitespace().find(|scope| !known(scope)) {
        Some(unknown) => Err(Refusal::InvalidScope(unknown.to_owned())),
        None => Ok(wanted.split_whitespace().collect()),
    }
}

/// The token's payload. A technical user is its OAuth client: `sub`, `cid` and `azp` are the client id, and there is
/// no `user_name`.
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

/// Why there is no token, in UAA's words.
enum Refusal {
    /// The request carries no client credentials.
    NoCredentials,
    /// Wrong id or wrong secret; UAA does not say which.
    BadCredentials,
    /// An assertion that proves nothing, and why.
    InvalidAssertion(AssertionRefusal),
    /// No `grant_type`.
    InvalidRequest,
    UnsupportedGrantType(String),
    InvalidScope(String),
    /// Our own failure.
    CannotSign,
}

impl From<AssertionRefusal> for Refusal {
    fn from(reason: AssertionRefusal) -> Self {
        Self::InvalidAssertion(reason)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, error, description) = match self {
            Self::NoCredentials => {
                return unauthorized(
                    "An Authentication object was not found in the SecurityContext",
                );
            }
            Self::BadCredentials => return unauthorized("Bad credentials"),
            Self::InvalidAssertion(reason) => {
                (StatusCode::UNAUTHORIZED, "invalid_client", reason.to_string())
            }
            Self::InvalidRequest => {
                (StatusCode::BAD_REQUEST, "invalid_request", "Missing grant type".to_owned())
            }
            Self::UnsupportedGrantType(grant) => (
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                format!("Unsupported grant type: {grant}"),
            ),
            Self::InvalidScope(scope) => (
                StatusCode::BAD_REQUEST,
                "invalid_scope",
                format!("{scope} is invalid. Please use a valid scope name in the request"),
            ),
            Self::CannotSign => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "server_error",
                "the token could not be signed".to_owned(),
            ),
        };
        no_store(answer::error(status, error, &description))
    }
}

fn unauthorized(description: &str) -> Response {
    let challenge = format!(
        "Basic realm=\"UAA/oauth\", error=\"unauthorized\", error_description=\"{description}\""
    );
    let response = answer::error(StatusCode::UNAUTHORIZED, "unauthorized", description);
    no_store(([(WWW_AUTHENTICATE, challenge)], response).into_response())
}

/// Tokens, and what is said about them, belong into no cache.
fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The answer that a fault puts in place of the issuer's own.
async fn fault(faults: &Faults) -> Option<Response> {
    match faults.issuer {
        IssuerFault::None => None,
        IssuerFault::TooManyRequests => Some(busy(
            faults,
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_requests",
            "Too Many Requests",
        )),
        IssuerFault::Unavailable => Some(busy(
            faults,
            StatusCode::SERVICE_UNAVAILABLE,
            "service_unavailable",
            "Service Unavailable",
        )),
        IssuerFault::InternalError => Some(answer::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            "Internal server error",
        )),
        IssuerFault::Hang => hang().await,
        IssuerFault::Html => Some(
            Html("<!doctype html><title>Web gateway</title><p>This page was blocked.")
                .into_response(),
        ),
        IssuerFault::EmptyToken => {
            let answer = json!({ "access_token": "", "token_type": "bearer", "expires_in": 0, "scope": "", "jti": "" });
            Some(no_store(Json(answer).into_response()))
        }
        IssuerFault::RefuseClient => Some(unauthorized("Bad credentials")),
    }
}

fn busy(faults: &Faults, status: StatusCode, error: &str, description: &str) -> Response {
    let mut response = answer::error(status, error, description);
    // What can't stand in a header is not sent; the control API refuses it beforehand.
    if let Some(value) =
        faults.issuer_retry_after.as_deref().and_then(|text| HeaderValue::from_str(text).ok())
    {
        response.headers_mut().insert(RETRY_AFTER, value);
    }
    response
}
