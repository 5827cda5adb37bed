//! The request path: pingora's hooks in the order in which they run, each a few lines.
//!
//! The modules below make the decisions, and are pure where possible. A request that passes
//! [`ProxyHttp::request_filter`] has a route and a token. What is sent upstream never has the
//! caller's own credentials. An answer that refuses the token is passed on only if the request
//! cannot be sent again with a newer one.

mod access_log;
mod admission;
mod answer_body;
mod answer_header;
mod attempt;
mod attempt_setup;
pub(crate) mod attempts;
mod audit_trail;
mod batch_check;
mod busy_retry;
mod caller;
pub mod context;
mod cookies;
pub mod credentials;
mod csrf;
pub(crate) mod downstream;
mod failure;
pub mod guard;
mod header_redaction;
mod heal;
mod informational;
pub(crate) mod injected_headers;
pub mod links;
mod loggable;
pub(crate) mod login_page;
mod method_override;
mod methods;
mod outcome;
pub mod peer;
pub(crate) mod problem;
mod record;
mod rejection;
mod replay;
mod request_body;
mod request_framing;
mod request_header;
pub mod route;
mod route_handle;
mod stripped_headers;
mod table;
#[cfg(test)]
mod test_request;
pub mod token_refusal;
pub mod upstream;

use crate::audit::Audit;
use crate::config::ListenerId;
use crate::drain::Drain;
use crate::metrics::Metrics;
use crate::metrics::labels::RequestOutcome;
use crate::otlp::Spans;
use crate::trace_context::Trace;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use audit_trail::AuditTrail;
use bytes::Bytes;
use context::{Admitted, Context};
use downstream::{Downstream, Load, WRITE_TIMEOUT, unless_disconnected};
use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode, Version};
use outcome::{final_answer, has_no_body};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use problem::{DRAIN_TIMEOUT, Problem};
use record::method_label;
use request_body::BatchWrites;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use upstream::SendBuffer;

pub use route_handle::{RouteParts, TableParts};
pub use table::Table;

/// The proxy. Clones share everything: each worker has one.
#[derive(Clone)]
pub struct Proxy {
    table: Arc<ArcSwap<Table>>,
    metrics: Arc<Metrics>,
    drain: Drain,
    spans: Spans,
    audit: Option<Audit>,
}

impl Proxy {
    /// Creates a proxy with its first table.
    pub fn new(
        table: Table,
        metrics: Arc<Metrics>,
        drain: Drain,
        spans: Spans,
        audit: Option<Audit>,
    ) -> Self {
        Self { table: Arc::new(ArcSwap::from_pointee(table)), metrics, drain, spans, audit }
    }

    /// Replaces the table. Requests in flight keep their route.
    pub fn replace(&self, table: Table) {
        self.table.store(Arc::new(table));
    }

    /// The table in force.
    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// The load of a listener in front of this proxy.
    pub(crate) fn load(&self, listener: ListenerId) -> Arc<Load> {
        Arc::new(Load::new(listener, self.metrics.clone()))
    }

    /// Counts a request of this listener. For benchmarks, which call the hooks without a
    /// connection.
    #[doc(hidden)]
    pub fn enter(&self, listener: ListenerId, context: &mut Context) {
        context.in_flight = Some(self.load(listener).count_request());
    }

    /// Audits a request that changes something, before any byte of it is sent.
    async fn audit(
        &self,
        session: &Session,
        context: &mut Context,
        batch: &BatchWrites,
    ) -> Result<(), Problem> {
        let Some(audit) = &self.audit else { return Ok(()) };
        let Some(admitted) = &context.admitted else { return Ok(()) };
        let trail = AuditTrail::of(audit, session, &admitted.route, batch);
        let Some(trail) = trail else { return Ok(()) };
        let trail = context.audit.insert(trail);
        trail.begin_write(session, &context.record, &batch.parts).await
    }

    /// Sends a local answer.
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
        if let Some(admitted) = &mut context.admitted {
            admitted.attempt.answer_body.reset(session);
        }
        // A caller that is slow to read its answer, or to send an unneeded body, must not block
        // other requests.
        context.release();
        Downstream::with(session, Downstream::allow_eviction);
        let sent = Box::pin(problem.send(session)).await;
        context.detail = Some(problem.detail);
        sent
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    /// Boxed: pingora moves it from one future to the next.
    type CTX = Box<Context>;

