//! Every metric, declared once: name, help, labels, and the values that the labels can take.
//!
//! Label values come from closed sets (clients and routes of the configuration, kinds, outcomes,
//! methods); nothing that a request brings becomes one. Series that can be named at start exist
//! from the start, so that the first failure is an increase and not a birth.

mod client;
pub mod labels;
mod route;

pub use client::{ClientGauges, ClientMetrics};
pub(crate) use route::CsrfMetrics;
pub use route::RouteMetrics;

use crate::config::Config;
use crate::error::ErrorKind;
use crate::journal::{EventKind, Journal};
use http::StatusCode;
use labels::{
    ConfigReload, CredentialReload, CsrfFetch, HealOutcome, Label, RequestOutcome, TokenRefusal,
    TokenRequestOutcome, TokenWait,
};
use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use std::collections::{BTreeSet, HashMap};
use strum::VariantArray;

/// Upper bounds of request durations in seconds: from a cached page to an analytical query.
const DURATIONS: [f64; 12] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0];
/// Upper bounds of token request durations in seconds, up to the request's time-out.
const TOKEN_DURATIONS: [f64; 8] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0];

/// The classes of an upstream's final answer.
const CODE_CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];
/// What stands for a method that bearerd does not forward, and for a request without a route.
pub(crate) const OTHER: &str = "other";

/// All families, and the registry that renders them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// What cannot be told in numbers.
    journal: Journal,
    token_expiry: GaugeVec,
    token_issued: GaugeVec,
    token_last_success: GaugeVec,
    token_next_refresh: GaugeVec,
    token_usable: IntGaugeVec,
    token_generation: IntGaugeVec,
    token_requests: IntCounterVec,
    token_request_duration: HistogramVec,
    token_failures: IntGaugeVec,
    token_heartbeat: GaugeVec,
    token_waits: IntCounterVec,
    token_heals: IntCounterVec,
    credential_reloads: IntCounterVec,
    client_expiry: GaugeVec,
    clock_skew: GaugeVec,
    csrf_fetches: IntCounterVec,
    requests: IntCounterVec,
    request_duration: HistogramVec,
    upstream_duration: HistogramVec,
    in_flight: IntGauge,
    rejected: IntCounterVec,
    stripped: IntCounterVec,
    links: IntCounterVec,
    echoes: IntCounterVec,
    config_reloads: IntCounterVec,
}

/// Registers a family as it is made, so that none can be forgotten.
struct Declaration(Registry);

impl Declaration {
    fn registered<C: Collector + Clone + 'static>(&self, family: C) -> prometheus::Result<C> {
        self.0.register(Box::new(family.clone()))?;
        Ok(family)
    }

    fn gauges(&self, name: &str, help: &str) -> prometheus::Result<GaugeVec> {
        self.registered(GaugeVec::new(opts(name, help), &["client"])?)
    }

    fn int_gauges(&self, name: &str, help: &str) -> prometheus::Result<IntGaugeVec> {
        self.registered(IntGaugeVec::new(opts(name, help), &["client"])?)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        self.registered(IntCounterVec::new(opts(name, help), labels)?)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        label: &str,
        buckets: &[f64],
    ) -> prometheus::Result<HistogramVec> {
        let opts = HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec());
        self.registered(HistogramVec::new(opts, &[label])?)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("bearerd")
}

