//! Metrics of one caller.

use super::families::Families;
use super::labels::RequestOutcome;
use super::route::class;
use http::StatusCode;
use prometheus::{IntCounter, IntCounterVec};

/// The class of most answers.
const GOOD: &str = "2xx";

/// Metrics of one caller.
#[derive(Clone, Debug)]
pub(crate) struct CallerMetrics {
    caller: String,
    requests: IntCounterVec,
    /// The usual counter, which is looked up once.
    forwarded: IntCounter,
}

impl CallerMetrics {
    pub(super) fn new(caller: &str, families: &Families) -> Self {
        let requests = families.caller_requests.clone();
        let labels = [caller, GOOD, RequestOutcome::Forwarded.label()];
        let forwarded = requests.with_label_values(&labels);
        Self { caller: caller.to_owned(), requests, forwarded }
    }

    /// Counts a finished request.
    pub(crate) fn record_request(&self, status: Option<StatusCode>, outcome: RequestOutcome) {
        if outcome == RequestOutcome::Forwarded && class(status) == GOOD {
            return self.forwarded.inc();
        }
        let labels = [self.caller.as_str(), class(status), outcome.label()];
        self.requests.with_label_values(&labels).inc();
    }
}
