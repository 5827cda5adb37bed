//! Traffic: what became of the last requests. It answers whether the tenant works, which a valid
//! token does not.
//!
//! Everything is counted by the minute in rings of fixed size: 60 minutes for all requests, five
//! for each route and each upstream, and the last ten failures. A route takes 1.3 kB, an upstream
//! at most 1 kB.

mod cause;
mod latency;
mod minutes;

pub use cause::Cause;

use crate::clock::Instant;
use crate::metrics::labels::RequestOutcome;
use crate::throttle::Throttle;
use http::StatusCode;
use latency::Latencies;
use minutes::{Minute, Minutes};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tracing::warn;

/// Minutes of the history of all requests.
pub const HISTORY: usize = 60;
/// Minutes that count as now.
pub const RECENT: usize = 5;
/// The number of failures that are kept.
const FAILURES: usize = 10;
/// Minutes in which most requests of an upstream may have failed. After many that worked, only the
/// shorter one shows it soon.
const WINDOWS: [usize; 2] = [RECENT, 2];
/// Failures of an upstream within a window, below which nothing is said: one caller may
/// have made a mistake.
const LEAST: u32 = 3;
/// Causes that are counted apart within a minute of an upstream. Further ones count as the last.
const CAUSES: usize = 8;

/// The last requests of all routes. Clones share them.
#[derive(Clone, Debug)]
pub struct Traffic(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    history: Mutex<Minutes<Counts, HISTORY>>,
    failures: Mutex<VecDeque<Failure>>,
    routes: Mutex<BTreeMap<String, Arc<RouteTraffic>>>,
    upstreams: Mutex<BTreeMap<String, Arc<UpstreamTraffic>>>,
    callers: Mutex<BTreeMap<String, Arc<CallerTraffic>>>,
}

/// Requests by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// The tenant answered 2xx or 3xx.
    pub good: u32,
    /// The tenant answered 4xx, except for 401 and 403.
    pub client_error: u32,
    /// The tenant failed or refused, or could not be reached.
    pub failed: u32,
    /// bearerd answered itself for another reason, for example a path without a route.
    pub local: u32,
}

impl Counts {
    /// Returns the number of requests.
    pub const fn all(&self) -> u32 {
        self.good + self.client_error + self.failed + self.local
    }

    const fn of(
        status: Option<StatusCode>,
        outcome: RequestOutcome,
        cause: Option<Cause>,
    ) -> Option<Kind> {
        if cause.is_some() {
            return Some(Kind::Failed);
        }
        match (outcome, status) {
            (RequestOutcome::Local(_), _) => Some(Kind::Local),
            (RequestOutcome::Forwarded | RequestOutcome::DownstreamClosed, Some(status)) => {
                Some(if status.as_u16() >= 400 { Kind::ClientError } else { Kind::Good })
            }
            // The caller went away before an answer, or the process ended: nobody failed.
            _ => None,
        }
    }

    fn add(&mut self, kind: Kind) {
        let count = match kind {
            Kind::Good => &mut self.good,
            Kind::ClientError => &mut self.client_error,
            Kind::Failed => &mut self.failed,
            Kind::Local => &mut self.local,
        };
        *count = count.saturating_add(1);
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.good = self.good.saturating_add(other.good);
        self.client_error = self.client_error.saturating_add(other.client_error);
        self.failed = self.failed.saturating_add(other.failed);
        self.local = self.local.saturating_add(other.local);
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Good,
    ClientError,
    Failed,
    Local,
}

/// A request that has ended.
pub(crate) struct Ended<'a> {
    pub(crate) method: &'static str,
    pub(crate) status: Option<StatusCode>,
    pub(crate) outcome: RequestOutcome,
    /// Whether the answer asks for a CSRF token, which is no failure.
    pub(crate) wants_csrf: bool,
    pub(crate) took: Duration,
    /// The path, if it is known, and the id by which SAP finds the request.
    pub(crate) note: Option<&'a Note>,
}