impl Metrics {
    /// Declares everything.
    ///
    /// # Errors
    /// A name or label that Prometheus does not allow: a defect, found by any test.
    pub fn new() -> prometheus::Result<Self> {
        let declare = Declaration(Registry::new());
        let metrics = Self {
            token_expiry: declare.gauges(
                "token_expiry_timestamp_seconds",
                "When the current access token expires, as Unix time.",
            )?,
            token_issued: declare.gauges(
                "token_issued_timestamp_seconds",
                "When the current access token was received, as Unix time.",
            )?,
            token_last_success: declare.gauges(
                "token_last_success_timestamp_seconds",
                "When a token request last succeeded, as Unix time.",
            )?,
            token_next_refresh: declare.gauges(
                "token_next_refresh_timestamp_seconds",
                "When the next token request is due, as Unix time.",
            )?,
            token_usable: declare.int_gauges(
                "token_usable",
                "1 while there is an access token that requests can be sent with.",
            )?,
            token_generation: declare
                .int_gauges("token_generation", "How many access tokens have been published.")?,
            token_requests: declare.counters(
                "token_requests_total",
                "Token requests by outcome.",
                &["client", "outcome"],
            )?,
            token_request_duration: declare.histograms(
                "token_request_duration_seconds",
                "How long token requests took.",
                "client",
                &TOKEN_DURATIONS,
            )?,
            token_failures: declare.int_gauges(
                "token_refresh_consecutive_failures",
                "Token requests that failed since the last success.",
            )?,
            token_heartbeat: declare.gauges(
                "token_refresher_heartbeat_timestamp_seconds",
                "When the refresher last showed a sign of life, as Unix time.",
            )?,
            token_waits: declare.counters(
                "token_waits_total",
                "Requests that had to wait for a token, by how the wait ended.",
                &["client", "outcome"],
            )?,
            token_heals: declare.counters(
                "token_heals_total",
                "Tokens that the upstream refused, by how it did and by what became of the request.",
                &["client", "reason", "outcome"],
            )?,
            credential_reloads: declare.counters(
                "credential_reloads_total",
                "Changes of a client's credential, by how they ended.",
                &["client", "outcome"],
            )?,
            client_expiry: declare.gauges(
                "client_expiry_timestamp_seconds",
                "When the OAuth client itself or its certificate expires, as Unix time.",
            )?,
            clock_skew: declare
                .gauges("clock_skew_seconds", "How far the issuer's clock is ahead of ours.")?,
            csrf_fetches: declare.counters(
                "csrf_fetches_total",
                "Fetches of CSRF tokens for callers' writes, by outcome.",
                &["upstream", "outcome"],
            )?,
            requests: declare.counters(
                "requests_total",
                "Finished requests.",
                &["route", "method", "code_class", "outcome"],
            )?,
            request_duration: declare.histograms(
                "request_duration_seconds",
                "From the request's header to the end of the answer.",
                "route",
                &DURATIONS,
            )?,
            upstream_duration: declare.histograms(
                "upstream_duration_seconds",
                "From choosing the upstream's address to the header of its answer.",
                "route",
                &DURATIONS,
            )?,
            in_flight: declare.registered(IntGauge::with_opts(opts(
                "requests_in_flight",
                "Requests under way.",
            ))?)?,
            rejected: declare.counters(
                "requests_rejected_total",
                "Requests answered by bearerd itself, by kind.",
                &["kind"],
            )?,
            stripped: declare.counters(
                "authorization_stripped_total",
                "Requests whose own Authorization was removed.",
                &["route"],
            )?,
            links: declare.counters(
                "links_rewritten_total",
                "Links of the upstreams' in answers that became the sidecar's.",
                &["route"],
            )?,
            echoes: declare.counters(
                "token_echoes_total",
                "Times that an upstream sent our token back, which was removed.",
                &["route"],
            )?,
            config_reloads: declare.counters(
                "config_reloads_total",
                "Reloads of the configuration, by how they ended.",
                &["outcome"],
            )?,
            registry: declare.0.clone(),
            journal: Journal::default(),
        };
        let build_info = declare.registered(IntGaugeVec::new(
            opts("build_info", "1; the labels tell the version."),
            &["version"],
        )?)?;
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        declare.0.register(Box::new(ProcessCollector::for_self()))?;
        for kind in ErrorKind::ALL {
            metrics.rejected.with_label_values(&[kind.label()]);
        }
        for outcome in ConfigReload::VARIANTS {
            metrics.config_reloads.with_label_values(&[outcome.label()]);
        }
        Ok(metrics)
    }

    /// Makes the series of a configuration's clients, upstreams and routes, as far as they can be
    /// named.
    pub fn create_series(&self, config: &Config) {
        for upstream in &config.upstreams {
            for outcome in CsrfFetch::VARIANTS {
                self.csrf_fetches.with_label_values(&[upstream.name.as_str(), outcome.label()]);
            }
        }
        for client in &config.clients {
            self.create_client_series(&client.name);
        }
        for route in &config.routes {
            let name = config.name_of(route);
            let name = name.as_str();
            for method in route.methods.names() {
                for class in CODE_CLASSES {
                    let labels = [name, method, class, RequestOutcome::Forwarded.label()];
                    self.requests.with_label_values(&labels);
                }
            }
            self.request_duration.with_label_values(&[name]);
            self.upstream_duration.with_label_values(&[name]);
            self.stripped.with_label_values(&[name]);
            self.links.with_label_values(&[name]);
            self.echoes.with_label_values(&[name]);
        }
    }

