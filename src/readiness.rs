//! Answers to the probes `/livez`, `/readyz` and `/startupz`: whether the process is alive, ready
//! or degraded, and why.

use crate::audit::Audit;
use crate::drain::Drain;
use crate::error::ErrorKind;
use crate::listener_tls::{ListenerTls, Validity};
use crate::metrics::Metrics;
use crate::proxy::guard::Guard;
use crate::token::ClientHandle;
use crate::traffic::Traffic;
use arc_swap::{ArcSwap, ArcSwapOption};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// Silence after which a refresher counts as stuck. It shows a sign of life every 5 s, and its
/// request takes at most 15 s.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(60);

/// Everything that the answers to probes depend on. Clones share it.
#[derive(Clone)]
pub struct Readiness(Arc<Inner>);

struct Inner {
    /// Steps of the start, and whether they are still pending.
    steps: Mutex<BTreeMap<&'static str, bool>>,
    clients: ArcSwap<Vec<ClientHandle>>,
    /// Guard that knows whether the local credential can be read.
    guard: ArcSwapOption<Guard>,
    audit: ArcSwapOption<Audit>,
    /// TLS of listeners, by their addresses.
    tls: ArcSwap<Vec<(String, Arc<ListenerTls>)>>,
    traffic: Traffic,
    drain: Drain,
    /// Whether a probe has found this instance ready.
    was_ready: AtomicBool,
}

/// A step of the start that is pending until this is dropped.
pub struct PendingStep {
    readiness: Readiness,
    name: &'static str,
}

impl Drop for PendingStep {
    fn drop(&mut self) {
        self.readiness.steps().insert(self.name, false);
    }
}

/// State of this instance in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SidecarState {
    /// It was never ready, and nothing has failed.
    Starting,
    /// It should get traffic.
    Ready,
    /// It should get traffic, although something fails.
    Degraded,
    /// It should not get traffic.
    NotReady,
    /// It is shutting down.
    Draining,
}

/// A condition of readiness.
struct Check {
    name: String,
    verdict: Verdict,
    /// The entry of the runbook if the check does not pass.
    entry: Option<Entry>,
}

/// Entry of the runbook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::VariantArray)]
pub(crate) enum Entry {
    NoUsableToken,
    TokenRefreshFailing,
    CredentialRejected,
    CredentialNotTaken,
    RequestsFailing,
    AuditLogNotWritten,
    ListenerCertificate,
}

impl Entry {
    /// Returns the id of the entry's heading.
    pub(crate) const fn anchor(self) -> &'static str {
        match self {
            Self::NoUsableToken => "bearerdnousabletoken",
            Self::TokenRefreshFailing => "bearerdtokenrefreshfailing",
            Self::CredentialRejected => "bearerdcredentialrejected",
            Self::CredentialNotTaken => "bearerdcredentialnottaken",
            Self::RequestsFailing => "bearerdrequestsfailing",
            Self::AuditLogNotWritten => "bearerdauditlognotwritten",
            Self::ListenerCertificate => "bearerdlistenercertificate",
        }
    }
}

/// Something that does not work, for people.
#[derive(Clone, Debug, Serialize)]
pub struct Complaint {
    /// What it is about.
    pub about: String,
    /// Why, if that is known.
    pub reason: Option<String>,
    /// The id of the runbook's entry.
    pub runbook: Option<&'static str>,
}

enum Verdict {
    Passed,
    /// It works, but somebody has to act, for this reason.
    Degraded(String),
    /// It does not work yet or any more, for this reason if one is known.
    Pending(Option<String>),
}

impl Check {
    const fn new(name: String, verdict: Verdict) -> Self {
        Self { name, verdict, entry: None }
    }

    fn explained_by(self, entry: Entry) -> Self {
        Self { entry: Some(entry), ..self }
    }

    /// What does not work. `None` if the check passed.
    fn complaint(&self) -> Option<Complaint> {
        let reason = match &self.verdict {
            Verdict::Passed => return None,
            Verdict::Degraded(why) => Some(why.clone()),
            Verdict::Pending(why) => why.clone(),
        };
        let (about, runbook) = (self.name.clone(), self.entry.map(Entry::anchor));
        Some(Complaint { about, reason, runbook })
    }

    const fn is_pending(&self) -> bool {
        matches!(self.verdict, Verdict::Pending(_))
    }

    const fn has_failed(&self) -> bool {
        matches!(self.verdict, Verdict::Pending(Some(_)))
    }

