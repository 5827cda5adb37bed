//! Status of the sidecar for people and their scripts: `/status` and the page at `/`.
//!
//! It is read from the same state as probes and metrics, so that they never contradict each other.

mod token_life;

use crate::config::{Config, Route};
use crate::error::ErrorKind;
use crate::journal::{Event, EventKind};
use crate::metrics::Metrics;
use crate::readiness::{Complaint, Readiness, SidecarState};
use crate::token::ClientHandle;
use crate::traffic::{Cause, Counts, Failure, Recent, Traffic};
use arc_swap::ArcSwap;
use rustix::system::uname;
use serde::{Serialize, Serializer};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use token_life::{MINUTE, TokenLife};

/// View of everything that the status shows.
pub struct StatusView {
    readiness: Readiness,
    metrics: Arc<Metrics>,
    routes: ArcSwap<Vec<RouteStatus>>,
    /// The names of the callers.
    callers: ArcSwap<Vec<String>>,
    started: SystemTime,
    /// The name of this machine.
    host: String,
    /// The configuration file, if the status may name it.
    config_file: Option<String>,
    /// Whether only this machine reaches the status. Otherwise it names no paths of requests, which
    /// hold the ids of users, no file and no tenant.
    is_private: bool,
    token_life: TokenLife,
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
    /// What does not work.
    pub complaints: Vec<Complaint>,
    /// The name of this machine.
    pub host: String,
    /// The configuration file, if only this machine reaches the status.
    pub config_file: Option<String>,
    /// Time of this status.
    #[serde(serialize_with = "time")]
    pub now: SystemTime,
    /// When the process started.
    #[serde(serialize_with = "time")]
    pub started: SystemTime,
    /// The OAuth clients.
    pub clients: Vec<ClientStatus>,
    /// Requests of each of the last 60 minutes, the present one last.
    pub minutes: Vec<Counts>,
    /// The last requests that failed, the latest first.
    pub failures: Vec<FailureStatus>,
    /// The routes, in the configuration's order.
    pub routes: Vec<RouteStatus>,
    /// The callers, if some have names.
    pub callers: Vec<CallerStatus>,
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
    /// How much of the token's life was left at each of the last 60 minutes, from 0 to 1; null
    /// without a token.
    pub token_life: Vec<Option<f64>>,
}

/// A request that failed.
#[derive(Debug, Serialize)]
pub struct FailureStatus {
    /// When it ended.
    #[serde(serialize_with = "time")]
    pub time: SystemTime,
    /// The method.
    pub method: &'static str,
    /// The route's name.
    pub route: String,
    /// The path, if only this machine reaches the status.
    pub path: Option<String>,
    /// The status that the caller got.
    pub status: Option<u16>,
    /// Why it failed.
    pub cause: Cause,
    /// What to do.
    pub advice: &'static str,
    /// SAP's correlation id.
    pub correlation_id: Option<String>,
    /// How long it took, in milliseconds.
    pub duration_ms: u128,
}

/// The last minutes of a route.
#[derive(Clone, Debug, Serialize)]
pub struct RecentStatus {
    /// Requests within the last five minutes.
    pub requests: Counts,
    /// The time that half of them took at most, in milliseconds.
    pub p50_ms: Option<u128>,
    /// The time that 95 % of them took at most, in milliseconds.
    pub p95_ms: Option<u128>,
    /// When the last request ended.
    #[serde(serialize_with = "maybe_time")]
    pub last: Option<SystemTime>,
    /// The status of the last request.
    pub last_status: Option<u16>,
    /// The outcome of the last request, as in the metrics.
    pub last_outcome: Option<&'static str>,
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
            Self::Degraded => "degraded: requests work for now",
            Self::Waiting => "waiting for its first token: requests wait for a while",
            Self::NoToken => "no token: requests are answered 503",
            Self::Rejected => "refused by the issuer: requests are answered 503",
        }
    }
}

/// A route as configured, and its last requests.
#[derive(Clone, Debug, Serialize)]
pub struct RouteStatus {
    /// The name in metrics and logs.
    pub name: String,
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
    /// The upstream's origin, if only this machine reaches the status.
    pub origin: Option<String>,
    /// The client's name.
    pub client: String,
    /// Its last requests, if there were any.
    pub recent: Option<RecentStatus>,
}

