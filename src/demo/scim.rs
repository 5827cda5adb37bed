//! Users by SCIM 2.0 (RFC 7643, RFC 7644).
//!
//! As on the real tenant, a request needs `x-sap-sac-custom-auth: true` in addition to its bearer
//! token. `meta.location` is relative, although the RFC requires an absolute URL. The `Location`
//! header of a new user is absolute.

mod directory;
mod error;
mod patch;

use super::answer::origin;
use super::state::Shared;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use directory::{Directory, User};
use error::{ScimError, respond};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// Largest number of users in a list, unless the client asks for another one.
const COUNT: usize = 100;

struct Scim {
    tenant: Shared,
    users: Directory,
}

/// The routes of SCIM.
pub(super) fn routes(tenant: Shared) -> Router {
    Router::new()
        .route("/api/v1/scim2/ServiceProviderConfig", get(service_provider_config))
        .route("/api/v1/scim2/Users", get(list).post(create))
        .route("/api/v1/scim2/Users/{id}", get(read).put(replace).patch(modify).delete(remove))
        .with_state(Arc::new(Scim { tenant, users: Directory::default() }))
}

impl Scim {
    fn record_write(&self) {
        self.tenant.record(|seen| seen.writes_executed += 1);
    }
}

async fn service_provider_config() -> Response {
    let config = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
        "patch": { "supported": true },
        "bulk": { "supported": false, "maxOperations": 0, "maxPayloadSize": 0 },
        "filter": { "supported": true, "maxResults": COUNT },
        "changePassword": { "supported": false },
        "sort": { "supported": false },
        "etag": { "supported": false },
        "authenticationSchemes": [{
            "type": "oauthbearertoken",
            "name": "OAuth Bearer Token",
            "description": "A token of the tenant's issuer",
        }],
    });
    respond(StatusCode::OK, &config)
}

#[derive(Debug, Deserialize)]
struct ListQuery {
    /// The first user, counted from 1. A smaller number counts as 1 (RFC 7644 §3.4.2.4).
    #[serde(rename = "startIndex")]
    start_index: Option<i64>,
    count: Option<i64>,
    filter: Option<String>,
}

async fn list(
    State(scim): State<Arc<Scim>>,
    Query(query): Query<ListQuery>,
) -> Result<Response, ScimError> {
    let name = query.filter.as_deref().map(user_name_filter).transpose()?;
    let found = scim.users.find(name.as_deref());
    let start = query.start_index.and_then(|index| usize::try_from(index).ok()).unwrap_or(1).max(1);
    let count = query.count.map_or(COUNT, |count| usize::try_from(count).unwrap_or(0));
    let total = found.len();
    let page: Vec<User> = found.into_iter().skip(start - 1).take(count).collect();
    let answer = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": total,
        "startIndex": start,
        "itemsPerPage": page.len(),
        "Resources": page,
    });
    Ok(respond(StatusCode::OK, &answer))
}

async fn create(
    State(scim): State<Arc<Scim>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ScimError> {
    let user = scim.users.create(object(&body)?)?;
    scim.record_write();
    let location = user.get("meta").and_then(|meta| meta["location"].as_str()).unwrap_or_default();
    let location = format!("{}{location}", origin(&headers, &scim.tenant.tenant_origin));
    Ok(([(LOCATION, location)], respond(StatusCode::CREATED, &user)).into_response())
}

async fn read(
    State(scim): State<Arc<Scim>>,
    Path(id): Path<String>,
) -> Result<Response, ScimError> {
    Ok(respond(StatusCode::OK, &scim.users.get(&id)?))
}

async fn replace(
    State(scim): State<Arc<Scim>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, ScimError> {
    let user = scim.users.replace(&id, object(&body)?)?;
    scim.record_write();
    Ok(respond(StatusCode::OK, &user))
}

async fn modify(
    State(scim): State<Arc<Scim>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, ScimError> {
    let user = scim.users.change(&id, patch::changes(object(&body)?)?)?;
    scim.record_write();
    Ok(respond(StatusCode::OK, &user))
}

async fn remove(
    State(scim): State<Arc<Scim>>,
    Path(id): Path<String>,
) -> Result<Response, ScimError> {
    scim.users.remove(&id)?;
    scim.record_write();
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The name in `userName eq "x"`, the filter of provisioning clients before they create a user.
fn user_name_filter(filter: &str) -> Result<String, ScimError> {
    let read = || {
        let (name, rest) = filter.trim().split_once(' ')?;
        let (operator, literal) = rest.trim_start().split_once(' ')?;
        let known = name.eq_ignore_ascii_case("userName") && operator.eq_ignore_ascii_case("eq");
        // The literal is a JSON string (RFC 7644 §3.4.2.2).
        if known { serde_json::from_str(literal.trim()).ok() } else { None }
    };
    read().ok_or_else(|| {
        ScimError::invalid(
            "invalidFilter",
            format!("the demo tenant filters by userName eq \"x\" only, not by {filter}"),
        )
    })
}

fn object(body: &[u8]) -> Result<User, ScimError> {
    serde_json::from_slice(body).map_err(|error| ScimError::syntax(&error))
}
