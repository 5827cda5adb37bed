//! The admin listener: probes and metrics. It reads; it decides nothing and changes nothing.

use crate::metrics::Metrics;
use crate::readiness::{Readiness, Report};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use std::sync::Arc;

/// What the pages read from.
#[derive(Clone)]
pub struct Admin {
    /// The probes' answers.
    pub readiness: Readiness,
    /// What `/metrics` renders.
    pub metrics: Arc<Metrics>,
}

/// The routes of the admin listener.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/livez", get(|State(admin): State<Admin>| async move { admin.readiness.live() }))
        .route("/readyz", get(|State(admin): State<Admin>| async move { admin.readiness.ready() }))
        .route(
            "/startupz",
            get(|State(admin): State<Admin>| async move { admin.readiness.started() }),
        )
        .route("/metrics", get(metrics))
        .layer(middleware::map_response(no_store))
        .with_state(admin)
}

impl IntoResponse for Report {
    fn into_response(self) -> Response {
        let status = if self.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, self.text + "\n").into_response()
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    for client in admin.readiness.clients().iter() {
        client.metrics.usable(client.store.is_usable());
    }
    match admin.metrics.render() {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