    fn create_client_series(&self, client: &str) {
        for outcome in TokenRequestOutcome::VARIANTS {
            self.token_requests.with_label_values(&[client, outcome.label()]);
        }
        for outcome in TokenWait::VARIANTS {
            self.token_waits.with_label_values(&[client, outcome.label()]);
        }
        for outcome in CredentialReload::VARIANTS {
            self.credential_reloads.with_label_values(&[client, outcome.label()]);
        }
        for refusal in TokenRefusal::VARIANTS {
            for outcome in HealOutcome::VARIANTS {
                self.token_heals.with_label_values(&[client, refusal.label(), outcome.label()]);
            }
        }
        self.token_usable.with_label_values(&[client]);
        self.token_generation.with_label_values(&[client]);
        self.token_failures.with_label_values(&[client]);
        self.token_request_duration.with_label_values(&[client]);
    }

    /// Removes the series of what `before` has and `after` has not: they would tell of a token that
    /// nobody refreshes any more.
    pub(crate) fn remove_retired(&self, before: &Config, after: &Config) {
        let names = |config: &Config| -> BTreeSet<(&'static str, String)> {
            let clients = config.clients.iter().map(|client| ("client", client.name.clone()));
            let upstreams =
                config.upstreams.iter().map(|upstream| ("upstream", upstream.name.clone()));
            let routes = config.routes.iter().map(|route| ("route", config.name_of(route)));
            clients.chain(upstreams).chain(routes).collect()
        };
        for (label, value) in names(before).difference(&names(after)) {
            for gauges in [
                &self.token_expiry,
                &self.token_issued,
                &self.token_last_success,
                &self.token_next_refresh,
                &self.token_heartbeat,
                &self.client_expiry,
                &self.clock_skew,
            ] {
                remove(gauges, label, value);
            }
            for gauges in [&self.token_usable, &self.token_generation, &self.token_failures] {
                remove(gauges, label, value);
            }
            for counters in [
                &self.token_requests,
                &self.token_waits,
                &self.token_heals,
                &self.credential_reloads,
                &self.csrf_fetches,
                &self.requests,
                &self.stripped,
                &self.links,
                &self.echoes,
            ] {
                remove(counters, label, value);
            }
            for histograms in
                [&self.token_request_duration, &self.request_duration, &self.upstream_duration]
            {
                remove(histograms, label, value);
            }
        }
    }

    /// A reload of the configuration has ended; `detail` says why, if it was refused.
    pub(crate) fn record_config_reload(&self, outcome: ConfigReload, detail: String) {
        self.config_reloads.with_label_values(&[outcome.label()]).inc();
        let kind = match outcome {
            ConfigReload::Unchanged => return,
            ConfigReload::Success => EventKind::ConfigurationChanged,
            _ => EventKind::ConfigurationRefused,
        };
        self.journal.record(None, kind, detail);
    }

    /// The last events.
    pub(crate) const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The metrics of one client.
    pub fn client(&self, client: &str) -> ClientMetrics {
        ClientMetrics::new(client, self)
    }

    /// The metrics of CSRF at one upstream.
    pub(crate) fn csrf(&self, upstream: &str) -> CsrfMetrics {
        CsrfMetrics::new(upstream, &self.csrf_fetches)
    }

    /// The metrics of one route.
    pub fn route(&self, route: &str) -> RouteMetrics {
        RouteMetrics::new(route, self)
    }

    /// Requests under way.
    pub(crate) const fn in_flight(&self) -> &IntGauge {
        &self.in_flight
    }

    /// A request answered by bearerd itself.
    pub(crate) fn record_local_answer(&self, kind: ErrorKind) {
        self.rejected.with_label_values(&[kind.label()]).inc();
    }

    /// A finished request that no route took.
    pub(crate) fn record_unrouted(
        &self,
        method: &str,
        status: Option<StatusCode>,
        outcome: RequestOutcome,
    ) {
        route::count(&self.requests, OTHER, method, status, outcome);
    }

    /// The Prometheus text format, version 0.0.4.
    ///
    /// # Errors
    /// A family that can't be written: a defect.
    pub fn render(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Removes every series of a family that has this value under this label.
fn remove<T: MetricVecBuilder>(family: &MetricVec<T>, label: &str, value: &str) {
    for family_of_series in family.collect() {
        for series in family_of_series.get_metric() {
            let labels: HashMap<&str, &str> =
                series.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
            if labels.get(label) == Some(&value) {
                // One that is gone already needs no removal.
                let _ = family.remove(&labels);
            }
        }
    }
}
