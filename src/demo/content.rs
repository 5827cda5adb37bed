//! Content transport: large uploads and downloads, and jobs that a client asks about until they are done.
//!
//! A package may be a gigabyte, so nothing here ever holds one: uploads are counted and summed as they come, downloads
//! are made as they go.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Mutex;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::answer;
use super::state::{Shared, lock};

/// How much of a download is made at a time.
const CHUNK: usize = 64 * 1024;

/// The largest download: 2 GiB.
const LARGEST: u64 = 2 * 1024 * 1024 * 1024;

/// The content paths.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v1/content/jobs", post(upload))
        .route("/api/v1/content/jobs/{id}", get(poll))
        .route("/api/v1/content/packages/{id}", get(download))
        .route("/api/v1/content/{id}", delete(remove))
}

/// An import job, as clients see it.
#[derive(Debug, Clone, Serialize)]
struct Job {
    id: String,
    status: JobStatus,
    /// How long the upload was.
    bytes: u64,
    /// The upload's CRC-32 (the one of zip and of Python's `zlib.crc32`), eight hexadecimal digits.
    checksum: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum JobStatus {
    Running,
    Done,
}

/// The jobs since the start, by id.
#[derive(Debug, Default)]
pub(super) struct Jobs(Mutex<HashMap<String, Job>>);

impl Jobs {
    fn add(&self, job: Job) {
        lock(&self.0).insert(job.id.clone(), job);
    }

    /// The job as it is now. Being asked makes it go on, so that tests need not wait.
    fn poll(&self, id: &str) -> Option<Job> {
        let mut jobs = lock(&self.0);
        let job = jobs.get_mut(id)?;
        let now = job.clone();
        job.status = JobStatus::Done;
        Some(now)
    }
}

/// Takes any body. 202 says that the upload was received and the import goes on; where to ask is in `Location`.
async fn upload(State(state): State<Shared>, body: Body) -> Response {
    let mut chunks = body.into_data_stream();
    let mut checksum = crc32fast::Hasher::new();
    let mut bytes = 0_u64;
    while let Some(chunk) = chunks.next().await {
        match chunk {
            Ok(chunk) => {
                checksum.update(&chunk);
                bytes += chunk.len() as u64;
            }
            Err(error) => {
                let description = format!("the upload broke off after {bytes} bytes: {error}");
                return answer::error(StatusCode::BAD_REQUEST, "bad_request", &description);
            }
        }
    }
    state.count(|seen| seen.writes_executed += 1);
    let job = Job {
        id: Uuid::new_v4().to_string(),
        status: JobStatus::Running,
        bytes,
        checksum: format!("{:08x}", checksum.finalize()),
    };
    state.jobs.add(job.clone());
    let location = format!("/api/v1/content/jobs/{}", job.id);
    (StatusCode::ACCEPTED, [(LOCATION, location)], Json(job)).into_response()
}

/// 202 while the job runs (the first time it is asked about), 200 when it is done (from the second).
async fn poll(State(state): State<Shared>, Path(id): Path<String>) -> Response {
    match state.jobs.poll(&id) {
        Some(job) if job.status == JobStatus::Running => {
            (StatusCode::ACCEPTED, Json(job)).into_response()
        }
        Some(job) => Json(job).into_response(),
        None => answer::error(StatusCode::NOT_FOUND, "not_found", &format!("there is no job {id}")),
    }
}

#[derive(Debug, Deserialize)]
struct Size {
    /// How long the package is to be.
    #[serde(default = "Size::default_bytes")]
    bytes: u64,
}

impl Size {
    fn default_bytes() -> u64 {
        1024 * 1024
    }
}

/// A package of the length asked for: every 64 KiB start anew with 0, 1, 2 … 250, 0, 1 …
async fn download(Path(_any): Path<String>, Query(size): Query<Size>) -> Response {
    if size.bytes > LARGEST {
        let description = format!("a package has {LARGEST} bytes at most, not {}", size.bytes);
        return answer::error(StatusCode::BAD_REQUEST, "bad_request", &description);
    }
    let pattern = Bytes::from_iter((0..=250_u8).cycle().take(CHUNK));
    let whole = size.bytes / CHUNK as u64;
    let rest = pattern.slice(..usize::try_from(size.bytes % CHUNK as u64).unwrap_or_default());
    // Every chunk shares the one pattern's memory.
    let chunks = (0..whole).map(move |_| pattern.clone()).chain(std::iter::once(rest));
    let body = Body::from_stream(stream::iter(chunks.map(Ok::<_, Infallible>)));
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (CONTENT_LENGTH, HeaderValue::from(size.bytes)),
    ];
    (headers, body).into_response()
}

/// Every package can be deleted, also one that was never there.
async fn remove(State(state): State<Shared>, Path(_any): Path<String>) -> StatusCode {
    state.count(|seen| seen.writes_executed += 1);
    StatusCode::NO_CONTENT
}
