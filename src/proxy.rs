//! The request path: pingora's hooks in the order in which they run, each a few lines.
//!
//! Decisions are in the modules below and are pure where they can be. A request that gets through
//! [`ProxyHttp::request_filter`] has a route and a token; what then goes upstream never carries the
//! caller's own credentials. An answer that refuses the token is not passed on before the request
//! was replayed once with a newer one, where that is possible.

mod access_log;
pub(crate) mod admission;
mod batch_check;
mod busy;
pub mod context;
mod cookies;
pub(crate) mod csrf;
pub(crate) mod downstream;
mod failure;
pub mod guard;
pub(crate) mod headers;
pub(crate) mod heal;
mod informational;
pub mod links;
mod outcome;
mod passing;
mod redaction;
pub mod refusal;
mod rejection;
mod request_body;
pub(crate) mod respond;
pub mod route;
mod table;
pub mod upstream;

use crate::config::ListenerId;
use crate::drain::Drain;
use crate::metrics::Metrics;
use crate::metrics::labels::RequestOutcome;
use crate::otlp::Spans;
use crate::profile::Csrf;
use crate::redact::Redactor;
use crate::trace_context::{self, Trace};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use context::{Context, method_label};
use downstream::{Downstream, Load, WRITE_TIMEOUT, unless_disconnected};
use headers::Injection;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode, Version};
use outcome::{end_of, final_answer, has_answered, has_no_body};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use request_body::RequestBody;
use respond::Problem;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;
use table::RouteHandle;
use tokio::time::Instant;
use upstream::{Attempts, SendBuffer};

pub use table::{RouteParts, Table, TableParts};

/// How long the rest of a body that nobody wants is read, to keep the connection.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The proxy. Clones share everything: each worker has one.
#[derive(Clone)]
pub struct Proxy {
    table: Arc<ArcSwap<Table>>,
    metrics: Arc<Metrics>,
    drain: Drain,
    spans: Spans,
}

impl Proxy {
    /// A proxy that begins with this table.
    pub fn new(table: Table, metrics: Arc<Metrics>, drain: Drain, spans: Spans) -> Self {
        Self { table: Arc::new(ArcSwap::from_pointee(table)), metrics, drain, spans }
    }

    /// From now on, requests are judged by this table.
    pub fn replace(&self, table: Table) {
        self.table.store(Arc::new(table));
    }

    /// The load of a listener in front of this proxy.
    pub(crate) fn load(&self, listener: ListenerId) -> Arc<Load> {
        Arc::new(Load::new(listener, self.metrics.clone()))
    }

    /// Counts a request of this listener, for whoever calls the hooks without a connection of ours, as benchmarks do.
    pub fn enter(&self, listener: ListenerId, context: &mut Context) {
        context.share = Some(self.load(listener).enter());
    }

    async fn respond(
        &self,
        session: &mut Session,
        context: &mut Context,
        problem: Problem,
    ) -> pingora::Result<()> {
        context.record.outcome = RequestOutcome::Local(problem.kind);
        if self.drain.has_begun() {
            session.set_keepalive(None);
        }
        self.metrics.record_local_answer(problem.kind);
        passing::forget(session, &mut context.passing);
        // A caller that is slow to hear, or to send what nobody wants, keeps nobody out.
        context.release();
        Downstream::with(session, Downstream::allow_eviction);
        let sent = Box::pin(problem.send(session)).await;
        context.detail = Some(problem.detail);
        sent
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    /// Boxed: pingora hands it from one future to the next.
    type CTX = Box<Context>;

    fn new_ctx(&self) -> Box<Context> {
        Box::new(Context::new(self.metrics.clone()))
    }

    /// No modules: pingora's default is a compression module, and bodies pass here as they are.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(
        &self,
        session: &mut Session,
        context: &mut Box<Context>,
    ) -> pingora::Result<()> {
        let has_body = !session.as_downstream_mut().is_body_empty();
        if let Some(downstream) = Downstream::of(session) {
            downstream.request_started(has_body, session.req_header().headers.contains_key(EXPECT));
            context.share = Some(downstream.count_request());
        }
        // The connection keeps the time.
        session.set_read_timeout(None);
        let request = session.req_header();
        context.record.method = method_label(&request.method);
        let trace = context.trace.insert(Trace::of(&request.headers));
        context.record.span = self.spans.begin(request, route::path_of(request.raw_path()), trace);
        session.set_write_timeout(Some(WRITE_TIMEOUT));
        session.set_total_drain_timeout(Some(DRAIN_TIMEOUT));
        if session.req_header().version == Version::HTTP_10 {
            // Such a caller knows no informational answers (RFC 9110 section 15.2).
            session.as_downstream_mut().set_ignore_info_resp(true);
        }
        Ok(())
    }

