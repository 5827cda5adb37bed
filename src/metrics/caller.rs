//! Metrics of one caller.

use super::families::Families;
use super::labels::RequestOutcome;
use super::route::class;
use http::StatusCode;
use prometheus::IntCounterVec;

/// Metrics of one caller.
#[derive(Clone, Debug)]
pub(crate) struct CallerMetrics {
    caller: String,
    requests: IntCounterVec,
}

impl CallerMetrics {
    pub(super) fn new(caller: &str, families: &Families) -> Self {
        Self { caller: caller.to_owned(), requests: families.caller_requests.clone() }
    }

    /// Counts a finished request.
    pub(crate) fn record_request(&self, status: Option<StatusCode>, outcome: RequestOutcome) {
        let labels = [self.caller.as_str(), class(status), outcome.label()];
        self.requests.with_label_values(&labels).inc();
    }
}