    const fn is_degraded(&self) -> bool {
        matches!(self.verdict, Verdict::Degraded(_))
    }
}

/// Writes the name and the reason.
impl fmt::Display for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Verdict::Degraded(why) | Verdict::Pending(Some(why)) => {
                write!(formatter, "{}: {why}", self.name)
            }
            Verdict::Passed | Verdict::Pending(None) => formatter.write_str(&self.name),
        }
    }
}

/// State of the sidecar for people.
pub struct Evaluation {
    /// State in a word.
    pub state: SidecarState,
    /// State in a line, as `/readyz` answers.
    pub summary: String,
    /// What does not work.
    pub complaints: Vec<Complaint>,
}

/// Answer to a probe.
#[derive(Debug, PartialEq, Eq)]
pub struct ProbeAnswer {
    /// Whether the probe passes.
    pub ok: bool,
    /// The reason in one line; in the verbose form, one more line for each check.
    pub text: String,
}

impl ProbeAnswer {
    const fn new(ok: bool, text: String) -> Self {
        Self { ok, text }
    }
}

impl Readiness {
    /// Creates readiness from these clients. The instance is ready when each has a usable token, no
    /// step of the start is pending, and no drain has begun.
    pub fn new(clients: Vec<ClientHandle>, traffic: Traffic, drain: Drain) -> Self {
        Self(Arc::new(Inner {
            steps: Mutex::default(),
            clients: ArcSwap::from_pointee(clients),
            guard: ArcSwapOption::empty(),
            audit: ArcSwapOption::empty(),
            tls: ArcSwap::default(),
            traffic,
            drain,
            was_ready: AtomicBool::new(false),
        }))
    }

    /// Adds a step of the start. It is pending until the returned value is dropped.
    #[must_use]
    pub fn pending_until_dropped(&self, name: &'static str) -> PendingStep {
        self.steps().insert(name, true);
        PendingStep { readiness: self.clone(), name }
    }