/// What the list of failures says of a request, besides its outcome.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) path: String,
    pub(crate) correlation_id: Option<String>,
}

/// A request that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When it ended.
    pub time: SystemTime,
    /// The route's name.
    pub route: String,
    /// The path without its query. It may name a person.
    pub path: Option<String>,
    /// The method.
    pub method: &'static str,
    /// The status that the caller got.
    pub status: Option<u16>,
    /// Why it failed.
    pub cause: Cause,
    /// SAP's correlation id.
    pub correlation_id: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// The last requests of a route.
#[derive(Debug)]
pub struct RouteTraffic {
    name: String,
    upstream: Arc<UpstreamTraffic>,
    traffic: Traffic,
    recent: Mutex<RecentOfRoute>,
}

#[derive(Debug, Default)]
struct RecentOfRoute {
    minutes: Minutes<CountsAndLatencies, RECENT>,
    last: Option<Last>,
}

#[derive(Clone, Debug, Default)]
struct CountsAndLatencies {
    counts: Counts,
    latencies: Latencies,
}

/// The last requests of a caller.
#[derive(Debug)]
pub(crate) struct CallerTraffic {
    traffic: Traffic,
    recent: Mutex<RecentOfCaller>,
}

#[derive(Debug, Default)]
struct RecentOfCaller {
    minutes: Minutes<Counts, RECENT>,
    last: Option<Last>,
}

impl CallerTraffic {
    /// Records a request that has ended.
    pub(crate) fn record(&self, status: Option<StatusCode>, outcome: RequestOutcome) {
        let cause = Cause::of(status, outcome, Duration::ZERO);
        let Some(kind) = Counts::of(status, outcome, cause) else { return };
        let status = status.map(|status| status.as_u16());
        let mut recent = lock(&self.recent);
        recent.minutes.change(self.traffic.minute(), |counts| counts.add(kind));
        recent.last = Some(Last { time: SystemTime::now(), status, outcome });
    }
}

/// The last request of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// When it ended.
    pub time: SystemTime,
    /// The status that the caller got.
    pub status: Option<u16>,
    /// Its outcome, as in the metrics.
    pub outcome: RequestOutcome,
}

/// The last minutes of a route.
#[derive(Clone, Debug)]
pub struct Recent {
    /// Requests within [`RECENT`] minutes.
    pub counts: Counts,
    /// The time that half of them took at most.
    pub p50: Option<Duration>,
    /// The time that 95 % of them took at most.
    pub p95: Option<Duration>,
    /// The last request, at any time.
    pub last: Option<Last>,
}

/// The last requests to an upstream.
#[derive(Debug)]
struct UpstreamTraffic {
    name: String,
    minutes: Mutex<Minutes<Causes, RECENT>>,
    /// How many requests in a row failed, the cause of the last one, and its minute.
    in_a_row: Mutex<Option<(u32, Cause, Minute)>>,
    warnings: Mutex<BTreeMap<Cause, Arc<Throttle>>>,
}

/// Requests of a minute, and the causes of those that failed.
#[derive(Clone, Debug, Default)]
struct Causes {
    all: u32,
    failed: Vec<(Cause, u32)>,
}

impl Causes {
    fn add(&mut self, cause: Option<Cause>) {
        self.all = self.all.saturating_add(1);
        let Some(cause) = cause else { return };
        let is_full = self.failed.len() >= CAUSES;
        let known = self.failed.iter().position(|(known, _)| *known == cause);
        let known = known.or_else(|| is_full.then(|| self.failed.len() - 1));
        match known.and_then(|index| self.failed.get_mut(index)) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => self.failed.push((cause, 1)),
        }
    }
}

impl Default for Traffic {
    fn default() -> Self {
        Self(Arc::new(Inner {
            started: Instant::now(),
            history: Mutex::default(),
            failures: Mutex::default(),
            routes: Mutex::default(),
            upstreams: Mutex::default(),
            callers: Mutex::default(),
        }))
    }
}

