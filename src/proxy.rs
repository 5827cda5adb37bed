//! The request path: pingora's hooks in the order in which they run, each a few lines.
//!
//! Decisions are in the modules below and are pure where they can be. A request that gets through
//! [`ProxyHttp::request_filter`] has a route and a token; what then goes upstream never carries the
//! caller's own credentials.

pub mod context;
mod failure;
mod headers;
pub mod profile;
mod respond;
pub mod route;
pub mod upstream;

use crate::config::{Config, Route};
use crate::drain::Drain;
use crate::error::ErrorKind;
use crate::metrics::{ClientMetrics, Metrics, RouteMetrics};
use crate::token::store::TokenStore;
use async_trait::async_trait;
use context::{Context, Outcome, method_label};
use headers::Injection;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use respond::Problem;
use route::Router;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::info;
use upstream::Upstream;

/// A caller that reads nothing for this long has gone away.
const DOWNSTREAM_WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the rest of a body that nobody wants is read, to keep the connection.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// What the proxy sees of an OAuth client.
#[derive(Clone)]
pub struct ClientHandle {
    /// The client's name, for messages.
    pub name: String,
    /// Where its token is read.
    pub store: Arc<TokenStore>,
    /// How long a request may wait for one.
    pub wait: Duration,
    /// Where waits are counted.
    pub metrics: ClientMetrics,
}

/// A route with all that its requests need.
struct RouteHandle {
    config: Route,
    /// Segments to cut from the path; zero without `strip_path`.
    cut: usize,
    client: ClientHandle,
    upstream: Arc<Upstream>,
    metrics: Arc<RouteMetrics>,
}

/// The proxy. Clones share everything: each worker has one.
#[derive(Clone)]
pub struct Proxy {
    router: Arc<Router>,
    routes: Arc<[RouteHandle]>,
    metrics: Arc<Metrics>,
    drain: Drain,
}

impl Proxy {
    /// Puts routes, clients and upstreams together; both lists are in the configuration's order.
    pub fn new(
        config: &Config,
        clients: &[ClientHandle],
        upstreams: &[Arc<Upstream>],
        metrics: Arc<Metrics>,
        drain: Drain,
    ) -> Self {
        let routes = config.routes.iter().filter_map(|route| {
            Some(RouteHandle {
                config: route.clone(),
                cut: if route.strip_path { route.path.matches('/').count() } else { 0 },
                client: clients.get(route.client.0)?.clone(),
                upstream: upstreams.get(route.upstream.0)?.clone(),
                metrics: Arc::new(metrics.route(&route.path)),
            })
        });
        Self {
            router: Router::new(config.routes.iter().map(|route| route.path.as_str())).into(),
            routes: routes.collect(),
            metrics,
            drain,
        }
    }

    fn route(&self, context: &Context) -> Option<&RouteHandle> {
        context.route.and_then(|route| self.routes.get(route))
    }

    /// Finds the route and the token, or says why there is none.
    async fn admit(&self, session: &Session, context: &mut Context) -> Result<(), Problem> {
        let request = session.req_header();
        let bad =
            |why: &dyn std::fmt::Display| Problem::new(ErrorKind::BadRequest, why.to_string());
        check_framing(session).map_err(|why| bad(&why))?;
        let found = self.router.find(request.raw_path()).map_err(|why| bad(&why))?;
        context.route = found;
        let Some(route) = self.route(context) else {
            let detail = "no configured route matches this path; `bearerd check` lists the routes";
            return Err(Problem::new(ErrorKind::NoRoute, detail));
        };
        context.record.route = Some(route.metrics.clone());
        route.allows(request)?;
        context.authorization = Some(self.token_of(&route.client).await?);
        Ok(())
    }