    /// Route, method, token; no upstream connection is held yet.
    async fn request_filter(
        &self,
        session: &mut Session,
        context: &mut Box<Context>,
    ) -> pingora::Result<bool> {
        match unless_disconnected(session, self.admit(session, context)).await? {
            Ok(()) => {
                let plan = context.route.as_ref().and_then(|route| route.links.as_ref());
                let check = context.batch.take();
                if plan.is_none() && check.is_none() || session.is_body_empty() {
                    return Ok(false);
                }
                match Box::pin(RequestBody::prepare(plan, check, session)).await? {
                    Ok(body) => context.request_body = body,
                    Err(problem) => {
                        self.respond(session, context, problem).await?;
                        return Ok(true);
                    }
                }
                if session.as_downstream_mut().is_body_done() {
                    Downstream::with(session, Downstream::body_received);
                }
                Ok(false)
            }
            Err(problem) => {
                self.respond(session, context, problem).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        context: &mut Box<Context>,
    ) -> pingora::Result<Box<HttpPeer>> {
        if context.upstream_since.is_some() {
            // What the attempt before has waited for, pingora has waited for.
            downstream::ensure_connected(session)?;
        }
        context.upstream_since.get_or_insert_with(Instant::now);
        Downstream::with(session, Downstream::reset_wait);
        let route = context.route.clone().ok_or_else(defect)?;
        unless_disconnected(session, context.retries.wait()).await?;
        if context.heal.is_due() && !heal::from_login_page(&route, session, context).await {
            return Err(heal::still_a_login_page());
        }
        self.equip(&route, session, context).await?;
        let peer = route.upstream.peer(session.req_header(), &mut context.attempts);
        unless_disconnected(session, peer).await?.map(Box::new)
    }

    /// Nothing was sent yet, so another address or other trust anchors may be tried.
    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        context: &mut Box<Context>,
        error: Box<Error>,
    ) -> Box<Error> {
        match &context.route {
            Some(route) => route.upstream.try_again(&mut context.attempts, error),
            None => error,
        }
    }

    async fn connected_to_upstream(
        &self,
        session: &mut Session,
        is_kept: bool,
        _peer: &HttpPeer,
        _fd: RawFd,
        digest: Option<&Digest>,
        context: &mut Box<Context>,
    ) -> pingora::Result<()> {
        context.attempts.is_kept = is_kept;
        if context.has_waited() {
            // Connecting takes no notice of it.
            downstream::ensure_connected(session)?;
        }
        if let Some(send_buffer) = SendBuffer::on(digest) {
            Downstream::with(session, |downstream| downstream.pace_body(send_buffer));
        }
        let route = context.route.as_ref().ok_or_else(defect)?;
        route.upstream.judge(digest)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        context: &mut Box<Context>,
    ) -> pingora::Result<()> {
        let route = context.route.as_ref().ok_or_else(defect)?;
        // Connecting may have taken a while. Fails closed: without a token that is valid now,
        // nothing is sent.
        let token = context.token.as_ref().filter(|token| !token.is_over());
        let token = token.ok_or_else(failure::expired_meanwhile)?;
        if headers::strip(request) {
            route.metrics.record_stripped_authorization();
        }
        if route.guard.takes_api_key() {
            request.remove_header(&guard::X_API_KEY);
        }
        headers::inject(
            request,
            &Injection {
                authorization: &token.authorization,
                host: &route.upstream.host_header,
                custom_auth: route.config.profile.custom_auth,
                extra: &route.config.headers,
            },
        )?;
        if let Some(trace) = &context.trace {
            if trace.is_ours() {
                request.remove_header(&trace_context::TRACESTATE);
            }
            if let Some(header) = trace.new_header() {
                request.insert_header(trace_context::TRACEPARENT, header)?;
            }
        }
        cookies::restore(request)?;
        if let Some(session) = &context.csrf {
            csrf::inject(request, session)?;
        }
        passing::forget(session, &mut context.passing);
        context.redactor = None;
        if let Some(plan) = &route.links {
            plan.rewrite_request_header(session.req_header(), request)?;
        }
        if let Some(body) = &mut context.request_body {
            body.begin(route.links.as_ref(), session.req_header(), request)?;
        }
        if context.heal.wants_plain_body() {
            request.remove_header(&ACCEPT_ENCODING);
        }
        if route.cut > 0 {
            let target = route::without_prefix(request.raw_path(), route.cut).into_owned();
            request.set_raw_path(&target)?;
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        context: &mut Box<Context>,
    ) -> pingora::Result<()> {
        if end_of_stream {
            Downstream::with(session, Downstream::body_received);
        }
        if let Some(request_body) = &mut context.request_body {
            // Boxed, since few requests have one.
            Box::pin(request_body.transform(body, end_of_stream)).await?;
        }
        Ok(())
    }

    /// Is this an answer, or does it refuse the token? Nothing of it has been passed on yet.
    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Box<Context>,
    ) -> pingora::Result<()> {
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            // Nobody could have asked for it: `Upgrade` is stripped.
            return Err(Error::new_up(ErrorType::InvalidHTTPHeader));
        }
        if headers::is_too_large(response) {
            return Err(failure::large_header());
        }
        let route = context.route.clone().ok_or_else(defect)?;
        if response.status.is_informational() {
            let patience = route.upstream.patience();
            return context.informational.another(response.status, patience, Instant::now());
        }
        if context.attempts.is_of_idleness(response)
            && route.only_reads(session.req_header())
            && !session.as_ref().retry_buffer_truncated()
        {
            return Err(Attempts::idle_answer());
        }
        heal::judge(&route, session, response, context).await?;
        if self.drain.has_begun() {
            return Ok(());
        }
        busy::judge(&route, session, response, context)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Box<Context>,
    ) -> pingora::Result<()> {
        if response.status.is_informational() {
            headers::strip_answer(response);
            strip_sessions(session, response, context);
            if let (Some(secrets), Some(route)) = (redaction::secrets(context), &context.route) {
                route.metrics.add_redacted_tokens(redaction::clean_header(&secrets, response));
            }
            return Ok(());
        }
        let is_whole = has_no_body(&session.req_header().method, response);
        context.is_refused = response.status >= StatusCode::MULTIPLE_CHOICES;
        if response.version != Version::HTTP_2 {
            // Of HTTP/2, nothing tells us of each end: the caller's patience has to.
            let is_refused = context.is_refused;
            Downstream::with(session, |downstream| downstream.response_started(is_refused));
        }
        let took = context.upstream_since.map(|since| since.elapsed());
        context.upstream_took = took;
        if let (Some(route), Some(took)) = (&context.route, took) {
            route.metrics.record_upstream_answer(took);
        }
        if self.drain.has_begun() {
            session.set_keepalive(None);
        }
        headers::strip_answer(response);
        strip_sessions(session, response, context);
        if heal::hold_back(session, response, context) {
            return Ok(());
        }
        let mut changed = None;
        if let Some((route, plan)) =
            context.route.as_ref().and_then(|route| Some((route, route.links.as_ref()?)))
        {
            let (count, body) = plan.rewrite_response_header(session.req_header(), response)?;
            route.metrics.add_rewritten_links(count);
            changed = body.map(|body| (route.clone(), body));
        }
        if session.req_header().version == Version::HTTP_10 {
            // It does not know chunks either: its body ends with the connection (RFC 9112 section 6.1).
            response.remove_header(&TRANSFER_ENCODING);
            if !is_whole && !response.headers.contains_key(CONTENT_LENGTH) {
                // Whatever it asked for: pingora would promise to keep the connection.
                session.set_keepalive(None);
            }
        }
        if is_whole {
            has_answered(session, context);
        }
        if let (Some(secrets), Some(route)) = (redaction::secrets(context), &context.route) {
            route.metrics.add_redacted_tokens(redaction::clean_header(&secrets, response));
            context.redactor = Some(Redactor::new(secrets));
        }
        if let Some((route, body)) = changed {
            passing::begin(session, &route, body, context);
        }
        Ok(())
    }

