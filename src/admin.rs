//! The admin listener: probes and metrics. It reads; it decides nothing and changes nothing.

use crate::metrics::Metrics;
use crate::readiness::{Readiness, Report};
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use std::sync::Arc;
use url::{Host, Url};

/// What the pages read from.
#[derive(Clone)]
pub struct Admin {
    /// The probes' answers.
    pub readiness: Readiness,
    /// What `/metrics` renders.
    pub metrics: Arc<Metrics>,
    /// The names by which callers may know the sidecar.
    pub hosts: Arc<[String]>,
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
        .layer(middleware::from_fn_with_state(admin.clone(), check_host))
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

/// A name that is not ours may be one that a web page has bound to this address. Addresses can't be
/// bound: the kubelet and Prometheus come with one.
async fn check_host(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let name = host.and_then(|host| Url::parse(&format!("http://{host}")).ok());
    let is_known = match name.as_ref().and_then(Url::host) {
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
        Some(Host::Domain(name)) => admin.hosts.iter().any(|known| known == name),
        None => host.is_none(),
    };
    if is_known {
        return next.run(request).await;
    }
    (StatusCode::MISDIRECTED_REQUEST, "this host name is not in access.hosts\n").into_response()
}

async fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