    fn steps(&self) -> MutexGuard<'_, BTreeMap<&'static str, bool>> {
        self.0.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the answer of `/readyz`: whether this instance should get traffic. A failing refresh
    /// with a valid token is *degraded*, which is reported, and is ready.
    pub fn readyz(&self) -> ProbeAnswer {
        self.record_readyz(&self.checks())
    }

    /// Returns the state in a line, as `/readyz` would answer, and until when the tokens are valid.
    /// Does not count as a probe.
    pub fn summary(&self) -> String {
        let answer = self.readyz_answer(&self.checks());
        let clients = self.clients();
        let ends = clients.iter().map(|client| client.store.state().gauges.expires);
        match ends.flatten().min() {
            Some(end) if answer.ok => {
                format!("{}; token until {}", answer.text, humantime::format_rfc3339_seconds(end))
            }
            _ => answer.text,
        }
    }

    /// Returns the answer of `/readyz?verbose`, with each check on a line.
    pub fn readyz_verbose(&self) -> ProbeAnswer {
        let checks = self.checks();
        let lines = checks.iter().map(|check| match check.verdict {
            Verdict::Passed => format!("[+] {check}\n"),
            Verdict::Degraded(_) => format!("[!] {check}\n"),
            Verdict::Pending(_) => format!("[-] {check}\n"),
        });
        let lines: String = lines.collect();
        let ProbeAnswer { ok, text } = self.record_readyz(&checks);
        ProbeAnswer::new(ok, lines + &text)
    }

    /// Evaluates the state and what does not work, and records whether the instance was ready.
    pub fn evaluate(&self) -> Evaluation {
        let checks = self.checks();
        let state = self.state(&checks);
        let summary = self.readyz_answer(&checks).text;
        let complaints = checks.iter().filter_map(Check::complaint).collect();
        Evaluation { state, summary, complaints }
    }

    fn state(&self, checks: &[Check]) -> SidecarState {
        let is_ready = self.record_readyz(checks).ok;
        if self.0.drain.has_begun() {
            SidecarState::Draining
        } else if is_ready && checks.iter().any(Check::is_degraded) {
            SidecarState::Degraded
        } else if is_ready {
            SidecarState::Ready
        } else if self.0.was_ready.load(Ordering::Relaxed) || checks.iter().any(Check::has_failed) {
            SidecarState::NotReady
        } else {
            SidecarState::Starting
        }
    }

    /// Checks all conditions of readiness.
    fn checks(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        let is_draining = self.0.drain.has_begun();
        let shutdown = if is_draining { Verdict::Pending(None) } else { Verdict::Passed };
        checks.push(Check::new("no shutdown".into(), shutdown));
        for (name, is_pending) in self.steps().iter() {
            let verdict = if *is_pending { Verdict::Pending(None) } else { Verdict::Passed };
            checks.push(Check::new((*name).to_owned(), verdict));
        }
        if let Some(why) = self.0.guard.load().as_ref().and_then(|guard| guard.complaint()) {
            let verdict = Verdict::Degraded(why.as_ref().clone());
            let check = Check::new("local credential".into(), verdict);
            checks.push(check.explained_by(Entry::CredentialNotTaken));
        }
        let audit = self.0.audit.load();
        if let Some(why) = audit.as_ref().and_then(|audit| audit.complaint()) {
            let check = Check::new("audit log".into(), Verdict::Degraded(why.as_ref().clone()));
            checks.push(check.explained_by(Entry::AuditLogNotWritten));
        }
        for (address, tls) in self.0.tls.load().iter() {
            let why = tls.complaint().map(|why| why.as_ref().clone());
            let ends = || tls.validity()?.complaint(SystemTime::now());
            if let Some(why) = why.or_else(ends) {
                let check = Check::new(format!("certificate of {address}"), Verdict::Degraded(why));
                checks.push(check.explained_by(Entry::ListenerCertificate));
            }
        }
        for client in self.clients().iter() {
            let state = client.store.state();
            for why in state.credential_errors() {
                let name = format!("new credential of {}", client.name);
                let check = Check::new(name, Verdict::Degraded(why.to_string()));
                checks.push(check.explained_by(Entry::CredentialNotTaken));
            }
            let is_refused = state
                .failure
                .as_ref()
                .is_some_and(|failure| failure.kind == ErrorKind::CredentialRejected);
            let entry = match (client.store.is_usable(), is_refused) {
                (_, true) => Entry::CredentialRejected,
                (true, false) => Entry::TokenRefreshFailing,
                (false, false) => Entry::NoUsableToken,
            };
            let failure = state.failure.map(|failure| failure.message.to_string());
            let (name, verdict) = match (client.store.is_usable(), failure) {
                (true, None) => (format!("token of {}", client.name), Verdict::Passed),
                (true, Some(why)) => (client.name.clone(), Verdict::Degraded(why)),
                (false, why) => (format!("token of {}", client.name), Verdict::Pending(why)),
            };
            checks.push(Check::new(name, verdict).explained_by(entry));
        }
        // The token may be fine, and the tenant not.
        for (upstream, why) in self.0.traffic.complaints() {
            let check = Check::new(format!("requests to {upstream}"), Verdict::Degraded(why));
            checks.push(check.explained_by(Entry::RequestsFailing));
        }
        checks
    }

    /// Returns the answer to a probe of readiness, and records whether the instance was ready. Only
    /// probes and the status record that, not the event that makes the last check pass.
    fn record_readyz(&self, checks: &[Check]) -> ProbeAnswer {
        let answer = self.readyz_answer(checks);
        if answer.ok {
            self.0.was_ready.store(true, Ordering::Relaxed);
        }
        answer
    }

    fn readyz_answer(&self, checks: &[Check]) -> ProbeAnswer {
        if self.0.drain.has_begun() {
            return ProbeAnswer::new(false, "not ready: draining".into());
        }
        let list = |which: fn(&Check) -> bool| {
            let which = checks.iter().filter(|check| which(check));
            which.map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        let pending = list(Check::is_pending);
        if !pending.is_empty() {
            return ProbeAnswer::new(false, format!("not ready, pending: {pending}"));
        }
        let degraded = list(Check::is_degraded);
        if degraded.is_empty() {
            ProbeAnswer::new(true, "ready".into())
        } else {
            ProbeAnswer::new(true, format!("ready, degraded: {degraded}"))
        }
    }

    /// Returns the answer of `/startupz`: whether a probe has ever found this instance ready.
    pub fn startupz(&self) -> ProbeAnswer {
        if self.0.was_ready.load(Ordering::Relaxed) {
            return ProbeAnswer::new(true, "started".into());
        }
        self.readyz()
    }

    /// Returns the answer of `/livez`: whether the process works. It does not if a refresher is
    /// stuck.
    pub fn livez(&self) -> ProbeAnswer {
        let clients = self.clients();
        let stuck =
            clients.iter().filter(|client| client.store.since_heartbeat() > HEARTBEAT_LIMIT);
        let stuck: Vec<_> = stuck.map(|client| client.name.as_str()).collect();
        if stuck.is_empty() {
            ProbeAnswer::new(true, "live".into())
        } else {
            ProbeAnswer::new(false, format!("refresher stuck: {}", stuck.join(", ")))
        }
    }

    /// Sets the gauges that change without an event.
    pub(crate) fn set_gauges(&self, metrics: &Metrics) {
        for client in self.clients().iter() {
            client.metrics.set_usable(client.store.is_usable());
        }
        for (address, tls) in self.0.tls.load().iter() {
            if let Some(Validity { not_after, renewal_due }) = tls.validity() {
                metrics.set_listener_certificate(address, not_after, renewal_due);
            }
        }
        if let Some(audit) = self.0.audit.load().as_ref() {
            metrics.set_audit_writable(audit.complaint().is_none());
        }
    }

    /// Sets the audit log, if there is one.
    pub(crate) fn set_audit(&self, audit: Option<Audit>) {
        self.0.audit.store(audit.map(Arc::new));
    }

    /// Replaces the guard of the local credential.
    pub(crate) fn replace_guard(&self, guard: Arc<Guard>) {
        self.0.guard.store(Some(guard));
    }

    /// Sets the TLS of listeners, by their addresses.
    pub(crate) fn set_tls(&self, tls: Vec<(String, Arc<ListenerTls>)>) {
        self.0.tls.store(Arc::new(tls));
    }

    /// Replaces the clients.
    pub(crate) fn replace_clients(&self, clients: Vec<ClientHandle>) {
        self.0.clients.store(Arc::new(clients));
    }

    /// Returns the last requests.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.0.traffic
    }

    /// Returns the clients.
    pub(crate) fn clients(&self) -> Arc<Vec<ClientHandle>> {
        self.0.clients.load_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Instant;
    use crate::token::Token;
    use crate::token::client_state::Failure;
    use crate::token::store::TokenStore;
    use http::HeaderValue;
    use tokio::time::advance;

    fn readiness() -> (Readiness, Arc<TokenStore>, Drain) {
        let store = Arc::new(TokenStore::new());
        let drain = Drain::default();
        let client = ClientHandle {
            name: "c".into(),
            store: store.clone(),
            wait: Duration::ZERO,
            metrics: Metrics::new().unwrap().client("c"),
        };
        (Readiness::new(vec![client], Traffic::default(), drain.clone()), store, drain)
    }

    fn token() -> Token {
        Token {
            authorization: HeaderValue::from_static("Bearer x"),
            lifetime: Duration::from_secs(100),
            clock_skew: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_names_what_is_missing_and_follows_the_token() {
        let (readiness, store, drain) = readiness();
        let listeners = readiness.pending_until_dropped("listeners");
        assert_eq!(readiness.readyz().text, "not ready, pending: listeners; token of c");
        store.publish(token(), Instant::now());
        assert_eq!(readiness.readyz().text, "not ready, pending: listeners");
        assert!(!readiness.startupz().ok);
        drop(listeners);
        assert_eq!(readiness.readyz(), ProbeAnswer::new(true, "ready".into()));

        let message = "the issuer is away".into();
        let next_attempt = Instant::now();
        store.record_failure(Failure { kind: ErrorKind::TokenUnavailable, next_attempt, message });
        let degraded = ProbeAnswer::new(true, "ready, degraded: c: the issuer is away".into());
        assert_eq!(readiness.readyz(), degraded);

        advance(Duration::from_secs(91)).await;
        let text = "not ready, pending: token of c: the issuer is away";
        assert_eq!(readiness.readyz(), ProbeAnswer::new(false, text.into()));
        assert!(readiness.startupz().ok, "once started, always started");

        store.publish(token(), Instant::now());
        assert!(readiness.readyz().ok);
        drain.begin();
        assert_eq!(readiness.readyz(), ProbeAnswer::new(false, "not ready: draining".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_silent_refresher_ends_liveness() {
        let (readiness, store, _) = readiness();
        advance(Duration::from_secs(60)).await;
        assert!(readiness.livez().ok);
        advance(Duration::from_secs(1)).await;
        assert_eq!(readiness.livez(), ProbeAnswer::new(false, "refresher stuck: c".into()));
        store.record_heartbeat();
        assert!(readiness.livez().ok);
    }
}
