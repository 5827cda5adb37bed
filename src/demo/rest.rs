//! The other REST API: task chains. Each call of `run` starts another run, so a proxy must not
//! repeat it on its own.

use super::answer;
use super::state::Shared;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

struct TaskChains {
    tenant: Shared,
    /// The number of runs so far, which is also the `logId` of the last one.
    runs: AtomicU64,
}

/// The routes of task chains.
pub(super) fn routes(tenant: Shared) -> Router {
    Router::new()
        .route("/api/v1/datasphere/tasks/chains/{space}/run/{id}", post(run))
        .route("/api/v1/datasphere/tasks/logs/{space}/{log_id}", get(read_log))
        .with_state(Arc::new(TaskChains { tenant, runs: AtomicU64::default() }))
}

/// Runs any chain of any space. It reads the whole body first, so that an incomplete request starts
/// nothing.
async fn run(State(chains): State<Arc<TaskChains>>, _any_body: Bytes) -> Response {
    let log_id = chains.runs.fetch_add(1, Ordering::Relaxed) + 1;
    chains.tenant.record(|seen| seen.writes_executed += 1);
    (StatusCode::ACCEPTED, Json(json!({ "logId": log_id }))).into_response()
}

/// Returns the state of a run. Every run is completed at once.
async fn read_log(
    State(chains): State<Arc<TaskChains>>,
    Path((_any_space, log_id)): Path<(String, u64)>,
) -> Response {
    if (1..=chains.runs.load(Ordering::Relaxed)).contains(&log_id) {
        Json(json!({ "logId": log_id, "status": "COMPLETED" })).into_response()
    } else {
        let description = format!("there is no run with the logId {log_id}");
        answer::error(StatusCode::NOT_FOUND, "not_found", &description)
    }
}
