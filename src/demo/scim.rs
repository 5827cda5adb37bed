//! Users by SCIM 2.0 (RFC 7643, RFC 7644).
//!
//! As on the real tenant, a bearer token alone is not enough: the request needs `x-sap-sac-custom-auth: true`. And
//! `meta.location` is relative, where the RFC wants an absolute URL; the `Location` header of a new user is absolute.

mod directory;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) use directory::Directory;
use directory::{Fault, User};

use super::login::origin;
use super::state::{Shared, TenantState};

/// How many users a list has at most when the client does not say.
const COUNT: usize = 100;

/// The SCIM paths.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v1/scim2/ServiceProviderConfig", get(service_provider_config))
        .route("/api/v1/scim2/Users", get(list).post(create))
        .route("/api/v1/scim2/Users/{id}", get(read).put(replace).patch(patch).delete(remove))
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
    scim(StatusCode::OK, &config)
}

#[derive(Debug, Deserialize)]
struct ListQuery {
    /// 1 is the first; less counts as 1 (RFC 7644 §3.4.2.4).
    #[serde(rename = "startIndex")]
    start_index: Option<i64>,
    count: Option<i64>,
    filter: Option<String>,
}

async fn list(
    State(state): State<Shared>,
    Query(query): Query<ListQuery>,
) -> Result<Response, Fault> {
    let name = query.filter.as_deref().map(user_name_filter).transpose()?;
    let found = state.users.find(name.as_deref());
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
    Ok(scim(StatusCode::OK, &answer))
}

async fn create(
    State(state): State<Shared>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Fault> {
    let user = state.users.create(object(&body)?)?;
    wrote(&state);
    let location = user.get("meta").and_then(|meta| meta["location"].as_str()).unwrap_or_default();
    let location = format!("{}{location}", origin(&state, &headers));
    Ok(([(LOCATION, location)], scim(StatusCode::CREATED, &user)).into_response())
}

async fn read(State(state): State<Shared>, Path(id): Path<String>) -> Result<Response, Fault> {
    Ok(scim(StatusCode::OK, &state.users.get(&id)?))
}

async fn replace(
    State(state): State<Shared>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Fault> {
    let user = state.users.replace(&id, object(&body)?)?;
    wrote(&state);
    Ok(scim(StatusCode::OK, &user))
}

async fn patch(
    State(state): State<Shared>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Fault> {
    let request = PatchRequest::deserialize(Value::Object(object(&body)?))
        .map_err(|error| Fault::syntax(&error))?;
    let mut changes = User::new();
    for operation in request.operations {
        operation.collect_into(&mut changes)?;
    }
    let user = state.users.change(&id, changes)?;
    wrote(&state);
    Ok(scim(StatusCode::OK, &user))
}

async fn remove(State(state): State<Shared>, Path(id): Path<String>) -> Result<Response, Fault> {
    state.users.remove(&id)?;
    wrote(&state);
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Debug, Deserialize)]
struct PatchRequest {
    #[serde(rename = "Operations")]
    operations: Vec<PatchOperation>,
}

#[derive(Debug, Deserialize)]
struct PatchOperation {
    op: String,
    path: Option<String>,
    value: Option<Value>,
}

impl PatchOperation {
    /// `replace` and `add` of whole attributes: one named by `path`, or all that the value has.
    fn collect_into(self, changes: &mut User) -> Result<(), Fault> {
        if !["replace", "add"].iter().any(|op| self.op.eq_ignore_ascii_case(op)) {
            return Err(Fault::invalid(
                "invalidSyntax",
                format!("the demo tenant does not know the operation {}", self.op),
            ));
        }
        match (self.path, self.value) {
            (Some(path), _) if path.contains(['.', '[', ':']) => Err(Fault::invalid(
                "invalidPath",
                format!("the demo tenant patches whole attributes, not {path}"),
            )),
            (Some(path), Some(value)) => {
                changes.insert(path, value);
                Ok(())
            }
            (None, Some(Value::Object(values))) => {
                changes.extend(values);
                Ok(())
            }
            (_, None) => {
                Err(Fault::invalid("invalidValue", "the operation has no value".to_owned()))
            }
            (None, Some(_)) => Err(Fault::invalid(
                "noTarget",
                "without a path, the value must be an object".to_owned(),
            )),
        }
    }
}

/// `userName eq "x"`, the filter that every provisioning client sends before it creates a user.
fn user_name_filter(filter: &str) -> Result<String, Fault> {
    let read = || {
        let (name, rest) = filter.trim().split_once(' ')?;
        let (operator, literal) = rest.trim_start().split_once(' ')?;
        let known = name.eq_ignore_ascii_case("userName") && operator.eq_ignore_ascii_case("eq");
        // The literal is a JSON string (RFC 7644 §3.4.2.2).
        if known { serde_json::from_str(literal.trim()).ok() } else { None }
    };
    read().ok_or_else(|| {
        Fault::invalid(
            "invalidFilter",
            format!("the demo tenant filters by userName eq \"x\" only, not by {filter}"),
        )
    })
}

fn object(body: &[u8]) -> Result<User, Fault> {
    serde_json::from_slice(body).map_err(|error| Fault::syntax(&error))
}

fn wrote(state: &TenantState) {
    state.count(|seen| seen.writes_executed += 1);
}

fn scim(status: StatusCode, body: &impl serde::Serialize) -> Response {
    (status, [(CONTENT_TYPE, "application/scim+json")], Json(body)).into_response()
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let (status, scim_type) = match &self {
            Self::NoSuchUser(_) => (StatusCode::NOT_FOUND, None),
            Self::NotUnique(_) => (StatusCode::CONFLICT, Some("uniqueness")),
            Self::Invalid { scim_type, .. } => (StatusCode::BAD_REQUEST, Some(*scim_type)),
        };
        let mut body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
            "status": status.as_str(),
            "detail": self.to_string(),
        });
        if let (Some(scim_type), Some(fields)) = (scim_type, body.as_object_mut()) {
            fields.insert("scimType".to_owned(), json!(scim_type));
        }
        scim(status, &body)
    }
}
