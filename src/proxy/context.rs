//! What one request carries with it, and how its end is counted.

use crate::metrics::labels::RequestOutcome;
use crate::metrics::{Metrics, OTHER, RouteMetrics};
use crate::otlp::Span;
use crate::profile::METHODS;
use crate::proxy::RouteHandle;
use crate::proxy::batch_check::BatchCheck;
use crate::proxy::busy::Retries;
use crate::proxy::csrf::CsrfSession;
use crate::proxy::downstream::InFlight;
use crate::proxy::heal::Heal;
use crate::proxy::informational::Informational;
use crate::proxy::passing::Passing;
use crate::proxy::request_body::RequestBody;
use crate::proxy::upstream::{Attempts, Slot};
use crate::redact::{Redactor, Secrets};
use crate::telemetry::ACCESS;
use crate::token::store::Usable;
use crate::trace_context::Trace;
use http::{Method, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// A request that is sent within this time has not waited.
const AT_ONCE: Duration = Duration::from_millis(50);

/// The state of one request.
pub struct Context {
    /// Counted when dropped.
    pub(crate) record: Record,
    /// Its part of its listener's load.
    pub(super) share: Option<InFlight>,
    /// Its part of what its upstream gets at once.
    pub(super) slot: Option<Slot>,
    /// Where it goes.
    pub(super) route: Option<Arc<RouteHandle>>,
    /// Which trace it belongs to.
    pub(super) trace: Option<Trace>,
    /// What is injected.
    pub(crate) token: Option<Usable>,
    /// The CSRF token that is sent with it, where bearerd speaks CSRF for its caller.
    pub(super) csrf: Option<Arc<CsrfSession>>,
    /// The check of a batch, until its body is looked at. Few requests have one, and all are moved around.
    pub(super) batch: Option<Box<BatchCheck>>,
    /// What is done to the request's body.
    pub(super) request_body: Option<RequestBody>,
    /// Whether the answer says that nothing will come of the request: a status from 300 on.
    pub(super) is_refused: bool,
    /// What the hooks still do for an answer whose body is changed behind them.
    pub(super) passing: Option<Passing>,
    /// What was added to the request besides the access token, in any attempt, and is for the upstream alone.
    pub(super) added: Option<Secrets>,
    /// Takes our secrets out of the answer's body.
    pub(super) redactor: Option<Redactor>,
    /// What came before the answer.
    pub(super) informational: Informational,
    /// What became of a refused token.
    pub(super) heal: Heal,
    /// What it waits for before it is sent again to an upstream that had no time.
    pub(super) retries: Retries,
    /// What the caller was told by a local answer, for the access log.
    pub(crate) detail: Option<String>,
    /// Upstream addresses that were tried.
    pub(super) attempts: Attempts,
    /// When the upstream was first turned to.
    pub(crate) upstream_since: Option<Instant>,
    /// How long it took to its answer's header.
    pub(crate) upstream_took: Option<Duration>,
}

impl Context {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            record: Record::new(metrics),
            share: None,
            slot: None,
            trace: None,
            route: None,
            token: None,
            csrf: None,
            batch: None,
            request_body: None,
            is_refused: false,
            passing: None,
            added: None,
            redactor: None,
            informational: Informational::default(),
            heal: Heal::default(),
            retries: Retries::default(),
            detail: None,
            attempts: Attempts::default(),
            upstream_since: None,
            upstream_took: None,
        }
    }

    /// The next attempt is sent with this token, if there is one, and takes the secrets of its route along.
    pub(super) fn equip(&mut self, route: &RouteHandle, token: Option<Usable>) {
        if let Some(token) = token {
            self.add(route.secrets.clone());
            self.add(self.csrf.as_ref().and_then(|session| session.secrets()));
            self.token = Some(token);
        }
    }

    /// Whether it was not sent as soon as it came: a caller that has closed its side by then gets as far as it gets.
    pub(super) fn has_waited(&self) -> bool {
        self.upstream_since.is_some_and(|since| since.elapsed() >= AT_ONCE)
    }

    /// Gives back what others wait for. Nothing more is done for the request, whatever its caller still has to hear or
    /// send.
    pub(super) fn release(&mut self) {
        (self.share, self.slot, self.request_body) = (None, None, None);
    }

    /// The request takes these along, too.
    pub(super) fn add(&mut self, secrets: Option<Secrets>) {
        self.added = match (self.added.take(), secrets) {
            (Some(before), Some(secrets)) => Some(before.and(&secrets)),
            (before, secrets) => before.or(secrets),
        };
    }
}

/// Counts its request when dropped, as a failure until told otherwise: an early return or a panic
/// cannot be counted as a success, and the number of requests in flight always comes down again.
pub(crate) struct Record {
    metrics: Arc<Metrics>,
    started: Instant,
    pub(crate) route: Option<Arc<RouteMetrics>>,
    pub(crate) method: &'static str,
    pub(crate) status: Option<StatusCode>,
    pub(crate) outcome: RequestOutcome,
    /// The access log has it.
    pub(super) is_logged: bool,
    pub(crate) span: Span,
}

impl Record {
    fn new(metrics: Arc<Metrics>) -> Self {
        metrics.in_flight().inc();
        Self {
            metrics,
            started: Instant::now(),
            route: None,
            method: OTHER,
            status: None,
            outcome: RequestOutcome::Aborted,
            is_logged: false,
            span: Span::default(),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.metrics.in_flight().dec();
        if self.outcome == RequestOutcome::Aborted {
            // The end of the grace, or a panic: pingora's logging hook did not run.
            warn!(
                target: ACCESS,
                method = self.method,
                outcome = self.outcome.label(),
                duration_ms = self.elapsed().as_millis(),
                "Request cut off."
            );
        } else if !self.is_logged {
            // It was answered, and its connection made room for another one while its body was due.
            info!(
                target: ACCESS,
                method = self.method,
                outcome = self.outcome.label(),
                duration_ms = self.elapsed().as_millis(),
                "Request cut off after its answer."
            );
        }
        match &self.route {
            Some(route) => {
                route.record_request(self.method, self.status, self.outcome, self.elapsed())
            }
            None => self.metrics.record_unrouted(self.method, self.status, self.outcome),
        }
        self.span.end(self.status, self.outcome);
    }
}

/// The method as a label: one that bearerd forwards, or "other".
pub(crate) fn method_label(method: &Method) -> &'static str {
    METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or(OTHER)
}
