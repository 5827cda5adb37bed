//! Metric families, each declared once: name, help text and labels.

use super::labels::{
    ConfigReload, CredentialReload, CsrfFetch, HealOutcome, Label, RequestOutcome, TokenRefusal,
    TokenRequestOutcome, TokenWait,
};
use crate::config::Config;
use crate::error::ErrorKind;
use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use std::collections::{BTreeSet, HashMap};
use strum::VariantArray;

/// Upper bounds of the buckets for request durations, in seconds: from a cached page to an
/// analytical query.
const DURATIONS: [f64; 12] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0];
/// Upper bounds of the buckets for token request durations, in seconds, up to the request's
/// timeout.
const TOKEN_DURATIONS: [f64; 8] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0];

/// Status classes whose counters exist from the start: failures of the upstream, which alerts
/// watch, and the answers to which alerts compare them.
const CODE_CLASSES: [&str; 2] = ["2xx", "5xx"];

/// All metric families.
#[derive(Clone, Debug)]
pub(super) struct Families {
    pub(super) token_expiry: GaugeVec,
    pub(super) token_issued: GaugeVec,
    pub(super) token_last_success: GaugeVec,
    pub(super) token_next_refresh: GaugeVec,
    pub(super) token_usable: IntGaugeVec,
    pub(super) token_generation: IntGaugeVec,
    pub(super) token_requests: IntCounterVec,
    pub(super) token_request_duration: HistogramVec,
    pub(super) token_failures: IntGaugeVec,
    pub(super) token_heartbeat: GaugeVec,
    pub(super) token_waits: IntCounterVec,
    pub(super) token_heals: IntCounterVec,
    pub(super) credential_reloads: IntCounterVec,
    pub(super) client_expiry: GaugeVec,
    pub(super) clock_skew: GaugeVec,
    pub(super) csrf_fetches: IntCounterVec,
    pub(super) requests: IntCounterVec,
    pub(super) caller_requests: IntCounterVec,
    pub(super) request_duration: HistogramVec,
    pub(super) upstream_duration: HistogramVec,
    pub(super) listener_expiry: GaugeVec,
    pub(super) listener_renewal: GaugeVec,
    pub(super) audit_writable: IntGaugeVec,
    pub(super) in_flight: IntGauge,
    pub(super) rejected: IntCounterVec,
    pub(super) stripped: IntCounterVec,
    pub(super) links: IntCounterVec,
    pub(super) token_echoes: IntCounterVec,
    pub(super) config_reloads: IntCounterVec,
}

impl Families {
    /// Declares and registers all families.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let declare = Declaration(registry);
        let families = Self {
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
                "Requests that had to wait for a token, by outcome of the wait.",
                &["client", "outcome"],
            )?,
            token_heals: declare.counters(
                "token_heals_total",
                "Tokens that the upstream refused, by the form of the refusal and the outcome of the heal.",
                &["client", "reason", "outcome"],
            )?,
            credential_reloads: declare.counters(
                "credential_reloads_total",
                "Changes of a client's credential, by outcome.",
                &["client", "outcome"],
            )?,
            client_expiry: declare.gauges(
                "client_expiry_timestamp_seconds",
                "When the OAuth client itself or its certificate expires, as Unix time.",
            )?,
            clock_skew: declare
                .gauges("clock_skew_seconds", "How far the issuer's clock is ahead of this machine's.")?,
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
            caller_requests: declare.counters(
                "caller_requests_total",
                "Finished requests of callers, if some callers have names.",
                &["caller", "code_class", "outcome"],
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
            listener_expiry: declare.gauges_of(
                "listener_certificate_expiry_timestamp_seconds",
                "When the certificate of a listener with TLS expires, as Unix time.",
                "listener",
            )?,
            listener_renewal: declare.gauges_of(
                "listener_certificate_renewal_due_timestamp_seconds",
                "When the certificate of a listener with TLS should have been replaced, as Unix time.",
                "listener",
            )?,
            audit_writable: declare.registered(IntGaugeVec::new(
                opts("audit_writable", "1 while the audit log can be written, if there is one."),
                &[],
            )?)?,
            in_flight: declare.registered(IntGauge::with_opts(opts(
                "requests_in_flight",
                "Requests in flight.",
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
                "Links to upstreams in answers that were rewritten to links to the sidecar.",
                &["route"],
            )?,
            token_echoes: declare.counters(
                "token_echoes_total",
                "Access tokens, CSRF sessions and keys removed from upstreams' answers.",
                &["route"],
            )?,
            config_reloads: declare.counters(
                "config_reloads_total",
                "Reloads of the configuration, by outcome.",
                &["outcome"],
            )?,
        };
        let build_info = declare.registered(IntGaugeVec::new(
            opts("build_info", "Always 1; the label is the version."),
            &["version"],
        )?)?;
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(ProcessCollector::for_self()))?;
        for kind in ErrorKind::VARIANTS {
            families.rejected.with_label_values(&[kind.label()]);
        }
        for outcome in ConfigReload::VARIANTS {
            families.config_reloads.with_label_values(&[outcome.label()]);
        }
        Ok(families)
    }

