//! Status of the sidecar for people and their scripts: `/status` and the page at `/`.
//!
//! It is read from the same state as probes and metrics, so that they never contradict each other.

use crate::config::Config;
use crate::error::ErrorKind;
use crate::journal::{Event, EventKind};
use crate::metrics::Metrics;
use crate::readiness::{Readiness, SidecarState};
use crate::token::ClientHandle;
use arc_swap::ArcSwap;
use serde::{Serialize, Serializer};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// View of everything that the status shows.
pub struct StatusView {
    readiness: Readiness,
    metrics: Arc<Metrics>,
    routes: ArcSwap<Vec<RouteStatus>>,
    started: SystemTime,
}

/// Status of the sidecar at one moment.
#[derive(Debug, Serialize)]
pub struct Status {
    /// bearerd's version.
    pub version: &'static str,
    /// Whether the sidecar should get traffic.
    pub state: SidecarState,
    /// The answer of `/readyz`.
    pub summary: String,
    /// Time of this status.
    #[serde(serialize_with = "time")]
    pub now: SystemTime,
    /// When the process started.
    #[serde(serialize_with = "time")]
    pub started: SystemTime,
    /// The OAuth clients.
    pub clients: Vec<ClientStatus>,
    /// The routes, in the configuration's order.
    pub routes: Vec<RouteStatus>,
    /// The last events, the latest first.
    pub events: Vec<EventStatus>,
}

/// Status of an OAuth client.
#[derive(Debug, Serialize)]
pub struct ClientStatus {
    /// The name in the configuration.
    pub name: String,
    /// Whether it has a token, and whether it will.
    pub state: ClientHealth,
    /// The latest token, if there was one.
    pub token: Option<TokenStatus>,
    /// When the next token request is due.
    #[serde(serialize_with = "maybe_time")]
    pub next_refresh: Option<SystemTime>,
    /// Token requests that failed since the last success.
    pub consecutive_failures: u32,
    /// Why the last token request failed, and what to do.
    pub last_error: Option<String>,
    /// Why a newer credential is not in use.
    pub credential_error: Option<String>,
    /// When the OAuth client itself, or its certificate, expires.
    #[serde(serialize_with = "maybe_time")]
    pub client_expires: Option<SystemTime>,
    /// How far the issuer's clock is ahead of the local one, in seconds.
    pub clock_skew_seconds: Option<f64>,
}

/// Data about a token, without the token itself.
#[derive(Debug, Serialize)]
pub struct TokenStatus {
    /// Number of the token, from 1.
    pub generation: u64,
    /// When it was received.
    #[serde(serialize_with = "time")]
    pub issued: SystemTime,
    /// When it expires. It is sent until shortly before.
    #[serde(serialize_with = "time")]
    pub expires: SystemTime,
}

/// Health of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientHealth {
    /// It has a token, and the last request for one succeeded.
    Ok,
    /// It has a token, but the next one or its credential fails.
    Degraded,
    /// It has no token yet, and nothing has failed.
    Waiting,
    /// It has no token: the issuer is down or slow.
    NoToken,
    /// It has no token: the issuer refuses it.
    Rejected,
}

impl ClientHealth {
    /// Returns the health in words, with what it means for requests.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Ok => "fine: it has a token",
            Self::Degraded => "degraded: it has a token, but see below",
            Self::Waiting => "waiting for its first token: requests wait for a while",
            Self::NoToken => "no token: requests are answered 503",
            Self::Rejected => "refused by the issuer: requests are answered 503",
        }
    }
}

/// A route as configured.
#[derive(Clone, Debug, Serialize)]
pub struct RouteStatus {
    /// The path.
    pub path: String,
    /// The addresses that it is served on, as configured.
    pub listen: Vec<String>,
    /// The API family.
    pub profile: &'static str,
    /// The methods that are allowed.
    pub methods: String,
    /// The upstream's name.
    pub upstream: String,
    /// The upstream's origin.
    pub origin: String,
    /// The client's name.
    pub client: String,
}

/// An event of the journal.
#[derive(Debug, Serialize)]
pub struct EventStatus {
    /// When it happened first.
    #[serde(serialize_with = "time")]
    pub first: SystemTime,
    /// When it happened last.
    #[serde(serialize_with = "time")]
    pub last: SystemTime,
    /// How many times it happened.
    pub times: u32,
    /// The OAuth client that it is about.
    pub client: Option<String>,
    /// What happened.
    pub event: EventKind,
    /// Details.
    pub detail: String,
}