    /// The current token; without one, the next, within the client's `wait`.
    async fn token_of(&self, client: &ClientHandle) -> Result<HeaderValue, Problem> {
        if let Some(authorization) = client.store.usable() {
            return Ok(authorization);
        }
        let waited = tokio::select! {
            waited = client.store.wait(client.wait) => waited,
            () = self.drain.deadline() => {
                return Err(Problem::new(ErrorKind::Draining, "the sidecar ends before a token came"));
            }
        };
        client.metrics.waited(waited.is_ok());
        waited.map_err(|unavailable| Problem {
            retry_after: Some(unavailable.retry_after),
            ..Problem::new(unavailable.kind, no_token(unavailable.kind, &client.name))
        })
    }

    async fn respond(
        &self,
        session: &mut Session,
        context: &mut Context,
        problem: Problem,
    ) -> pingora::Result<()> {
        context.record.outcome = Outcome::Local(problem.kind);
        self.metrics.rejected(problem.kind);
        let sent = problem.send(session).await;
        context.detail = Some(problem.detail);
        sent
    }
}

impl RouteHandle {
    fn allows(&self, request: &RequestHeader) -> Result<(), Problem> {
        let route = &self.config;
        let path = route::path_of(request.raw_path());
        let refused = request.method == Method::POST
            && route.profile.post_only_batch
            && !path.ends_with(b"/$batch");
        if route.methods.contains(&request.method) && !refused {
            return Ok(());
        }
        let detail = if refused {
            format!("profile {} takes POST only on …/$batch", route.profile.name)
        } else {
            format!("profile {} on this route takes {}", route.profile.name, route.methods)
        };
        Err(Problem {
            allow: Some(route.methods.to_string()),
            ..Problem::new(ErrorKind::MethodNotAllowed, detail)
        })
    }
}

fn no_token(kind: ErrorKind, client: &str) -> String {
    match kind {
        ErrorKind::CredentialRejected => format!(
            "the issuer refuses client {client}; see bearerd's log for its reason, and check client_id, secret and the client's expiry"
        ),
        _ => format!(
            "client {client} has no valid token now; see bearerd's log and /readyz for the reason"
        ),
    }
}

/// What pingora lets through although RFC 9112 does not.
fn check_framing(session: &Session) -> Result<(), &'static str> {
    let request = session.req_header();
    let hosts = request.headers.get_all(HOST).iter().count();
    if hosts > 1 || hosts == 0 && request.version == Version::HTTP_11 {
        return Err("an HTTP/1.1 request has exactly one Host (RFC 9112 section 3.2)");
    }
    // pingora drops the length without a word when both are there, so the bytes are asked.
    if request.headers.contains_key(TRANSFER_ENCODING)
        && names_header(&session.to_h1_raw(), CONTENT_LENGTH.as_str())
    {
        return Err(
            "Content-Length and Transfer-Encoding exclude each other (RFC 9112 section 6.1)",
        );
    }
    Ok(())
}

