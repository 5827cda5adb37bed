//! How a request ended: counted, traced, and logged if the logging hook did not run.

use super::caller::CallerHandle;
use super::problem::Problem;
use super::route_handle::RouteHandle;
use crate::metrics::labels::RequestOutcome;
use crate::metrics::{Metrics, OTHER};
use crate::otlp::Span;
use crate::profile::METHODS;
use crate::telemetry::ACCESS;
use crate::traffic::{Ended, Note};
use http::{Method, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// Counts its request when dropped, as aborted unless another outcome was set. An early return or a
/// panic cannot count as a success, and the number of requests in flight always goes down again.
pub(super) struct Record {
    metrics: Arc<Metrics>,
    started: Instant,
    pub(super) route: Option<Arc<RouteHandle>>,
    /// The caller, if some callers have names.
    pub(super) caller: Option<Arc<CallerHandle>>,
    pub(super) method: &'static str,
    pub(super) status: Option<StatusCode>,
    pub(super) outcome: RequestOutcome,
    /// Whether the answer asks for a CSRF token, which is no failure.
    pub(super) wants_csrf: bool,
    /// How long the request took, once the access log has it.
    took: Option<Duration>,
    /// For the list of failures, if the request failed.
    pub(super) note: Option<Note>,
    pub(super) span: Span,
}

impl Record {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        metrics.in_flight().inc();
        Self {
            metrics,
            started: Instant::now(),
            route: None,
            caller: None,
            method: OTHER,
            status: None,
            outcome: RequestOutcome::Aborted,
            wants_csrf: false,
            took: None,
            note: None,
            span: Span::default(),
        }
    }

    /// Ends the time of the request, and returns it. The access log and the metrics agree on it.
    pub(super) fn stop_clock(&mut self) -> Duration {
        *self.took.insert(self.started.elapsed())
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.took.unwrap_or_else(|| self.started.elapsed())
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.metrics.in_flight().dec();
        if self.outcome == RequestOutcome::Aborted {
            // The process's grace period ended, or a panic: the logging hook did not run.
            warn!(
                target: ACCESS,
                method = self.method,
                outcome = self.outcome.label(),
                duration_ms = self.elapsed().as_millis(),
                "Request cut off."
            );
        } else if self.took.is_none() {
            // The request was answered, and its connection was closed to make room for another one
            // while its body was still awaited.
            info!(
                target: ACCESS,
                method = self.method,
                outcome = self.outcome.label(),
                duration_ms = self.elapsed().as_millis(),
                "Request cut off after its answer."
            );
        }
        if let Some(caller) = &self.caller {
            caller.metrics.record_request(self.status, self.outcome);
            caller.traffic.record(self.status, self.outcome);
        }
        match &self.route {
            Some(route) => {
                route.metrics.record_request(
                    self.method,
                    self.status,
                    self.outcome,
                    self.elapsed(),
                );
                route.traffic.record(&Ended {
                    method: self.method,
                    status: self.status,
                    outcome: self.outcome,
                    wants_csrf: self.wants_csrf,
                    took: self.elapsed(),
                    note: self.note.as_ref(),
                });
            }
            None => self.metrics.record_unrouted(self.method, self.status, self.outcome),
        }
        self.span.end(self.status, self.outcome);
    }
}

/// Counts and logs a request that was answered before its header was complete.
pub(super) fn unread(metrics: &Metrics, problem: &Problem) {
    metrics.record_local_answer(problem.kind);
    metrics.record_unrouted(OTHER, Some(problem.status()), RequestOutcome::Local(problem.kind));
    info!(
        target: ACCESS,
        method = OTHER,
        status = problem.status().as_u16(),
        outcome = problem.kind.label(),
        detail = problem.detail,
        "Request that could not be read."
    );
}

/// The method as a label: one that bearerd forwards, or "other".
pub(super) fn method_label(method: &Method) -> &'static str {
    METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or(OTHER)
}