    /// Creates the counters of a configuration's clients, upstreams and routes whose labels are
    /// known, so that the first failure is an increase.
    pub(super) fn create_series(&self, config: &Config) {
        for upstream in &config.upstreams {
            for outcome in CsrfFetch::VARIANTS {
                self.csrf_fetches.with_label_values(&[upstream.name.as_str(), outcome.label()]);
            }
        }
        for client in &config.clients {
            self.create_client_series(&client.name);
        }
        for caller in config.caller_names() {
            for class in CODE_CLASSES {
                let labels = [caller, class, RequestOutcome::Forwarded.label()];
                self.caller_requests.with_label_values(&labels);
            }
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
            self.stripped.with_label_values(&[name]);
            self.links.with_label_values(&[name]);
            self.token_echoes.with_label_values(&[name]);
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

    /// Removes the series of clients, upstreams and routes that `before` has and `after` has not.
    /// They would show the state of a token that is no longer refreshed.
    pub(super) fn remove_retired(&self, before: &Config, after: &Config) {
        let names = |config: &Config| -> BTreeSet<(&'static str, String)> {
            let clients = config.clients.iter().map(|client| ("client", client.name.clone()));
            let upstreams =
                config.upstreams.iter().map(|upstream| ("upstream", upstream.name.clone()));
            let routes = config.routes.iter().map(|route| ("route", config.name_of(route)));
            let callers = config.caller_names().map(|caller| ("caller", caller.to_owned()));
            clients.chain(upstreams).chain(routes).chain(callers).collect()
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
                &self.caller_requests,
                &self.stripped,
                &self.links,
                &self.token_echoes,
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
}

/// Declaration of families, which registers each one so that none can be forgotten.
struct Declaration<'r>(&'r Registry);

impl Declaration<'_> {
    fn registered<C: Collector + Clone + 'static>(&self, family: C) -> prometheus::Result<C> {
        self.0.register(Box::new(family.clone()))?;
        Ok(family)
    }

    fn gauges(&self, name: &str, help: &str) -> prometheus::Result<GaugeVec> {
        self.gauges_of(name, help, "client")
    }

    fn gauges_of(&self, name: &str, help: &str, label: &str) -> prometheus::Result<GaugeVec> {
        self.registered(GaugeVec::new(opts(name, help), &[label])?)
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

/// Removes every series of a family that has this value of this label.
fn remove<T: MetricVecBuilder>(family: &MetricVec<T>, label: &str, value: &str) {
    for family_of_series in family.collect() {
        for series in family_of_series.get_metric() {
            let labels: HashMap<&str, &str> =
                series.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
            if labels.get(label) == Some(&value) {
                // Fails if the series is gone already, which is as good.
                let _ = family.remove(&labels);
            }
        }
    }
}
