//! The tenant's front door: every request passes it, whatever its path.
//!
//! It notes the request, plays the faults, checks the bearer token and, for a write, the CSRF token, and puts the two
//! correlation ids on the answer that SAP's support asks for. Whoever is refused is refused here, before any API has
//! done anything.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, EXPECT, HeaderName, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use uuid::Uuid;

use super::faults::{Faults, TenantFault, delay, hang};
use super::keys::{Keys, TokenRefusal, unix_now};
use super::seen::LastRequest;
use super::state::{Shared, TenantState};
use super::{answer, csrf, login};

const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlationid");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-vcap-request-id");

/// The APIs that expect a browser's session, and look at a bearer token only if told to by
/// `x-sap-sac-custom-auth: true`.
const CUSTOM_AUTH: [&str; 3] = ["/api/v1/scim2", "/api/v1/content", "/api/v1/audit"];

/// Why a request does not get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// No `Authorization` header, or none of the Bearer scheme.
    #[error("a bearer token is required")]
    NoBearer,
    /// More than one `Authorization` header: which of them would count?
    #[error("the request has more than one Authorization header")]
    Ambiguous,
    /// The token is not good.
    #[error("{0}")]
    Token(#[from] TokenRefusal),
    /// The token is good, and whoever is behind it is not.
    #[error("the user behind this token is not active on this tenant")]
    Inactive,
    /// The token is good, and older than the rights that its owner has now.
    #[error("the token's scopes are not enough any more")]
    OldScopes,
    /// The front door would rather show its login page.
    #[error("the session has expired; log on again")]
    LoginNeeded,
    /// An API that takes tokens only with `x-sap-sac-custom-auth: true`.
    #[error("this API takes a bearer token only together with x-sap-sac-custom-auth: true")]
    NoCustomAuth,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let message = self.to_string();
        match self {
            Self::Ambiguous => answer::error(StatusCode::BAD_REQUEST, "bad_request", &message),
            Self::OldScopes => answer::error(StatusCode::FORBIDDEN, "insufficient_scope", &message),
            Self::NoBearer
            | Self::Token(_)
            | Self::Inactive
            | Self::LoginNeeded
            | Self::NoCustomAuth => {
                let response = answer::error(StatusCode::UNAUTHORIZED, "unauthorized", &message);
                ([(WWW_AUTHENTICATE, "Bearer")], response).into_response()
            }
        }
    }
}

/// The middleware around the whole API.
pub(super) async fn front_door(
    State(state): State<Shared>,
    request: Request,
    next: Next,
) -> Response {
    let last = LastRequest::of(&request);
    state.count(|seen| {
        seen.tenant_requests += 1;
        seen.last_request = Some(last);
    });
    // The caller's own correlation id is kept, so that its log and the tenant's can be laid side by side.
    let correlation = request.headers().get(CORRELATION_ID).cloned().unwrap_or_else(fresh_id);

    let mut response = pass(&state, request, next).await;
    response.headers_mut().insert(CORRELATION_ID, correlation);
    response.headers_mut().insert(REQUEST_ID, fresh_id());
    response
}

async fn pass(state: &TenantState, request: Request, next: Next) -> Response {
    let faults = state.faults();
    delay(faults.tenant_delay_ms).await;
    let (head, body) = request.into_parts();
    if let Some(response) = fault(state, &faults, &head).await {
        drain(&head.headers, body).await;
        return response;
    }
    let bearer = match admit(state, faults.tenant, &head) {
        Ok(bearer) => bearer,
        Err(refusal) => {
            state.count(|seen| seen.refused += 1);
            drain(&head.headers, body).await;
            return refusal.into_response();
        }
    };
    if !csrf::admits(state, faults.csrf, &bearer, &head) {
        state.count(|seen| seen.csrf_refused += 1);
        drain(&head.headers, body).await;
        return csrf::required();
    }
    state.count(|seen| seen.accepted += 1);
    let fetches_csrf = csrf::is_fetch(faults.csrf, &head);
    let response = next.run(Request::from_parts(head, body)).await;
    if fetches_csrf { csrf::give(state, faults.csrf, bearer, response) } else { response }
}

/// Whether the request gets in; if so, the id of its token.
fn admit(state: &TenantState, fault: TenantFault, request: &Parts) -> Result<String, Refusal> {
    let bearer = check(&state.keys, &request.headers)?;
    let wants_custom_auth = CUSTOM_AUTH.iter().any(|api| answer::is_under(request.uri.path(), api));
    match fault {
        TenantFault::RefuseAlways => Err(Refusal::Inactive),
        TenantFault::ScopesChanged if !state.has_new_scopes(&bearer) => Err(Refusal::OldScopes),
        _ if wants_custom_auth && !has_custom_auth(&request.headers) => Err(Refusal::NoCustomAuth),
        _ => Ok(bearer),
    }
}

/// The answer that a fault puts in place of the tenant's own.
async fn fault(state: &TenantState, faults: &Faults, request: &Parts) -> Option<Response> {
    let response = match faults.tenant {
        // The last two are for those whose token is good.
        TenantFault::None | TenantFault::RefuseAlways | TenantFault::ScopesChanged => return None,
        TenantFault::Hang => hang().await,
        TenantFault::InternalError => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return Some(answer::error(status, "internal_error", "an internal error occurred"));
        }
        TenantFault::Unauthorized => Refusal::Token(TokenRefusal::UnknownKey).into_response(),
        TenantFault::LoginPage => login::page(state, request, faults.login_page_delay_ms),
        TenantFault::LoginRedirect => login::redirect(state, request),
    };
    state.count(|seen| seen.refused += 1);
    Some(response)
}

/// Exactly one `Authorization` header, of the Bearer scheme (its name in any case), with a token that is good now;
/// returns the token's id.
fn check(keys: &Keys, headers: &HeaderMap) -> Result<String, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Refusal::NoBearer)?;
    if values.next().is_some() {
        return Err(Refusal::Ambiguous);
    }
    let (scheme, token) =
        value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(Refusal::NoBearer)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refusal::NoBearer);
    }
    Ok(keys.verify(token.trim(), unix_now())?)
}

fn has_custom_auth(headers: &HeaderMap) -> bool {
    headers
        .get("x-sap-sac-custom-auth")
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

/// Reads and forgets what the client still sends: a server that closes on a client in the middle of an upload may lose
/// its own answer to the reset. A client that asks beforehand, by `Expect: 100-continue`, is spared the upload.
async fn drain(headers: &HeaderMap, body: Body) {
    if !headers.contains_key(EXPECT) {
        let mut chunks = body.into_data_stream();
        while let Some(Ok(_forgotten)) = chunks.next().await {}
    }
}

fn fresh_id() -> HeaderValue {
    // A UUID has no character that a header could not hold; the fallback is for the type only.
    HeaderValue::try_from(Uuid::new_v4().to_string()).unwrap_or(HeaderValue::from_static("none"))
}