/// Whether a line of a raw header block begins with this name.
fn names_header(block: &[u8], name: &str) -> bool {
    block.split(|byte| *byte == b'\n').any(|line| {
        line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
    })
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::new(self.metrics.clone())
    }

    /// No modules: pingora's default is a compression module, and bodies pass here as they are.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(
        &self,
        session: &mut Session,
        context: &mut Context,
    ) -> pingora::Result<()> {
        context.record.method = method_label(&session.req_header().method);
        session.set_write_timeout(Some(DOWNSTREAM_WRITE_TIMEOUT));
        session.set_total_drain_timeout(Some(DRAIN_TIMEOUT));
        Ok(())
    }

    /// Route, method, token; no upstream connection is held yet.
    async fn request_filter(
        &self,
        session: &mut Session,
        context: &mut Context,
    ) -> pingora::Result<bool> {
        match self.admit(session, context).await {
            Ok(()) => Ok(false),
            Err(problem) => {
                self.respond(session, context, problem).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        context: &mut Context,
    ) -> pingora::Result<Box<HttpPeer>> {
        context.upstream_since.get_or_insert_with(Instant::now);
        let upstream = self.route(context).ok_or_else(defect)?.upstream.clone();
        let peer = upstream.peer(&mut context.attempts).await;
        peer.map(Box::new).map_err(|error| {
            Error::because(ErrorType::ConnectNoRoute, "resolving the upstream", error).into_up()
        })
    }

    /// Nothing was sent yet, so the next address may be tried.
    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        context: &mut Context,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let upstream = self.route(context).map(|route| route.upstream.clone());
        let more = upstream.is_some_and(|upstream| upstream.try_next(&mut context.attempts));
        error.set_retry(more);
        error
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        context: &mut Context,
    ) -> pingora::Result<()> {
        let route = self.route(context).ok_or_else(defect)?;
        // Fails closed: without our token nothing is sent.
        let authorization = context.authorization.as_ref().ok_or_else(defect)?;
        if headers::strip(request) {
            route.metrics.authorization_stripped();
        }
        headers::inject(
            request,
            &Injection {
                authorization,
                host: &route.upstream.host_header,
                custom_auth: route.config.profile.custom_auth,
                extra: &route.config.headers,
            },
        )?;
        if route.cut > 0 {
            let target = route::without_prefix(request.raw_path(), route.cut).into_owned();
            request.set_raw_path(&target)?;
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Context,
    ) -> pingora::Result<()> {
        let took = context.upstream_since.map(|since| since.elapsed());
        context.upstream_took = took;
        if let (Some(route), Some(took)) = (self.route(context), took) {
            route.metrics.upstream_answered(took);
        }
        context.record.status = Some(response.status);
        if self.drain.has_begun() {
            session.set_keepalive(None);
        }
        Ok(())
    }

    /// Every error is answered here and told by the access log; pingora's own lines would repeat it.
    fn suppress_error_log(&self, _: &Session, _: &Context, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Context,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        context: &mut Context,
    ) -> FailToProxy {
        let answered = session.response_written().is_some();
        let status = match failure::kind_of(error) {
            None => {
                context.record.outcome = Outcome::DownstreamClosed;
                0
            }
            // The header is out already: closing the connection is all that can be said.
            Some(_) if answered => {
                context.record.outcome = Outcome::UpstreamIncomplete;
                0
            }
            Some(kind) => {
                let problem = Problem::new(kind, failure::detail(kind, error));
                // A caller that is gone cannot be answered; the record tells the kind all the same.
                let _ = self.respond(session, context, problem).await;
                kind.status().as_u16()
            }
        };
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, context: &mut Context) {
        let record = &mut context.record;
        if error.is_none() && record.outcome == Outcome::Aborted {
            record.outcome = Outcome::Forwarded;
        }
        record.status = session.response_written().map(|response| response.status);
        let request = session.req_header();
        info!(
            target: "bearerd::access",
            route = context.route.and_then(|route| self.routes.get(route)).map(|route| route.config.path.as_str()),
            method = record.method,
            path = %String::from_utf8_lossy(route::path_of(request.raw_path())),
            status = record.status.map(|status| status.as_u16()),
            outcome = record.outcome.label(),
            duration_ms = milliseconds(record.elapsed()),
            upstream_ms = context.upstream_took.map(milliseconds),
            request_bytes = session.body_bytes_read(),
            response_bytes = session.body_bytes_sent(),
            error = error.map(|error| error.etype().as_str()),
            detail = context.detail,
            "Request."
        );
    }

    /// What pingora's own messages show of a request: nothing that a query could hold.
    fn request_summary(&self, session: &Session, context: &Context) -> String {
        let path = String::from_utf8_lossy(route::path_of(session.req_header().raw_path()));
        format!("{} {path}", context.record.method)
    }
}

/// A hook ran without the one before it.
fn defect() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "the request was not admitted").into_in()
}

/// Milliseconds to the microsecond.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
