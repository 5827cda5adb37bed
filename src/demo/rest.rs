//! Other REST: task chains. Each call of `run` starts another run, so a proxy must not send it twice by itself.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;

use super::answer;
use super::state::Shared;

/// The task chains' paths.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v1/datasphere/tasks/chains/{space}/run/{id}", post(run))
        .route("/api/v1/datasphere/tasks/logs/{space}/{log_id}", get(read_log))
}

/// How many runs there were. The last one's number is its `logId`.
#[derive(Debug, Default)]
pub(super) struct Runs(AtomicU64);

/// Runs any chain of any space. The body is read to its end first: half a request starts nothing.
async fn run(State(state): State<Shared>, _any_body: Bytes) -> Response {
    let log_id = state.runs.0.fetch_add(1, Ordering::Relaxed) + 1;
    state.count(|seen| seen.writes_executed += 1);
    (StatusCode::ACCEPTED, Json(json!({ "logId": log_id }))).into_response()
}

/// A run that was started is done by the time it is asked about.
async fn read_log(
    State(state): State<Shared>,
    Path((_any_space, log_id)): Path<(String, u64)>,
) -> Response {
    if (1..=state.runs.0.load(Ordering::Relaxed)).contains(&log_id) {
        Json(json!({ "logId": log_id, "status": "COMPLETED" })).into_response()
    } else {
        let description = format!("there is no run with the logId {log_id}");
        answer::error(StatusCode::NOT_FOUND, "not_found", &description)
    }
}
