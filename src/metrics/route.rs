//! Metrics of one route, and of CSRF at one upstream.

use super::families::Families;
use super::labels::{CsrfFetch, Label, RequestOutcome};
use http::StatusCode;
use prometheus::{Histogram, IntCounter, IntCounterVec};
use std::time::Duration;

/// Metrics of CSRF at one upstream.
#[derive(Clone, Debug)]
pub(crate) struct CsrfMetrics {
    upstream: String,
    fetches: IntCounterVec,
}

impl CsrfMetrics {
    pub(super) fn new(upstream: &str, fetches: &IntCounterVec) -> Self {
        Self { upstream: upstream.to_owned(), fetches: fetches.clone() }
    }

    pub(crate) fn record_fetch(&self, outcome: CsrfFetch) {
        self.fetches.with_label_values(&[self.upstream.as_str(), outcome.label()]).inc();
    }
}

/// Metrics of one route.
#[derive(Clone, Debug)]
pub struct RouteMetrics {
    route: String,
    requests: IntCounterVec,
    duration: Histogram,
    upstream_duration: Histogram,
    stripped: IntCounter,
    links: IntCounter,
    token_echoes: IntCounter,
}

impl RouteMetrics {
    pub(super) fn new(route: &str, families: &Families) -> Self {
        Self {
            route: route.to_owned(),
            requests: families.requests.clone(),
            duration: families.request_duration.with_label_values(&[route]),
            upstream_duration: families.upstream_duration.with_label_values(&[route]),
            stripped: families.stripped.with_label_values(&[route]),
            links: families.links.with_label_values(&[route]),
            token_echoes: families.token_echoes.with_label_values(&[route]),
        }
    }

    pub(crate) fn record_request(
        &self,
        method: &str,
        status: Option<StatusCode>,
        outcome: RequestOutcome,
        took: Duration,
    ) {
        self.duration.observe(took.as_secs_f64());
        count(&self.requests, &self.route, method, status, outcome);
    }

    pub(crate) fn record_upstream_answer(&self, took: Duration) {
        self.upstream_duration.observe(took.as_secs_f64());
    }

    pub(crate) fn add_rewritten_links(&self, count: u64) {
        self.links.inc_by(count);
    }

    pub(crate) fn add_redacted_tokens(&self, count: usize) {
        self.token_echoes.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    pub(crate) fn record_stripped_authorization(&self) {
        self.stripped.inc();
    }
}

/// Counts a finished request.
pub(super) fn count(
    requests: &IntCounterVec,
    route: &str,
    method: &str,
    status: Option<StatusCode>,
    outcome: RequestOutcome,
) {
    let class = match status.map(|status| status.as_u16() / 100) {
        Some(1) => "1xx",
        Some(2) => "2xx",
        Some(3) => "3xx",
        Some(4) => "4xx",
        Some(5) => "5xx",
        _ => "none",
    };
    requests.with_label_values(&[route, method, class, outcome.label()]).inc();
}