impl StatusView {
    /// Creates the view.
    pub fn new(readiness: Readiness, metrics: Arc<Metrics>, config: &Config) -> Self {
        let routes = ArcSwap::from_pointee(routes(config));
        Self { readiness, metrics, routes, started: SystemTime::now() }
    }

    /// Replaces the routes.
    pub(crate) fn replace_routes(&self, config: &Config) {
        self.routes.store(Arc::new(routes(config)));
    }

    /// Returns the source of the probes' answers.
    pub(crate) const fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Returns the metrics, after setting those that change without an event.
    pub(crate) fn metrics(&self) -> &Metrics {
        for client in self.readiness.clients().iter() {
            client.metrics.set_usable(client.store.is_usable());
        }
        &self.metrics
    }

    /// Returns the status now.
    pub fn status(&self) -> Status {
        let report = self.readiness.readyz();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            state: self.readiness.evaluate_state(),
            summary: report.text,
            now: SystemTime::now(),
            started: self.started,
            clients: self.readiness.clients().iter().map(client).collect(),
            routes: self.routes.load().to_vec(),
            events: self.metrics.journal().events().into_iter().map(EventStatus::from).collect(),
        }
    }
}

impl From<Event> for EventStatus {
    fn from(event: Event) -> Self {
        let Event { first, last, times, client, kind, detail } = event;
        Self { first, last, times, client, event: kind, detail }
    }
}

fn client(handle: &ClientHandle) -> ClientStatus {
    let state = handle.store.state();
    let gauges = state.gauges;
    let credential_error = state.credential_errors().next();
    let failure = state.failure.as_ref();
    let health = match (handle.store.is_usable(), failure) {
        (true, None) if credential_error.is_none() => ClientHealth::Ok,
        (true, _) => ClientHealth::Degraded,
        (false, None) if gauges.generation == 0 => ClientHealth::Waiting,
        (false, Some(failure)) if failure.kind == ErrorKind::CredentialRejected => {
            ClientHealth::Rejected
        }
        (false, _) => ClientHealth::NoToken,
    };
    let token = gauges.issued.zip(gauges.expires).map(|(issued, expires)| TokenStatus {
        generation: gauges.generation,
        issued,
        expires,
    });
    ClientStatus {
        name: handle.name.clone(),
        state: health,
        token,
        next_refresh: gauges.next_refresh,
        consecutive_failures: gauges.consecutive_failures,
        last_error: failure.map(|failure| failure.message.to_string()),
        credential_error: credential_error.map(|error| error.to_string()),
        client_expires: gauges.client_expires,
        clock_skew_seconds: gauges.clock_skew,
    }
}

fn routes(config: &Config) -> Vec<RouteStatus> {
    let status = |route: &crate::config::Route| RouteStatus {
        path: route.path.clone(),
        listen: config.addresses_of(route).map(ToString::to_string).collect(),
        profile: route.profile.name,
        methods: route.methods.to_string(),
        upstream: route.upstream.name.clone(),
        origin: route.upstream.origin.origin().ascii_serialization(),
        client: route.client.name.clone(),
    };
    config.routes.iter().map(status).collect()
}

/// Formats a time by RFC 3339, in UTC, to the second.
pub(crate) fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// Formats a time span for people, in its two largest units.
pub(crate) fn span(span: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let seconds = span.as_secs();
    let first = UNITS.iter().position(|(length, _)| seconds >= *length).unwrap_or(3);
    let parts = UNITS.iter().skip(first).take(2).scan(seconds, |left, (length, name)| {
        let count = *left / length;
        *left %= length;
        Some((count, name))
    });
    let units: Vec<_> = parts
        .enumerate()
        .filter(|(index, (count, _))| *index == 0 || *count > 0)
        .map(|(_, (count, name))| format!("{count} {name}"))
        .collect();
    units.join(" ")
}

fn time<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&timestamp(*time))
}

#[expect(clippy::ref_option, reason = "serde hands over references")]
fn maybe_time<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(timestamp).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_shown_in_their_two_largest_units() {
        for (seconds, shown) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (3_600, "1 h"),
            (3_661, "1 h 1 min"),
            (86_399, "23 h 59 min"),
            (86_400, "1 d"),
            (90 * 86_400 + 7_200, "90 d 2 h"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), shown);
        }
    }
}
