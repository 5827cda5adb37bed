//! The API of SAP's own command line, `datasphere`.
//!
//! That tool has no built-in commands for the objects of a tenant. It downloads a discovery
//! document, which is OpenAPI with a few additions, and makes a command of each `operationId`. The
//! document here is a small one, with four commands.
//!
//! | addition | means |
//! |---|---|
//! | a parameter `x-csrf-token` | first, GET the **same path** with `x-csrf-token: fetch` |
//! | `x-requestbody-fileonly` | the body is the content of a file, not made of options |
//! | `x-read-path` | the path in `Location`; the tool prints the command that reads it |

use super::answer;
use super::state::Shared;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

struct Spaces {
    tenant: Shared,
    /// Definitions of the spaces, by id.
    definitions: Mutex<BTreeMap<String, Value>>,
}

/// The routes of the command line.
pub(super) fn routes(tenant: Shared) -> Router {
    let definition = json!({ "version": "1.0.4", "label": "Demo space" });
    let demo = ("DEMO".to_owned(), json!({ "spaceDefinition": definition }));
    let definitions = Mutex::new(BTreeMap::from([demo]));
    Router::new()
        .route("/dwaas-core/api/v1/discovery", get(discovery))
        .route("/dwaas-core/api/v1/spaces", get(list).post(create))
        .route("/dwaas-core/api/v1/spaces/{space}", get(read).put(update))
        .with_state(Arc::new(Spaces { tenant, definitions }))
}

async fn list(State(spaces): State<Arc<Spaces>>) -> Json<Vec<String>> {
    Json(spaces.definitions.lock().keys().cloned().collect())
}

async fn read(State(spaces): State<Arc<Spaces>>, Path(space): Path<String>) -> Response {
    match spaces.definitions.lock().get(&space) {
        Some(definition) => Json(json!({ space: definition })).into_response(),
        None => no_such_space(&space),
    }
}

/// 201 for a new space, 200 for one that exists. `Location` is a path, because the tool counts its
/// segments.
async fn create(State(spaces): State<Arc<Spaces>>, body: Bytes) -> Response {
    let Some((space, definition)) = definition(&body) else {
        return not_a_space();
    };
    let location = format!("/dwaas-core/api/v1/spaces/{space}");
    let new = spaces.definitions.lock().insert(space, definition).is_none();
    spaces.tenant.record(|seen| seen.writes_executed += 1);
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    (status, [(LOCATION, location)]).into_response()
}

async fn update(
    State(spaces): State<Arc<Spaces>>,
    Path(space): Path<String>,
    body: Bytes,
) -> Response {
    let Some((_, definition)) = definition(&body).filter(|(named, _)| *named == space) else {
        return not_a_space();
    };
    match spaces.definitions.lock().get_mut(&space) {
        Some(old) => *old = definition.clone(),
        None => return no_such_space(&space),
    }
    spaces.tenant.record(|seen| seen.writes_executed += 1);
    Json(json!({ space: definition })).into_response()
}

/// The only member of the body, `{"ID": {…}}`. Ids have only characters that a path need not
/// encode.
fn definition(body: &[u8]) -> Option<(String, Value)> {
    let spaces: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let mut spaces = spaces.into_iter();
    let (space, definition) = spaces.next()?;
    let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let good = !space.is_empty() && space.chars().all(plain) && definition.is_object();
    (good && spaces.next().is_none()).then_some((space, definition))
}

fn not_a_space() -> Response {
    let description = "the body is not {\"ID\": {…}}, with the id of one space (A-Z, 0-9, _)";
    answer::error(StatusCode::BAD_REQUEST, "bad_request", description)
}

fn no_such_space(space: &str) -> Response {
    answer::error(StatusCode::NOT_FOUND, "not_found", &format!("there is no space {space}"))
}

/// The discovery document. The tool's schema requires contact, license and externalDocs, although
/// it does not use them. For a version before 2023, the tool would prefix every path with
/// `/dwaas-core`.
async fn discovery() -> Json<Value> {
    let sap = json!({ "name": "SAP", "url": "https://help.sap.com" });
    let space = json!({
        "name": "space",
        "in": "path",
        "description": "space id",
        "required": true,
        "schema": { "type": "string" },
    });
    let csrf = json!({ "$ref": "#/components/parameters/csrf" });
    let ok = json!({ "200": { "description": "OK" } });
    let file = json!({
        "description": "space definition",
        "required": true,
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/space" } } },
    });
    Json(json!({
        "openapi": "3.0.3",
        "info": {
            "title": "Demo tenant",
            "description": "Commands of the demo tenant",
            "contact": sap,
            "license": sap,
            "version": "2026.19",
            "x-document-version": "2026.19",
        },
        "externalDocs": { "description": "Help", "url": "https://help.sap.com" },
        "tags": [{ "name": "spaces", "description": "manage and orchestrate spaces" }],
        "paths": {
            "/dwaas-core/api/v1/spaces": {
                "get": {
                    "operationId": "spaces list",
                    "summary": "list spaces",
                    "responses": ok,
                },
                "post": {
                    "operationId": "spaces create",
                    "summary": "create or replace a space",
                    "x-requestbody-fileonly": true,
                    "x-read-path": "/dwaas-core/api/v1/spaces/{space}",
                    "parameters": [csrf],
                    "requestBody": file,
                    "responses": { "201": { "description": "Created" } },
                },
            },
            "/dwaas-core/api/v1/spaces/{space}": {
                "get": {
                    "operationId": "spaces read",
                    "summary": "read a space",
                    "parameters": [space],
                    "responses": ok,
                },
                "put": {
                    "operationId": "spaces update",
                    "summary": "replace a space",
                    "x-requestbody-fileonly": true,
                    "parameters": [space, csrf],
                    "requestBody": file,
                    "responses": ok,
                },
            },
        },
        "components": {
            "parameters": { "csrf": {
                "name": "x-csrf-token",
                "in": "header",
                "description": "fetched by the command line itself",
                "required": true,
                "schema": { "type": "string" },
            } },
            "schemas": { "space": { "type": "object" } },
        },
    }))
}
