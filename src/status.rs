//! How the sidecar is, for people and their scripts: `/status` and the page at `/`.
//!
//! Everything here is read from what the probes and metrics are read from, so that they never
//! contradict each other.

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

/// What the status is read from.
pub struct StatusView {
    readiness: Readiness,
    metrics: Arc<Metrics>,
    routes: ArcSwap<Vec<RouteStatus>>,
    started: SystemTime,
}

/// How the sidecar is at a moment.
#[derive(Debug, Serialize)]
pub struct Status {
    /// bearerd's version.
    pub version: &'static str,
    /// Ready or not, and why.
    pub state: SidecarState,
    /// The same in words.
    pub summary: String,
    /// The moment.
    #[serde(serialize_with = "time")]
    pub now: SystemTime,
    /// When the process started.
    #[serde(serialize_with = "time")]
    pub started: SystemTime,
    /// Each OAuth client.
    pub clients: Vec<ClientStatus>,
    /// Each route, in the configuration's order.
    pub routes: Vec<RouteStatus>,
    /// The last events, the latest first.
    pub events: Vec<EventStatus>,
}

/// How an OAuth client is.
#[derive(Debug, Serialize)]
pub struct ClientStatus {
    /// The name in the configuration.
    pub name: String,
    /// What may be expected of it.
    pub state: ClientHealth,
    /// The token in use, if there ever was one.
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
    /// How far the issuer's clock is ahead of ours, in seconds.
    pub clock_skew_seconds: Option<f64>,
}

/// A token, without itself.
#[derive(Debug, Serialize)]
pub struct TokenStatus {
    /// Counts the client's tokens.
    pub generation: u64,
    /// When it was received.
    #[serde(serialize_with = "time")]
    pub issued: SystemTime,
    /// When it expires. It is not sent any more shortly before.
    #[serde(serialize_with = "time")]
    pub expires: SystemTime,
}

/// What may be expected of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientHealth {
    /// It has a token, and the last request for one succeeded.
    Ok,
    /// It has a token, but there is trouble with the next one.
    Degraded,
    /// It has no token yet, and nothing has failed.
    Waiting,
    /// It has no token: the issuer is down or slow.
    NoToken,
    /// It has no token: the issuer refuses it.
    Rejected,
}

impl ClientHealth {
    /// In words, with what that means for requests.
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
    /// The addresses it is served on, as configured.
    pub listen: Vec<String>,
    /// Its API family.
    pub profile: &'static str,
    /// What may be called.
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
    /// How often.
    pub times: u32,
    /// Which client it is about.
    pub client: Option<String>,
    /// What it was.
    pub event: EventKind,
    /// More.
    pub detail: String,
}

impl StatusView {
    /// A board for what runs now.
    pub fn new(readiness: Readiness, metrics: Arc<Metrics>, config: &Config) -> Self {
        let routes = ArcSwap::from_pointee(routes(config));
        Self { readiness, metrics, routes, started: SystemTime::now() }
    }

    /// From now on, these routes are shown.
    pub(crate) fn replace_routes(&self, config: &Config) {
        self.routes.store(Arc::new(routes(config)));
    }

    /// The probes' answers.
    pub(crate) const fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// The metrics, with those of them that change without an event.
    pub(crate) fn metrics(&self) -> &Metrics {
        for client in self.readiness.clients().iter() {
            client.metrics.set_usable(client.store.is_usable());
        }
        &self.metrics
    }

    /// How everything is now.
    pub fn status(&self) -> Status {
        let report = self.readiness.readyz();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            state: self.readiness.state(),
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

/// RFC 3339, in UTC, to the second.
pub(crate) fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// A time span for people: its two largest units.
pub(crate) fn span(span: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let seconds = span.as_secs();
    let first = UNITS.iter().position(|(length, _)| seconds >= *length).unwrap_or(3);
    let parts = UNITS.iter().skip(first).take(2).scan(seconds, |left, (length, name)| {
        let count = *left / length;
        *left %= length;
        Some((count, name))
    });
    let told: Vec<_> = parts
        .enumerate()
        .filter(|(index, (count, _))| *index == 0 || *count > 0)
        .map(|(_, (count, name))| format!("{count} {name}"))
        .collect();
    told.join(" ")
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
    fn spans_are_told_in_their_two_largest_units() {
        for (seconds, told) in [
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
            assert_eq!(span(Duration::from_secs(seconds)), told);
        }
    }
}
