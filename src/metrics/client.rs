//! Metrics and journal entries of one OAuth client.

use super::families::Families;
use super::labels::{
    CredentialReload, HealOutcome, Label, TokenRefusal, TokenRequestOutcome, TokenWait,
};
use crate::clock;
use crate::journal::{EventKind, Journal};
use prometheus::{GaugeVec, IntCounter, IntGauge, IntGaugeVec};
use std::time::{Duration, SystemTime};

/// Metrics and journal entries of one OAuth client.
#[derive(Clone, Debug)]
pub struct ClientMetrics {
    client: String,
    families: Families,
    journal: Journal,
    served: IntCounter,
    failed: IntCounter,
}

/// Values of one client's gauges. `None` is a gauge that does not exist yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientGauges {
    /// When the current token was issued.
    pub issued: Option<SystemTime>,
    /// When the current token expires.
    pub expires: Option<SystemTime>,
    /// When the next token request is due.
    pub next_refresh: Option<SystemTime>,
    /// When the OAuth client itself, or its certificate, expires.
    pub client_expires: Option<SystemTime>,
    /// How far the issuer's clock is ahead of the local one, in seconds.
    pub clock_skew: Option<f64>,
    /// Number of published tokens.
    pub generation: u64,
    /// Token requests that failed since the last success.
    pub consecutive_failures: u32,
}

impl ClientMetrics {
    pub(super) fn new(client: &str, families: &Families, journal: &Journal) -> Self {
        Self {
            client: client.to_owned(),
            families: families.clone(),
            journal: journal.clone(),
            served: families.token_waits.with_label_values(&[client, TokenWait::Served.label()]),
            failed: families.token_waits.with_label_values(&[client, TokenWait::Failed.label()]),
        }
    }

    fn record_event(&self, kind: EventKind, detail: impl Into<String>) {
        self.journal.record(Some(&self.client), kind, detail.into());
    }

    fn set(&self, family: &GaugeVec, value: f64) {
        family.with_label_values(&[&self.client]).set(value);
    }

    fn int_gauge(&self, family: &IntGaugeVec) -> IntGauge {
        family.with_label_values(&[&self.client])
    }

    /// Records that the refresher is alive.
    pub(crate) fn record_heartbeat(&self) {
        self.set(&self.families.token_heartbeat, unix(clock::wall()));
    }

    /// Sets when the OAuth client or its certificate expires, if that is known.
    pub(crate) fn set_client_expiry(&self, expiry: Option<SystemTime>) {
        match expiry {
            Some(expiry) => self.set(&self.families.client_expiry, unix(expiry)),
            // Fails if there is no series, which is as good.
            None => drop(self.families.client_expiry.remove_label_values(&[&self.client])),
        }
    }

    /// Records that the credential has changed, or why it has not.
    pub(crate) fn record_credential_reload(&self, outcome: CredentialReload, detail: &str) {
        let reloads = &self.families.credential_reloads;
        reloads.with_label_values(&[self.client.as_str(), outcome.label()]).inc();
        let kind = match outcome {
            CredentialReload::Success => EventKind::CredentialChanged,
            _ => EventKind::CredentialRefused,
        };
        self.record_event(kind, detail);
    }

    /// Records the end of a token request.
    pub(crate) fn record_token_request(&self, outcome: TokenRequestOutcome, took: Duration) {
        let families = &self.families;
        families.token_requests.with_label_values(&[self.client.as_str(), outcome.label()]).inc();
        families
            .token_request_duration
            .with_label_values(&[&self.client])
            .observe(took.as_secs_f64());
    }

    /// Sets all gauges. A client of the same name in a rejected configuration may have set them.
    pub(crate) fn set_gauges(&self, gauges: &ClientGauges) {
        let families = &self.families;
        for (family, time) in [
            (&families.token_issued, gauges.issued),
            (&families.token_last_success, gauges.issued),
            (&families.token_expiry, gauges.expires),
            (&families.token_next_refresh, gauges.next_refresh),
            (&families.client_expiry, gauges.client_expires),
        ] {
            if let Some(time) = time {
                self.set(family, unix(time));
            }
        }
        if let Some(skew) = gauges.clock_skew {
            self.set(&families.clock_skew, skew);
        }
        self.int_gauge(&families.token_generation)
            .set(i64::try_from(gauges.generation).unwrap_or(i64::MAX));
        self.int_gauge(&families.token_failures).set(gauges.consecutive_failures.into());
    }

    /// Records a new token with this lifetime.
    pub(crate) fn record_token(&self, gauges: &ClientGauges, lifetime: Duration) {
        self.set_gauges(gauges);
        let seconds = lifetime.as_secs();
        let detail = format!("valid for {seconds} s, number {}", gauges.generation);
        self.record_event(EventKind::TokenIssued, detail);
    }

    /// Records a failed token request. Gauges of the token in hand stay as they are.
    pub(crate) fn record_failure(&self, gauges: &ClientGauges, message: &str) {
        let families = &self.families;
        self.int_gauge(&families.token_failures).set(gauges.consecutive_failures.into());
        if let Some(next_refresh) = gauges.next_refresh {
            self.set(&families.token_next_refresh, unix(next_refresh));
        }
        if let Some(skew) = gauges.clock_skew {
            self.set(&families.clock_skew, skew);
        }
        self.record_event(EventKind::TokenRequestFailed, message);
    }

    /// Sets whether there is a usable token. Called at each scrape: a token expires without an
    /// event.
    pub(crate) fn set_usable(&self, usable: bool) {
        self.int_gauge(&self.families.token_usable).set(usable.into());
    }

    /// Records a refused token, and what became of the request.
    pub(crate) fn record_heal(&self, refusal: TokenRefusal, outcome: HealOutcome) {
        let labels = [self.client.as_str(), refusal.label(), outcome.label()];
        self.families.token_heals.with_label_values(&labels).inc();
        let detail = format!("{}: {}", refusal.title(), outcome.title());
        self.record_event(EventKind::TokenRefused, detail);
    }

    /// Records the end of a request's wait for a token.
    pub(crate) fn record_wait(&self, served: bool) {
        if served { self.served.inc() } else { self.failed.inc() }
    }
}

pub(super) fn unix(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
