//! Content transport: large uploads and downloads, and jobs that a client polls until they are
//! done.
//!
//! A package may have a gigabyte, so it is never held in memory. An upload is counted and its
//! checksum computed while it arrives. A download is generated while it is sent.

use super::answer;
use super::state::Shared;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use uuid::Uuid;

/// Size of the chunks of a download.
const CHUNK: usize = 64 * 1024;

/// The largest download: 2 GiB.
const LARGEST: u64 = 2 * 1024 * 1024 * 1024;

struct Content {
    tenant: Shared,
    jobs: Jobs,
}

/// The routes of content transport.
pub(super) fn routes(tenant: Shared) -> Router {
    Router::new()
        .route("/api/v1/content/jobs", post(upload))
        .route("/api/v1/content/jobs/{id}", get(poll))
        .route("/api/v1/content/packages/{id}", get(download))
        .route("/api/v1/content/{id}", delete(remove))
        .with_state(Arc::new(Content { tenant, jobs: Jobs::default() }))
}

/// An import job as clients see it.
#[derive(Debug, Clone, Serialize)]
struct Job {
    id: String,
    status: JobStatus,
    /// Length of the upload.
    bytes: u64,
    /// CRC-32 of the upload (as in zip and in Python's `zlib.crc32`), eight hexadecimal digits.
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
struct Jobs(Mutex<HashMap<String, Job>>);

impl Jobs {
    fn add(&self, job: Job) {
        self.0.lock().insert(job.id.clone(), job);
    }

    /// Returns the job and then completes it, so that tests need not wait.
    fn poll(&self, id: &str) -> Option<Job> {
        let mut jobs = self.0.lock();
        let job = jobs.get_mut(id)?;
        let now = job.clone();
        job.status = JobStatus::Done;
        Some(now)
    }
}

/// Accepts any body. 202 means that the upload is complete and the import runs. `Location` is the
/// path of the job.
async fn upload(State(content): State<Arc<Content>>, body: Body) -> Response {
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
                let description = format!("the upload ended early, after {bytes} bytes: {error}");
                return answer::error(StatusCode::BAD_REQUEST, "bad_request", &description);
            }
        }
    }
    content.tenant.record(|seen| seen.writes_executed += 1);
    let job = Job {
        id: Uuid::new_v4().to_string(),
        status: JobStatus::Running,
        bytes,
        checksum: format!("{:08x}", checksum.finalize()),
    };
    content.jobs.add(job.clone());
    let location = format!("/api/v1/content/jobs/{}", job.id);
    (StatusCode::ACCEPTED, [(LOCATION, location)], Json(job)).into_response()
}

/// 202 while the job runs, which is at the first poll, and 200 from the second on.
async fn poll(State(content): State<Arc<Content>>, Path(id): Path<String>) -> Response {
    match content.jobs.poll(&id) {
        Some(job) if job.status == JobStatus::Running => {
            (StatusCode::ACCEPTED, Json(job)).into_response()
        }
        Some(job) => Json(job).into_response(),
        None => answer::error(StatusCode::NOT_FOUND, "not_found", &format!("there is no job {id}")),
    }
}

#[derive(Debug, Deserialize)]
struct Size {
    /// Length of the package.
    #[serde(default = "Size::default_bytes")]
    bytes: u64,
}

impl Size {
    fn default_bytes() -> u64 {
        1024 * 1024
    }
}

/// A package of the requested length. Every 64 KiB start again with 0, 1, 2 … 250, 0, 1 …
async fn download(Path(_any): Path<String>, Query(size): Query<Size>) -> Response {
    if size.bytes > LARGEST {
        let description = format!("a package has at most {LARGEST} bytes, not {}", size.bytes);
        return answer::error(StatusCode::BAD_REQUEST, "bad_request", &description);
    }
    let pattern = Bytes::from_iter((0..=250_u8).cycle().take(CHUNK));
    let whole = size.bytes / CHUNK as u64;
    let rest = pattern.slice(..usize::try_from(size.bytes % CHUNK as u64).unwrap_or_default());
    // All chunks share the memory of one pattern.
    let chunks = (0..whole).map(move |_| pattern.clone()).chain(std::iter::once(rest));
    let body = Body::from_stream(stream::iter(chunks.map(Ok::<_, Infallible>)));
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (CONTENT_LENGTH, HeaderValue::from(size.bytes)),
    ];
    (headers, body).into_response()
}

/// Deletes any package, even one that does not exist.
async fn remove(State(content): State<Arc<Content>>, Path(_any): Path<String>) -> StatusCode {
    content.tenant.record(|seen| seen.writes_executed += 1);
    StatusCode::NO_CONTENT
}
