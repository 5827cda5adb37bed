//! Metrics for Prometheus. `families` declares each metric, [`labels`] the values of its labels.
//!
//! Label values come from closed sets (clients and routes of the configuration, kinds, outcomes,
//! methods). No text of a request becomes one. Series whose labels are known exist from the start,
//! so that the first failure is an increase and not a new series.

mod caller;
mod client;
mod families;
pub mod labels;
mod route;

pub(crate) use caller::CallerMetrics;
pub use client::{ClientGauges, ClientMetrics};
pub(crate) use route::CsrfMetrics;
pub use route::RouteMetrics;

use crate::config::Config;
use crate::error::ErrorKind;
use crate::journal::{EventKind, Journal};
use families::Families;
use http::StatusCode;
use labels::{ConfigReload, Label, RequestOutcome};
use prometheus::{Encoder, IntGauge, Registry, TextEncoder};
use std::time::SystemTime;

/// Label value of a method that bearerd does not forward, and of a request without a route.
pub(crate) const OTHER: &str = "other";

/// All metrics, and the journal of events.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    families: Families,
    journal: Journal,
}

impl Metrics {
    /// Declares all metrics.
    ///
    /// # Errors
    /// Prometheus does not accept a metric: a defect.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let families = Families::new(&registry)?;
        Ok(Self { registry, families, journal: Journal::default() })
    }

    /// Creates the series of a configuration's clients, upstreams and routes whose labels are
    /// known.
    pub fn create_series(&self, config: &Config) {
        self.families.create_series(config);
    }

    /// Removes the series of clients, upstreams and routes that `before` has and `after` has not.
    pub(crate) fn remove_retired(&self, before: &Config, after: &Config) {
        self.families.remove_retired(before, after);
    }

    /// Records the end of a reload of the configuration; `detail` says why it was refused.
    pub(crate) fn record_config_reload(&self, outcome: ConfigReload, detail: String) {
        self.families.config_reloads.with_label_values(&[outcome.label()]).inc();
        let kind = match outcome {
            ConfigReload::Unchanged => return,
            ConfigReload::Success => EventKind::ConfigurationChanged,
            _ => EventKind::ConfigurationRefused,
        };
        self.journal.record(None, kind, detail);
    }

    /// Returns the journal.
    pub(crate) const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Returns the metrics of one client.
    pub fn client(&self, client: &str) -> ClientMetrics {
        ClientMetrics::new(client, &self.families, &self.journal)
    }

    /// Returns the metrics of one caller.
    pub(crate) fn caller(&self, caller: &str) -> CallerMetrics {
        CallerMetrics::new(caller, &self.families)
    }

    /// Returns the metrics of CSRF at one upstream.
    pub(crate) fn csrf(&self, upstream: &str) -> CsrfMetrics {
        CsrfMetrics::new(upstream, &self.families.csrf_fetches)
    }

    /// Returns the metrics of one route.
    pub fn route(&self, route: &str) -> RouteMetrics {
        RouteMetrics::new(route, &self.families)
    }

    /// Sets when the certificate of a listener ends, and when it should be replaced.
    pub(crate) fn set_listener_certificate(
        &self,
        listener: &str,
        not_after: SystemTime,
        renewal_due: SystemTime,
    ) {
        let families = &self.families;
        for (gauges, time) in
            [(&families.listener_expiry, not_after), (&families.listener_renewal, renewal_due)]
        {
            gauges.with_label_values(&[listener]).set(client::unix(time));
        }
    }

    /// Sets whether the audit log can be written.
    pub(crate) fn set_audit_writable(&self, is_writable: bool) {
        self.families.audit_writable.with_label_values::<&str>(&[]).set(is_writable.into());
    }

    /// Returns the gauge of requests in flight.
    pub(crate) const fn in_flight(&self) -> &IntGauge {
        &self.families.in_flight
    }

    /// Records a request that bearerd answered itself.
    pub(crate) fn record_local_answer(&self, kind: ErrorKind) {
        self.families.rejected.with_label_values(&[kind.label()]).inc();
    }

    /// Records a finished request without a route.
    pub(crate) fn record_unrouted(
        &self,
        method: &str,
        status: Option<StatusCode>,
        outcome: RequestOutcome,
    ) {
        route::count(&self.families.requests, OTHER, method, status, outcome);
    }

    /// Renders all metrics in the Prometheus text format, version 0.0.4.
    ///
    /// # Errors
    /// A family cannot be written: a defect.
    pub fn render(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
