//! What is told of one OAuth client: to Prometheus, and to people on the status page.

use super::Metrics;
use super::labels::{
    CredentialReload, HealOutcome, Label, TokenRefusal, TokenRequestOutcome, TokenWait,
};
use crate::clock;
use crate::journal::EventKind;
use prometheus::{Gauge, GaugeVec, IntCounter, IntGauge, IntGaugeVec};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// What is told of one OAuth client.
#[derive(Clone, Debug)]
pub struct ClientMetrics {
    client: String,
    families: Metrics,
    served: IntCounter,
    failed: IntCounter,
    /// What the gauges say: one that was never set can't be read without coming into being.
    facts: Arc<Mutex<Facts>>,
}

/// What the gauges of a client say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) issued: Option<SystemTime>,
    pub(crate) expires: Option<SystemTime>,
    pub(crate) next_refresh: Option<SystemTime>,
    pub(crate) client_expires: Option<SystemTime>,
    pub(crate) clock_skew: Option<f64>,
    pub(crate) generation: u64,
    pub(crate) consecutive_failures: u32,
}

impl ClientMetrics {
    pub(super) fn new(client: &str, families: &Metrics) -> Self {
        Self {
            client: client.to_owned(),
            families: families.clone(),
            served: families.token_waits.with_label_values(&[client, TokenWait::Served.label()]),
            failed: families.token_waits.with_label_values(&[client, TokenWait::Failed.label()]),
            facts: Arc::default(),
        }
    }

    /// What the gauges say.
    pub(crate) fn facts(&self) -> Facts {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn learn(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn record_event(&self, kind: EventKind, detail: impl Into<String>) {
        self.families.journal.record(Some(&self.client), kind, detail.into());
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

    pub(crate) fn record_heartbeat(&self) {
        self.set(&self.families.token_heartbeat, unix(clock::wall()));
    }

    /// When the OAuth client or its certificate expires, if that is known.
    pub(crate) fn set_client_expiry(&self, expiry: Option<SystemTime>) {
        match expiry {
            Some(expiry) => self.set(&self.families.client_expiry, unix(expiry)),
            // There is none unless one was known before.
            None => drop(self.families.client_expiry.remove_label_values(&[&self.client])),
        }
        self.learn(|facts| facts.client_expires = expiry);
    }

    /// The credential has changed, for better or worse; `detail` says how.
    pub(crate) fn record_credential_reload(&self, outcome: CredentialReload, detail: &str) {
        let reloads = &self.families.credential_reloads;
        reloads.with_label_values(&[self.client.as_str(), outcome.label()]).inc();
        let kind = match outcome {
            CredentialReload::Success => EventKind::CredentialChanged,
            _ => EventKind::CredentialRefused,
        };
        self.record_event(kind, detail);
    }

    pub(crate) fn record_token_request(&self, outcome: TokenRequestOutcome, took: Duration) {
        let families = &self.families;
        families.token_requests.with_label_values(&[self.client.as_str(), outcome.label()]).inc();
        families
            .token_request_duration
            .with_label_values(&[&self.client])
            .observe(took.as_secs_f64());
    }

    /// Sets the gauges to what is known: another client of this name may have set them.
    pub(crate) fn publish_facts(&self) {
        let (facts, families) = (self.facts(), &self.families);
        for (family, time) in [
            (&families.token_issued, facts.issued),
            (&families.token_last_success, facts.issued),
            (&families.token_expiry, facts.expires),
            (&families.token_next_refresh, facts.next_refresh),
            (&families.client_expiry, facts.client_expires),
        ] {
            if let Some(time) = time {
                self.set(family, unix(time));
            }
        }
        if let Some(skew) = facts.clock_skew {
            self.set(&families.clock_skew, skew);
        }
        self.int_gauge(&families.token_generation)
            .set(i64::try_from(facts.generation).unwrap_or(i64::MAX));
        self.int_gauge(&families.token_failures).set(facts.consecutive_failures.into());
    }

    /// A token is in use that was asked for so long ago.
    pub(crate) fn published(
        &self,
        generation: u64,
        lifetime: Duration,
        age: Duration,
        next_refresh: Duration,
        clock_skew: Option<f64>,
    ) {
        let now = clock::wall();
        // Its life began when it was asked for: the answer may have taken a while.
        let issued = now - age;
        self.learn(|facts| {
            *facts = Facts {
                issued: Some(issued),
                expires: Some(issued + lifetime),
                next_refresh: Some(now + next_refresh),
                client_expires: facts.client_expires,
                clock_skew: clock_skew.or(facts.clock_skew),
                generation,
                consecutive_failures: 0,
            };
        });
        self.publish_facts();
        let detail = format!("valid for {} s, number {generation}", lifetime.as_secs());
        self.record_event(EventKind::TokenIssued, detail);
    }

    /// The wall clock was set forward by so many seconds, or back: what is shown in its time moves along.
    pub(crate) fn wall_clock_was_set(&self, seconds: f64) {
        self.learn(|facts| {
            for time in [&mut facts.issued, &mut facts.expires, &mut facts.next_refresh] {
                *time = time.map(|time| clock::moved(time, seconds));
            }
            facts.clock_skew = facts.clock_skew.map(|skew| skew - seconds);
        });
        self.publish_facts();
    }

    pub(crate) fn failed(
        &self,
        failures: u32,
        next_attempt: Duration,
        message: &str,
        clock_skew: Option<f64>,
    ) {
        let next_attempt = clock::wall() + next_attempt;
        self.int_gauge(&self.families.token_failures).set(failures.into());
        self.set(&self.families.token_next_refresh, unix(next_attempt));
        if let Some(skew) = clock_skew {
            self.set(&self.families.clock_skew, skew);
        }
        self.learn(|facts| {
            facts.consecutive_failures = failures;
            facts.next_refresh = Some(next_attempt);
            facts.clock_skew = clock_skew.or(facts.clock_skew);
        });
        self.record_event(EventKind::TokenRequestFailed, message);
    }

    /// Told at each scrape: a token expires without an event.
    pub(crate) fn set_usable(&self, usable: bool) {
        self.int_gauge(&self.families.token_usable).set(usable.into());
    }

    pub(crate) fn record_heal(&self, refusal: TokenRefusal, outcome: HealOutcome) {
        let labels = [self.client.as_str(), refusal.label(), outcome.label()];
        self.families.token_heals.with_label_values(&labels).inc();
        self.record_event(
            EventKind::TokenRefused,
            format!("{}: {}", refusal.title(), outcome.title()),
        );
    }

    pub(crate) fn record_wait(&self, served: bool) {
        if served { self.served.inc() } else { self.failed.inc() }
    }
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