impl Traffic {
    /// Returns the traffic of a route, which begins with this call if there is none yet.
    pub(crate) fn route(&self, name: &str, upstream: &str) -> Arc<RouteTraffic> {
        let mut routes = lock(&self.0.routes);
        if let Some(known) = routes.get(name).filter(|known| known.upstream.name == upstream) {
            return known.clone();
        }
        let upstream = lock(&self.0.upstreams)
            .entry(upstream.to_owned())
            .or_insert_with(|| Arc::new(UpstreamTraffic::new(upstream)))
            .clone();
        let route = Arc::new(RouteTraffic {
            name: name.to_owned(),
            upstream,
            traffic: self.clone(),
            recent: Mutex::default(),
        });
        routes.insert(name.to_owned(), route.clone());
        route
    }

    /// Returns the traffic of a caller, which begins with this call if there is none yet.
    pub(crate) fn caller(&self, name: &str) -> Arc<CallerTraffic> {
        let new = || Arc::new(CallerTraffic { traffic: self.clone(), recent: Mutex::default() });
        lock(&self.0.callers).entry(name.to_owned()).or_insert_with(new).clone()
    }

    /// Returns the requests of a caller within [`RECENT`] minutes, and its last one at any time.
    pub fn recent_of_caller(&self, caller: &str) -> Option<(Counts, Option<Last>)> {
        let caller = lock(&self.0.callers).get(caller).cloned()?;
        let recent = lock(&caller.recent);
        let mut sum = Counts::default();
        recent.minutes.until(self.minute()).flatten().for_each(|counts| sum += *counts);
        Some((sum, recent.last))
    }

    /// Forgets all routes, upstreams and callers but these.
    pub(crate) fn retain(&self, routes: &[String], upstreams: &[String], callers: &[String]) {
        lock(&self.0.callers).retain(|name, _| callers.contains(name));
        lock(&self.0.routes).retain(|name, _| routes.contains(name));
        lock(&self.0.upstreams).retain(|name, _| upstreams.contains(name));
    }

    /// Returns the last minutes of a route.
    pub fn recent(&self, route: &str) -> Option<Recent> {
        let route = lock(&self.0.routes).get(route).cloned()?;
        Some(route.recent(self.minute()))
    }

    /// Returns the requests of the last [`HISTORY`] minutes, the present one last.
    pub fn history(&self) -> Vec<Counts> {
        let history = lock(&self.0.history);
        history.until(self.minute()).map(|minute| minute.copied().unwrap_or_default()).collect()
    }

    /// Returns the last failures, the latest first.
    pub fn failures(&self) -> Vec<Failure> {
        lock(&self.0.failures).iter().rev().cloned().collect()
    }

    /// Returns what is wrong with the upstreams, by name: most of the last requests to them failed.
    pub fn complaints(&self) -> Vec<(String, String)> {
        let minute = self.minute();
        let upstreams: Vec<_> = lock(&self.0.upstreams).values().cloned().collect();
        let complaint = |upstream: Arc<UpstreamTraffic>| {
            upstream.complaint(minute).map(|complaint| (upstream.name.clone(), complaint))
        };
        upstreams.into_iter().filter_map(complaint).collect()
    }

    fn minute(&self) -> Minute {
        (Instant::now() - self.0.started).as_secs() / 60
    }
}