    /// The end of an answer's body, where trailers come behind it: they are not for callers of HTTP/1.1.
    async fn response_trailer_filter(
        &self,
        session: &mut Session,
        _trailers: &mut HeaderMap,
        context: &mut Box<Context>,
    ) -> pingora::Result<Option<Bytes>> {
        let mut rest = None;
        let ended = self.response_body_filter(session, &mut rest, true, context);
        // pingora would go on as if nothing were missing.
        ended.inspect_err(|_| Downstream::with(session, Downstream::cut))?;
        Ok(rest)
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        context: &mut Box<Context>,
    ) -> pingora::Result<Option<Duration>> {
        heal::look_into(body, end_of_stream, context)?;
        heal::watch(session, body, context)?;
        passing::see(session, body.as_ref(), end_of_stream, context)?;
        if let (Some(redactor), Some(route)) = (&mut context.redactor, &context.route) {
            route.metrics.add_redacted_tokens(redactor.push(body, end_of_stream));
        }
        if end_of_stream {
            has_answered(session, context);
        }
        Ok(None)
    }

    /// Our replays, and what may be sent again after a broken connection.
    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        context: &mut Box<Context>,
        client_reused: bool,
    ) -> Box<Error> {
        Downstream::with(session, Downstream::stop_pacing);
        if let Some(route) = context.route.as_ref().filter(|_| upstream::wants_http1(&error)) {
            route.upstream.use_http1();
        }
        if final_answer(session).is_some()
            || session.as_ref().retry_buffer_truncated()
            || failure::is_refusal(&error)
        {
            // An answer that has begun can't begin anew, and without its beginning a body must not be sent.
            error.set_retry(false);
        } else if heal::is_replay(&error) {
            error.set_retry(true);
        } else {
            let route = context.route.as_ref();
            let only_reads = route.is_some_and(|route| route.only_reads(session.req_header()));
            context.attempts.decide(&mut error, only_reads, client_reused);
        }
        error
    }

    /// Every error is answered here and told by the access log; pingora's own lines would repeat it.
    fn suppress_error_log(&self, _: &Session, _: &Box<Context>, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Box<Context>,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        context: &mut Box<Context>,
    ) -> FailToProxy {
        let answered = final_answer(session).is_some();
        let status = match failure::kind_of(error).filter(|_| !answered) {
            // The caller is gone, or the header is out already: closing the connection is all that can be said.
            None => {
                context.record.outcome = end_of(session, error);
                if context.record.outcome == RequestOutcome::UpstreamIncomplete
                    && session.req_header().version == Version::HTTP_10
                {
                    Downstream::with(session, Downstream::cut);
                }
                0
            }
            Some(kind) => {
                let problem = failure::problem(kind, error);
                session.set_keepalive(None);
                // A caller that is gone cannot be answered; the record tells the kind all the same.
                let _ = self.respond(session, context, problem).await;
                kind.status().as_u16()
            }
        };
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    async fn logging(
        &self,
        session: &mut Session,
        error: Option<&Error>,
        context: &mut Box<Context>,
    ) {
        Downstream::with(session, Downstream::request_ended);
        let record = &mut context.record;
        if error.is_none()
            && record.outcome == RequestOutcome::Aborted
            && final_answer(session).is_some()
        {
            record.outcome = RequestOutcome::Forwarded;
        }
        record.status = final_answer(session).map(|response| response.status);
        if record.status.is_none() {
            // Nothing was said: the next answer on this connection must not be taken for this one's.
            session.set_keepalive(None);
        }
        record.span.sent(context.heal.attempt(), context.heal.reason());
        access_log::request(session, error, context);
        context.record.is_logged = true;
        // What is left of the request's body may still be read.
        context.release();
    }

    /// What pingora's own messages show of a request: nothing that a query could hold.
    fn request_summary(&self, session: &Session, context: &Box<Context>) -> String {
        let path = access_log::readable(route::path_of(session.req_header().raw_path()));
        format!("{} {path}", context.record.method)
    }
}

/// Keeps our session from the caller, and makes its own one that comes back.
fn strip_sessions(session: &Session, response: &mut ResponseHeader, context: &Context) {
    let Some(route) = &context.route else {
        return;
    };
    let is_managed = context.csrf.is_some()
        || route.csrf.is_some() && route.config.profile.csrf == Csrf::Managed;
    csrf::strip(session.req_header(), response, is_managed);
    let config = &route.config;
    let place = cookies::Place {
        // No listener speaks TLS.
        is_tls: false,
        upstream: &route.cookie_domain,
        prefix: config.strip_path.then_some(&config.path),
    };
    cookies::adapt(response, place);
}

/// A hook ran without the one before it.
fn defect() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "the request was not admitted").into_in()
}
