//! Admin listener: probes, metrics, and the status page. It only reads.

mod connections;
mod page;
mod runbook;

pub(crate) use connections::{NEEDS_TLS, serve};

use crate::readiness::ProbeAnswer;
use crate::status::StatusView;
use axum::extract::{RawQuery, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use std::sync::Arc;
use url::{Host, Url};

/// Headers of every answer: it is not cached, its type is not guessed, and the page may load only
/// what this listener serves.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ),
];

/// Type of the pages.
const HTML: &str = "text/html; charset=utf-8";

/// Shared state of the admin listener.
#[derive(Clone)]
pub struct Admin {
    /// The source of all answers.
    pub view: Arc<StatusView>,
    /// The host names that requests may have.
    pub hosts: Arc<[String]>,
}

impl Admin {
    fn is_known_host(&self, host: &str) -> bool {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        let url = host.bytes().all(is_plain).then(|| Url::parse(&format!("http://{host}")).ok());
        match url.flatten().as_ref().and_then(Url::host) {
            Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
            Some(Host::Domain(name)) => self.hosts.iter().any(|known| known == name),
            None => false,
        }
    }
}

/// Returns the routes of the admin listener.
pub fn router(admin: Admin) -> Router {
    let livez = get(|State(admin): State<Admin>| async move { admin.view.readiness().livez() });
    let healthz = livez.clone();
    let startupz =
        get(|State(admin): State<Admin>| async move { admin.view.readiness().startupz() });
    let status = get(|State(admin): State<Admin>| async move { Json(admin.view.status()) });
    let page = get(|State(admin): State<Admin>| async move {
        ([(CONTENT_TYPE, HTML)], page::render(&admin.view.status()))
    });
    Router::new()
        .route("/livez", livez)
        // Its older name, which some platforms ask for.
        .route("/healthz", healthz)
        .route("/readyz", get(readyz))
        .route("/startupz", startupz)
        .route("/metrics", get(metrics))
        .route("/status", status)
        .route("/", page)
        .route("/runbook", get(([(CONTENT_TYPE, HTML)], runbook::PAGE.as_str())))
        .route("/page.css", get(([(CONTENT_TYPE, "text/css")], page::STYLE)))
        .route("/page.js", get(([(CONTENT_TYPE, "text/javascript")], page::SCRIPT)))
        .fallback(not_found)
        .layer(middleware::map_response(add_headers))
        .layer(middleware::from_fn_with_state(admin.clone(), check_host))
        .with_state(admin)
}

impl IntoResponse for ProbeAnswer {
    fn into_response(self) -> Response {
        let status = if self.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, self.text + "\n").into_response()
    }
}

/// Answers `/readyz`. With `?verbose`, each check is named, as in Kubernetes' own components.
async fn readyz(State(admin): State<Admin>, RawQuery(query): RawQuery) -> ProbeAnswer {
    let is_verbose = query.is_some_and(|query| query.split('&').any(|part| part == "verbose"));
    let readiness = admin.view.readiness();
    if is_verbose { readiness.readyz_verbose() } else { readiness.readyz() }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.view.metrics().render() {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Rejects unknown host names. A web page can point a name of its own at this address (DNS
/// rebinding). An IP address as the host is safe, and the kubelet and Prometheus use one.
async fn check_host(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let hosts: Vec<_> = request.headers().get_all(HOST).iter().collect();
    let is_known = match hosts[..] {
        [] => true,
        [host] => host.to_str().is_ok_and(|host| admin.is_known_host(host)),
        _ => false,
    };
    if is_known {
        return next.run(request).await;
    }
    (StatusCode::MISDIRECTED_REQUEST, "this host name is not in access.hosts; use a name from that list, an IP address, or add this one\n").into_response()
}

async fn not_found() -> Response {
    let paths = "this page does not exist; there are /, /runbook, /status, /metrics, /livez, /readyz and /startupz (applications connect to `listen`, not here)\n";
    (StatusCode::NOT_FOUND, paths).into_response()
}

async fn add_headers(mut response: Response) -> Response {
    response.headers_mut().extend(HEADERS);
    response
}
