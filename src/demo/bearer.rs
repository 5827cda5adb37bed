//! The check that every request to the tenant's API passes, whatever its path.
//!
//! It records the request, applies the faults, verifies the bearer token and, for a write, the CSRF
//! token. It adds to the response the two correlation ids that SAP's support asks for. Each refusal
//! is made here, before an API has done anything.

use super::csrf::CsrfSessions;
use super::faults::{DemoFaults, TenantFault};
use super::keys::{InvalidToken, SigningKeys};
use super::refusal::Refusal;
use super::seen::LastRequest;
use super::state::{Shared, TenantState};
use super::time::{delay, hang, unix_now};
use super::{answer, csrf, login};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, EXPECT, HeaderName};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use std::sync::Arc;
use uuid::Uuid;

const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlationid");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-vcap-request-id");

/// The APIs that expect a browser's session, and read a bearer token only with
/// `x-sap-sac-custom-auth: true`.
const CUSTOM_AUTH: [&str; 3] = ["/api/v1/scim2", "/api/v1/content", "/api/v1/audit"];

struct Gate {
    tenant: Shared,
    csrf: CsrfSessions,
}

/// Applies the check to all of these routes and to their fallbacks.
pub(super) fn guard(routes: Router, tenant: Shared) -> Router {
    let gate = Arc::new(Gate { tenant, csrf: CsrfSessions::default() });
    routes.layer(from_fn_with_state(gate, middleware))
}

async fn middleware(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let last = LastRequest::of(&request);
    gate.tenant.record(|seen| {
        seen.tenant_requests += 1;
        seen.last_request = Some(last);
    });
    // The client's own correlation id is kept, so that its log can be compared with the tenant's.
    let correlation = request.headers().get(CORRELATION_ID).cloned().unwrap_or_else(new_id);

    let mut response = gate.respond(request, next).await;
    response.headers_mut().insert(CORRELATION_ID, correlation);
    response.headers_mut().insert(REQUEST_ID, new_id());
    response
}

impl Gate {
    async fn respond(&self, request: Request, next: Next) -> Response {
        let tenant = &*self.tenant;
        let faults = tenant.faults();
        delay(faults.tenant_delay_ms).await;
        let (head, body) = request.into_parts();
        if let Some(response) = fault_response(tenant, &faults, &head).await {
            discard(&head.headers, body).await;
            return response;
        }
        let bearer = match authorize(tenant, faults.tenant, &head) {
            Ok(bearer) => bearer,
            Err(refusal) => {
                tenant.record(|seen| seen.refused += 1);
                discard(&head.headers, body).await;
                return refusal.into_response();
            }
        };
        if let Err(required) = self.csrf.check(tenant, faults.csrf, &bearer, &head) {
            tenant.record(|seen| seen.csrf_refused += 1);
            discard(&head.headers, body).await;
            return required.into_response();
        }
        tenant.record(|seen| seen.accepted += 1);
        let is_csrf_fetch = csrf::is_fetch(faults.csrf, &head);
        let response = next.run(Request::from_parts(head, body)).await;
        if is_csrf_fetch {
            tenant.record(|seen| seen.csrf_fetches += 1);
            self.csrf.issue(faults.csrf, bearer, response)
        } else {
            response
        }
    }
}

/// Checks the bearer token and the rights of its user. Returns the token's id.
fn authorize(state: &TenantState, fault: TenantFault, request: &Parts) -> Result<String, Refusal> {
    let bearer = verify(&state.keys, &request.headers)?;
    let wants_custom_auth = CUSTOM_AUTH.iter().any(|api| answer::is_under(request.uri.path(), api));
    match fault {
        TenantFault::RefuseAlways => Err(Refusal::Inactive),
        TenantFault::ScopesChanged if !state.has_new_scopes(&bearer) => Err(Refusal::OldScopes),
        _ if wants_custom_auth && !has_custom_auth(&request.headers) => Err(Refusal::NoCustomAuth),
        _ => Ok(bearer),
    }
}

/// The response of a fault, which replaces the tenant's normal response.
async fn fault_response(
    state: &TenantState,
    faults: &DemoFaults,
    request: &Parts,
) -> Option<Response> {
    let response = match faults.tenant {
        // The last two apply only to valid tokens: see `authorize`.
        TenantFault::None | TenantFault::RefuseAlways | TenantFault::ScopesChanged => return None,
        TenantFault::Hang => hang().await,
        TenantFault::InternalError => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return Some(answer::error(status, "internal_error", "an internal error occurred"));
        }
        TenantFault::Unauthorized => Refusal::Token(InvalidToken::UnknownKey).into_response(),
        TenantFault::LoginPage => login::page(state, request, faults.login_page_delay_ms),
        TenantFault::LoginRedirect => login::redirect(state, request),
    };
    state.record(|seen| seen.refused += 1);
    Some(response)
}

/// Requires exactly one `Authorization` header of the Bearer scheme (its name in any case) with a
/// valid token. Returns the token's id.
fn verify(keys: &SigningKeys, headers: &HeaderMap) -> Result<String, Refusal> {
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

/// Reads the rest of the request's body and discards it. A server that closes the connection during
/// an upload may lose its own response to the reset. A client that sends `Expect: 100-continue`
/// waits for the response instead, and sends no body.
async fn discard(headers: &HeaderMap, body: Body) {
    if !headers.contains_key(EXPECT) {
        let mut chunks = body.into_data_stream();
        while let Some(Ok(_discarded)) = chunks.next().await {}
    }
}

fn new_id() -> HeaderValue {
    // The fallback is never used, since a UUID is always a valid header value.
    HeaderValue::try_from(Uuid::new_v4().to_string()).unwrap_or(HeaderValue::from_static("none"))
}
