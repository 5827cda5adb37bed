//! What is told of one OAuth client.

use super::Metrics;
use crate::credential::ReloadOutcome;
use crate::proxy::heal::HealOutcome;
use crate::proxy::recover::Refusal;
use prometheus::{Gauge, GaugeVec, IntCounter, IntGauge, IntGaugeVec};
use std::time::{Duration, SystemTime};

/// What is told of one OAuth client.
#[derive(Clone, Debug)]
pub struct ClientMetrics {
    client: String,
    families: Metrics,
    served: IntCounter,
    failed: IntCounter,
}

impl ClientMetrics {
    pub(super) fn new(client: &str, families: &Metrics) -> Self {
        Self {
            client: client.to_owned(),
            families: families.clone(),
            served: families.token_waits.with_label_values(&[client, "served"]),
            failed: families.token_waits.with_label_values(&[client, "failed"]),
        }
    }

    fn set(&self, family: &GaugeVec, value: f64) {
        self.gauge(family).set(value);
    }

    fn gauge(&self, family: &GaugeVec) -> Gauge {
        family.with_label_values(&[&self.client])
    }

    fn int_gauge(&self, family: &IntGaugeVec) -> IntGauge {
        family.with_label_values(&[&self.client])
    }

    pub(crate) fn beat(&self) {
        self.set(&self.families.token_heartbeat, unix(SystemTime::now()));
    }

    pub(crate) fn expires_on(&self, expiry: SystemTime) {
        self.set(&self.families.client_expiry, unix(expiry));
    }

    /// The credential has changed, for better or worse.
    pub(crate) fn credential_reloaded(&self, outcome: ReloadOutcome) {
        let reloads = &self.families.credential_reloads;
        reloads.with_label_values(&[self.client.as_str(), outcome.label()]).inc();
    }

    pub(crate) fn requested(&self, outcome: &str, took: Duration) {
        let families = &self.families;
        families.token_requests.with_label_values(&[&self.client, outcome]).inc();
        families
            .token_request_duration
            .with_label_values(&[&self.client])
            .observe(took.as_secs_f64());
    }

    pub(crate) fn published(
        &self,
        generation: u64,
        lifetime: Duration,
        next_refresh: Duration,
        clock_skew: Option<f64>,
    ) {
        let now = SystemTime::now();
        let families = &self.families;
        self.set(&families.token_expiry, unix(now + lifetime));
        self.set(&families.token_issued, unix(now));
        self.set(&families.token_last_success, unix(now));
        self.set(&families.token_next_refresh, unix(now + next_refresh));
        self.int_gauge(&families.token_generation)
            .set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.int_gauge(&families.token_failures).set(0);
        if let Some(skew) = clock_skew {
            self.set(&families.clock_skew, skew);
        }
    }

    pub(crate) fn failed(&self, failures: u32, next_attempt: Duration) {
        self.int_gauge(&self.families.token_failures).set(failures.into());
        self.set(&self.families.token_next_refresh, unix(SystemTime::now() + next_attempt));
    }

    /// Told at each scrape: a token expires without an event.
    pub(crate) fn usable(&self, usable: bool) {
        self.int_gauge(&self.families.token_usable).set(usable.into());
    }

    pub(crate) fn healed(&self, refusal: Refusal, outcome: HealOutcome) {
        let labels = [self.client.as_str(), refusal.label(), outcome.label()];
        self.families.token_heals.with_label_values(&labels).inc();
    }

    pub(crate) fn waited(&self, served: bool) {
        if served { self.served.inc() } else { self.failed.inc() }
    }
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