/// A caller as configured, and its last requests.
#[derive(Clone, Debug, Serialize)]
pub struct CallerStatus {
    /// The name in metrics and logs.
    pub name: String,
    /// Its requests within the last five minutes.
    pub requests: Counts,
    /// When its last request ended.
    #[serde(serialize_with = "maybe_time")]
    pub last: Option<SystemTime>,
    /// The status of its last request.
    pub last_status: Option<u16>,
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
    pub fn new(
        readiness: Readiness,
        metrics: Arc<Metrics>,
        config: &Config,
        config_file: Option<&Path>,
    ) -> Self {
        let is_private = config.admin.address.ip().is_loopback();
        let config_file = config_file.filter(|_| is_private);
        Self {
            config_file: config_file.map(|file| file.display().to_string()),
            readiness,
            metrics,
            routes: ArcSwap::from_pointee(routes(config, is_private)),
            callers: ArcSwap::from_pointee(caller_names(config)),
            started: SystemTime::now(),
            host: uname().nodename().to_string_lossy().into_owned(),
            is_private,
            token_life: TokenLife::default(),
        }
    }

    /// Replaces the routes and the callers.
    pub(crate) fn replace_routes(&self, config: &Config) {
        self.callers.store(Arc::new(caller_names(config)));
        self.routes.store(Arc::new(routes(config, self.is_private)));
    }

    /// Returns the source of the probes' answers.
    pub(crate) const fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Returns the metrics, after setting those that change without an event.
    pub(crate) fn metrics(&self) -> &Metrics {
        self.readiness.set_gauges(&self.metrics);
        &self.metrics
    }

    /// Returns the status now.
    pub fn status(&self) -> Status {
        let evaluation = self.readiness.evaluate();
        let traffic = self.readiness.traffic();
        let mut routes = self.routes.load().to_vec();
        for route in &mut routes {
            route.recent = traffic.recent(&route.name).and_then(recent);
        }
        let failure = |failure| self.failure(failure);
        Status {
            version: env!("CARGO_PKG_VERSION"),
            state: evaluation.state,
            summary: evaluation.summary,
            complaints: evaluation.complaints,
            host: self.host.clone(),
            config_file: self.config_file.clone(),
            now: SystemTime::now(),
            started: self.started,
            clients: self.readiness.clients().iter().map(|handle| self.client(handle)).collect(),
            minutes: traffic.history(),
            failures: traffic.failures().into_iter().map(failure).collect(),
            routes,
            callers: self.callers.load().iter().map(|name| caller(name, traffic)).collect(),
            events: self.metrics.journal().events().into_iter().map(EventStatus::from).collect(),
        }
    }
}

impl StatusView {
    fn client(&self, handle: &ClientHandle) -> ClientStatus {
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
            token_life: self.token_life.of(&handle.name),
        }
    }

    fn failure(&self, failure: Failure) -> FailureStatus {
        let Failure { time, route, path, method, status, cause, correlation_id, took } = failure;
        FailureStatus {
            time,
            method,
            route,
            path: path.filter(|_| self.is_private),
            status,
            cause,
            advice: cause.advice(),
            correlation_id,
            duration_ms: took.as_millis(),
        }
    }
}

/// Records each minute how much of each token's life is left; never ends.
pub(crate) async fn keep_history(view: Arc<StatusView>) {
    loop {
        view.token_life.record(&view.readiness.clients());
        tokio::time::sleep(MINUTE).await;
    }
}

impl From<Event> for EventStatus {
    fn from(event: Event) -> Self {
        let Event { first, last, times, client, kind, detail } = event;
        Self { first, last, times, client, event: kind, detail }
    }
}

fn routes(config: &Config, is_private: bool) -> Vec<RouteStatus> {
    let origin = |route: &Route| route.upstream.origin.origin().ascii_serialization();
    let status = |route: &Route| RouteStatus {
        name: config.name_of(route),
        path: route.path.clone(),
        listen: config.addresses_of(route).map(ToString::to_string).collect(),
        profile: route.profile.name,
        methods: route.methods.to_string(),
        upstream: route.upstream.name.clone(),
        origin: is_private.then(|| origin(route)),
        client: route.client.name.clone(),
        recent: None,
    };
    config.routes.iter().map(status).collect()
}

fn caller_names(config: &Config) -> Vec<String> {
    config.caller_names().map(str::to_owned).collect()
}

/// The last requests of a caller.
fn caller(name: &str, traffic: &Traffic) -> CallerStatus {
    let (requests, last) = traffic.recent_of_caller(name).unwrap_or_default();
    CallerStatus {
        name: name.to_owned(),
        requests,
        last: last.map(|last| last.time),
        last_status: last.and_then(|last| last.status),
    }
}

/// The last minutes of a route. `None` if there was no request yet.
fn recent(recent: Recent) -> Option<RecentStatus> {
    let last = recent.last?;
    let milliseconds = |time: Duration| time.as_millis();
    Some(RecentStatus {
        requests: recent.counts,
        p50_ms: recent.p50.map(milliseconds),
        p95_ms: recent.p95.map(milliseconds),
        last: Some(last.time),
        last_status: last.status,
        last_outcome: Some(last.outcome.label()),
    })
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
