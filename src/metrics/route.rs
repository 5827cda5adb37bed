//! Metrics of one route, and of CSRF at one upstream.

use super::families::Families;
use super::labels::{CsrfFetch, Label, RequestOutcome};
use http::StatusCode;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};
use std::sync::OnceLock;
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

/// A route's histogram. Its 15 series begin with the first request: most routes of an idle sidecar
/// never see one.
#[derive(Clone, Debug)]
struct Durations {
    family: HistogramVec,
    of_route: OnceLock<Histogram>,
}

impl Durations {
    fn new(family: &HistogramVec) -> Self {
        Self { family: family.clone(), of_route: OnceLock::new() }
    }

    fn observe(&self, route: &str, took: Duration) {
        let histogram = self.of_route.get_or_init(|| self.family.with_label_values(&[route]));
        histogram.observe(took.as_secs_f64());
    }
}

/// Metrics of one route.
#[derive(Clone, Debug)]
pub struct RouteMetrics {
    route: String,
    requests: IntCounterVec,
    duration: Durations,
    upstream_duration: Durations,
    stripped: IntCounter,
    links: IntCounter,
    token_echoes: IntCounter,
}

impl RouteMetrics {
    pub(super) fn new(route: &str, families: &Families) -> Self {
        Self {
            route: route.to_owned(),
            requests: families.requests.clone(),
            duration: Durations::new(&families.request_duration),
            upstream_duration: Durations::new(&families.upstream_duration),
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
        self.duration.observe(&self.route, took);
        count(&self.requests, &self.route, method, status, outcome);
    }

    pub(crate) fn record_upstream_answer(&self, took: Duration) {
        self.upstream_duration.observe(&self.route, took);
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
    requests.with_label_values(&[route, method, class(status), outcome.label()]).inc();
}

/// The class of a status as a label.
pub(super) fn class(status: Option<StatusCode>) -> &'static str {
    match status.map(|status| status.as_u16() / 100) {
        Some(1) => "1xx",
        Some(2) => "2xx",
        Some(3) => "3xx",
        Some(4) => "4xx",
        Some(5) => "5xx",
        _ => "none",
    }
}