impl RouteTraffic {
    /// Records a request that has ended.
    pub(crate) fn record(&self, ended: &Ended<'_>) {
        let cause = Cause::of(ended.status, ended.outcome, ended.took);
        let cause = cause.filter(|_| !ended.wants_csrf);
        let Some(kind) = Counts::of(ended.status, ended.outcome, cause) else { return };
        let minute = self.traffic.minute();
        let now = SystemTime::now();
        lock(&self.traffic.0.history).change(minute, |counts| counts.add(kind));
        let status = ended.status.map(|status| status.as_u16());
        {
            let mut recent = lock(&self.recent);
            recent.minutes.change(minute, |slot| {
                slot.counts.add(kind);
                slot.latencies.add(ended.took);
            });
            recent.last = Some(Last { time: now, status, outcome: ended.outcome });
        }
        if !matches!(kind, Kind::Local) && !cause.is_some_and(Cause::is_about_token) {
            self.upstream.add(minute, cause);
        }
        if let Some(cause) = cause {
            self.upstream.warn(&self.name, ended.method, cause);
            let failure = Failure {
                time: now,
                route: self.name.clone(),
                path: ended.note.map(|note| note.path.clone()),
                method: ended.method,
                status,
                cause,
                correlation_id: ended.note.and_then(|note| note.correlation_id.clone()),
                took: ended.took,
            };
            let mut failures = lock(&self.traffic.0.failures);
            if failures.len() >= FAILURES {
                failures.pop_front();
            }
            failures.push_back(failure);
        }
    }

    fn recent(&self, minute: Minute) -> Recent {
        let recent = lock(&self.recent);
        let mut sum = CountsAndLatencies::default();
        for slot in recent.minutes.until(minute).flatten() {
            sum.counts += slot.counts;
            sum.latencies += &slot.latencies;
        }
        Recent {
            counts: sum.counts,
            p50: sum.latencies.quantile(0.5),
            p95: sum.latencies.quantile(0.95),
            last: recent.last,
        }
    }
}

impl UpstreamTraffic {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            minutes: Mutex::default(),
            in_a_row: Mutex::default(),
            warnings: Mutex::default(),
        }
    }

    fn add(&self, minute: Minute, cause: Option<Cause>) {
        lock(&self.minutes).change(minute, |causes| causes.add(cause));
        let mut in_a_row = lock(&self.in_a_row);
        let before = in_a_row.map_or(0, |(before, ..)| before);
        *in_a_row = cause.map(|cause| (before.saturating_add(1), cause, minute));
    }

    /// Logs a failure, at most once a minute for each cause.
    fn warn(&self, route: &str, method: &str, cause: Cause) {
        if cause.is_about_token() {
            // The refresher logs these.
            return;
        }
        // There are about 110 causes.
        let throttle = lock(&self.warnings).entry(cause).or_default().clone();
        if throttle.try_pass() {
            warn!(upstream = self.name, route, method, cause = %cause, advice = cause.advice(), "A request failed.");
        }
    }

    /// What is wrong, if most requests of the last minutes failed.
    fn complaint(&self, minute: Minute) -> Option<String> {
        let of_window = |window: &usize| {
            let minutes = lock(&self.minutes);
            let slots = minutes.until(minute).skip(RECENT - window).flatten();
            let complaint = complaint(slots)?;
            Some(format!("{} in the last {window} minutes failed {}", complaint.0, complaint.1))
        };
        WINDOWS.iter().find_map(of_window).or_else(|| self.complaint_in_a_row(minute))
    }

    /// What is wrong if there are few requests, and the last ones all failed.
    fn complaint_in_a_row(&self, minute: Minute) -> Option<String> {
        let (count, cause, last) = (*lock(&self.in_a_row))?;
        let is_old = minute.saturating_sub(last) >= HISTORY as Minute;
        (count >= LEAST && !is_old)
            .then(|| format!("the last {count} requests failed ({cause}); {}", cause.advice()))
    }
}

/// How many requests there were, and why most of them failed.
fn complaint<'a>(slots: impl Iterator<Item = &'a Causes>) -> Option<(String, String)> {
    let mut all = 0_u32;
    let mut causes: BTreeMap<Cause, u32> = BTreeMap::new();
    for slot in slots {
        all = all.saturating_add(slot.all);
        for (cause, count) in &slot.failed {
            *causes.entry(*cause).or_default() += count;
        }
    }
    let failed: u32 = causes.values().sum();
    if failed < LEAST || failed * 2 < all {
        return None;
    }
    let (main, _) = causes.into_iter().max_by_key(|(_, count)| *count)?;
    Some((format!("{failed} of {all} requests"), format!("({main}); {}", main.advice())))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