    fn new_ctx(&self) -> Box<Context> {
        Box::new(Context::new(self.metrics.clone()))
    }

    /// No modules: pingora's default is compression, and bodies are not compressed here.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(
        &self,
        session: &mut Session,
        context: &mut Box<Context>,
    ) -> pingora::Result<()> {
        let has_body = !session.as_downstream_mut().is_body_empty();
        if let Some(downstream) = Downstream::of(session) {
            downstream.request_started(has_body, session.req_header().headers.contains_key(EXPECT));
            context.in_flight = Some(downstream.count_request());
        }
        // The connection has its own read timeout.
        session.set_read_timeout(None);
        let request = session.req_header();
        context.record.method = method_label(&request.method);
        let trace = context.trace.insert(Trace::of(&request.headers));
        let scheme = if Downstream::is_over_tls(session) { "https" } else { "http" };
        let path = route::path_of(request.raw_path());
        context.record.span = self.spans.begin(scheme, request, path, trace);
        session.set_write_timeout(Some(WRITE_TIMEOUT));
        session.set_total_drain_timeout(Some(DRAIN_TIMEOUT));
        if session.req_header().version == Version::HTTP_10 {
            // HTTP/1.0 has no informational answers (RFC 9110 section 15.2).
            session.as_downstream_mut().set_ignore_info_resp(true);
        }
        Ok(())
    }

    /// Checks route, method and token. No upstream connection is held yet.
    async fn request_filter(
        &self,
        session: &mut Session,
        context: &mut Box<Context>,
    ) -> pingora::Result<bool> {
        let admission = admission::admit(&self.table, &self.drain, session, context);
        let prepared = match unless_disconnected(session, admission).await? {
            Ok(()) => admission::prepare_body(session, context.admitted()?).await?,
            Err(problem) => Err(problem),
        };
        let audited = match prepared {
            // Boxed, since few configurations have an audit log.
            Ok(batch) if self.audit.is_some() => {
                Box::pin(self.audit(session, context, &batch)).await
            }
            Ok(_) => Ok(()),
            Err(problem) => Err(problem),
        };
        match audited {
            Ok(()) => Ok(false),
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
        let admitted = context.admitted()?;
        if admitted.upstream_since.is_some() {
            // pingora waited for the earlier attempt, without a look at the caller's connection.
            downstream::ensure_connected(session)?;
        }
        admitted.upstream_since.get_or_insert_with(Instant::now);
        Downstream::with(session, Downstream::reset_wait);
        unless_disconnected(session, admitted.retry_wait.wait()).await?;
        if admitted.heal.is_due() {
            let Admitted { route, heal, attempt, .. } = &mut *admitted;
            if !heal.renew_after_login_page(route, session, attempt).await {
                return Err(heal::still_a_login_page());
            }
        }
        attempt_setup::prepare_attempt(&self.drain, session, admitted).await?;
        let peer = admitted.route.upstream.peer(session.req_header(), &mut admitted.tried);
        let peer = unless_disconnected(session, peer).await??;
        if let Some(address) = peer._address.as_inet()
            && self.table.load().is_own(*address)
        {
            return Err(upstream::leads_here(*address));
        }
        Ok(Box::new(peer))
    }

    /// Decides whether to try another address or other trust anchors. Nothing has been sent yet.
    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        context: &mut Box<Context>,
        error: Box<Error>,
    ) -> Box<Error> {
        match &mut context.admitted {
            Some(Admitted { route, tried, attempts, .. }) => {
                route.upstream.decide_connect_retry(error, tried, attempts)
            }
            None => error,
        }
    }

    async fn connected_to_upstream(
        &self,
        session: &mut Session,
        is_pooled: bool,
        _peer: &HttpPeer,
        _fd: RawFd,
        digest: Option<&Digest>,
        context: &mut Box<Context>,
    ) -> pingora::Result<()> {
        let admitted = context.admitted()?;
        admitted.tried.is_pooled = is_pooled;
        if admitted.has_waited() {
            // pingora connected without a look at the caller's connection.
            downstream::ensure_connected(session)?;
        }
        if let Some(send_buffer) = SendBuffer::on(digest) {
            Downstream::with(session, |downstream| downstream.pace_body(send_buffer));
        }
        admitted.route.upstream.check_tls(digest)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        context: &mut Box<Context>,
    ) -> pingora::Result<()> {
        let Some(admitted) = context.admitted.as_mut() else { return Err(context::not_admitted()) };
        if let Some(audit) = &mut context.audit {
            audit.set_sent();
        }
        request_header::rewrite(session, request, context.trace.as_ref(), admitted)
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
        let Context { admitted, audit, record, .. } = &mut **context;
        let Some(admitted) = admitted else { return Err(context::not_admitted()) };
        let Some(request_body) = &mut admitted.request_body else { return Ok(()) };
        // Boxed, since few requests have one.
        Box::pin(request_body.transform(body, end_of_stream)).await?;
        if let Some(audit) = audit.as_mut().filter(|_| !request_body.new_writes().is_empty()) {
            let parts = request_body.new_writes();
            let audited = Box::pin(audit.add_parts(session, record, parts)).await;
            audited.map_err(request_body::refused)?;
        }
        request_body.confirm_writes();
        Ok(())
    }

    /// Decides whether the answer is passed on or another attempt starts. Nothing of it was sent
    /// yet.
    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Box<Context>,
    ) -> pingora::Result<()> {
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            // `Upgrade` is stripped, so no request asks for this.
            return Err(Error::new_up(ErrorType::InvalidHTTPHeader));
        }
        if answer_header::is_too_large(response) {
            return Err(answer_header::too_large());
        }
        let Admitted { route, informational, heal, retry_wait, attempt, attempts, tried, .. } =
            context.admitted()?;
        if response.status.is_informational() {
            let timeout = route.upstream.read_timeout();
            return informational.count(response.status, timeout, Instant::now());
        }
        if upstream::is_idle_timeout(response, tried)
            && route.only_reads(session.req_header())
            && replay::is_body_held(session)
        {
            return Err(upstream::idle_timeout());
        }
        heal.on_answer_header(route, session, response, attempt, attempts).await?;
        if self.drain.has_begun() {
            return Ok(());
        }
        retry_wait.on_answer_header(route, session, response, attempt, attempts)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Box<Context>,
    ) -> pingora::Result<()> {
        let admitted = context.admitted()?;
        if response.status.is_informational() {
            answer_header::adapt(session, response, admitted);
            answer_header::redact(response, admitted);
            return Ok(());
        }
        let csrf = admitted.route.config.profile.csrf;
        context.record.wants_csrf =
            token_refusal::asks_caller(session.req_header(), csrf, response);
        let admitted = context.admitted()?;
        let is_whole = has_no_body(&session.req_header().method, response);
        let is_refused = response.status >= StatusCode::MULTIPLE_CHOICES;
        admitted.attempt.is_refused = is_refused;
        if response.version != Version::HTTP_2 {
            // With HTTP/2, not every end of an answer is known here, so the caller's timeout stays.
            Downstream::with(session, |downstream| downstream.response_started(is_refused));
        }
        let took = admitted.upstream_since.map(|since| since.elapsed());
        admitted.upstream_took = took;
        if let Some(took) = took {
            admitted.route.metrics.record_upstream_answer(took);
        }
        if self.drain.has_begun() {
            session.set_keepalive(None);
        }
        answer_header::adapt(session, response, admitted);
        if admitted.heal.hold_back(session, response, &admitted.attempts) {
            return Ok(());
        }
        let mut rewritten = None;
        if let Some(plan) = &admitted.route.links {
            let (count, body) = plan.rewrite_response_header(session.req_header(), response)?;
            admitted.route.metrics.add_rewritten_links(count);
            rewritten = body;
        }
        if session.req_header().version == Version::HTTP_10 {
            // HTTP/1.0 has no chunks: the body ends with the connection (RFC 9112 section 6.1).
            response.remove_header(&TRANSFER_ENCODING);
            if !is_whole && !response.headers.contains_key(CONTENT_LENGTH) {
                // pingora would keep the connection open if the caller asked for that.
                session.set_keepalive(None);
            }
        }
        if is_whole {
            admitted.attempt.response_finished(session);
        }
        if let Some(secrets) = answer_header::redact(response, admitted) {
            admitted.attempt.answer_body.redact(secrets);
        }
        if let Some(body) = rewritten {
            admitted.attempt.answer_body.start_rewrite(session, &admitted.route, body);
        }
        Ok(())
    }

    /// Handles the end of an answer's body that has trailers, and drops them.
    async fn response_trailer_filter(
        &self,
        session: &mut Session,
        _trailers: &mut HeaderMap,
        context: &mut Box<Context>,
    ) -> pingora::Result<Option<Bytes>> {
        let mut rest = None;
        let ended = self.response_body_filter(session, &mut rest, true, context);
        // pingora would ignore the error, and end the answer as if it were complete.
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
        let Admitted { route, heal, attempt, attempts, .. } = context.admitted()?;
        heal.check_held_body(body, end_of_stream, attempts)?;
        heal.check_passing_body(route, session, body.as_ref(), &attempt.token, attempts)?;
        let redactions = attempt.answer_body.push(session, body, end_of_stream)?;
        route.metrics.add_redacted_tokens(redactions);
        if end_of_stream {
            attempt.response_finished(session);
        }
        Ok(None)
    }

    /// Decides whether the request is sent again.
    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        context: &mut Box<Context>,
        is_pooled: bool,
    ) -> Box<Error> {
        Downstream::with(session, Downstream::stop_pacing);
        let Some(Admitted { route, tried, attempts, .. }) = &mut context.admitted else {
            error.set_retry(false);
            return error;
        };
        if upstream::requires_http1(&error) {
            route.upstream.stop_http2();
        }
        if final_answer(session).is_some()
            || !replay::is_body_held(session)
            || Problem::of(&error).is_some()
        {
            // An answer cannot start twice, a body cannot be sent without its beginning, and an
            // error with an answer of its own is final.
            error.set_retry(false);
        } else if !attempts::is_replay(&error) {
            let only_reads = route.only_reads(session.req_header());
            upstream::decide_request_retry(&mut error, only_reads, is_pooled, tried, attempts);
        }
        error
    }

    /// The access log has every error; pingora's own lines would repeat it.
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
        let has_answer = final_answer(session).is_some();
        let upstream = match &context.admitted {
            // Callers on other machines need not know the tenant.
            Some(admitted) if admission::is_local(session) => admitted.upstream_name(),
            _ => "the upstream".to_owned(),
        };
        let status = match failure::problem(error, &upstream).filter(|_| !has_answer) {
            // The caller is gone, or the header was already sent. All that is left is to close the
            // connection.
            None => {
                context.record.outcome = outcome::of_error(session, error);
                if context.record.outcome == RequestOutcome::UpstreamIncomplete
                    && session.req_header().version == Version::HTTP_10
                {
                    Downstream::with(session, Downstream::cut);
                }
                0
            }
            Some(problem) => {
                let status = problem.kind.status();
                session.set_keepalive(None);
                // The record has the kind even if the caller is gone.
                let _ = self.respond(session, context, problem).await;
                status.as_u16()
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
            // There was no answer: the next one on this connection must not be taken for it.
            session.set_keepalive(None);
        }
        let reason = context.admitted.as_ref().and_then(|admitted| admitted.heal.reason());
        let number = context.attempt_number();
        context.record.span.sent(number, reason);
        let took = context.record.stop_clock();
        access_log::log_request(session, error, context, took);
        if let Some(audit) = &self.audit {
            let bytes = access_log::response_bytes(session, context);
            let Context { record, audit: trail, .. } = &mut **context;
            let is_ended = trail.as_mut().is_some_and(|trail| trail.end(session, record, bytes));
            if !is_ended {
                let sent = trail.as_ref().is_some_and(AuditTrail::is_sent);
                audit_trail::record_refusal(audit, session, record, bytes, sent);
            }
        }
        context.record.note = access_log::note(session, &context.record);
        // The rest of the request's body may still be read.
        context.release();
    }

    /// The request as pingora's own messages show it, without the query.
    fn request_summary(&self, session: &Session, context: &Box<Context>) -> String {
        let path = loggable::readable(route::path_of(session.req_header().raw_path()));
        format!("{} {path}", context.record.method)
    }
}
