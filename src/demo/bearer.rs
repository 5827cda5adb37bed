//! The tenant's front door: every request passes it, whatever its path.
//!
//! It notes the request, plays the faults, checks the bearer token, and puts the two correlation ids on the answer
//! that SAP's support asks for.

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
use super::{answer, login};

const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlationid");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-vcap-request-id");

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
            Self::NoBearer | Self::Token(_) | Self::LoginNeeded | Self::NoCustomAuth => {
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
    match check(&state.keys, &head.headers) {
        Ok(()) => {
            state.count(|seen| seen.accepted += 1);
            next.run(Request::from_parts(head, body)).await
        }
        Err(refusal) => {
            state.count(|seen| seen.refused += 1);
            drain(&head.headers, body).await;
            refusal.into_response()
        }
    }
}

/// The answer that a fault puts in place of the tenant's own.
async fn fault(state: &TenantState, faults: &Faults, request: &Parts) -> Option<Response> {
    let response = match faults.tenant {
        TenantFault::None => return None,
        TenantFault::Hang => hang().await,
        TenantFault::InternalError => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return Some(answer::error(status, "internal_error", "an internal error occurred"));
        }
        TenantFault::Unauthorized => Refusal::Token(TokenRefusal::UnknownKey).into_response(),
        TenantFault::LoginPage => login::page(state, request),
        TenantFault::LoginRedirect => login::redirect(state, request),
    };
    state.count(|seen| seen.refused += 1);
    Some(response)
}

/// Exactly one `Authorization` header, of the Bearer scheme (its name in any case), with a token that is good now.
fn check(keys: &Keys, headers: &HeaderMap) -> Result<(), Refusal> {
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

/// Further middleware for SCIM, content and audit: without `x-sap-sac-custom-auth: true` they expect a browser's
/// session, and a bearer token is not looked at.
pub(super) async fn custom_auth(request: Request, next: Next) -> Response {
    let asked = request.headers().get("x-sap-sac-custom-auth");
    if asked.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true")) {
        next.run(request).await
    } else {
        let (head, body) = request.into_parts();
        drain(&head.headers, body).await;
        Refusal::NoCustomAuth.into_response()
    }
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
