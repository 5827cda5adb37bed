//! The loop that fetches one client's tokens. There is one loop per client, so no client has two
//! token requests in flight. Only shutdown ends it.

use super::access_token::Token;
use super::advice;
use super::client_state::Failure;
use super::error::TokenError;
use super::handle::ClientHandle;
use super::retry::{Streak, retry_delay};
use super::schedule::Schedule;
use super::source::TokenSource;
use crate::clock::{self, Instant, Pace};
use crate::metrics::labels::{CredentialReload, Label, TokenRequestOutcome};
use crate::throttle::Throttle;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Interval of the loop's sign of life while it has nothing to do. Timers stand still while the
/// machine sleeps; after that, the loop looks at the clock within this time.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Seconds by which the wall clock must jump ahead to be taken for a pause of the machine. A
/// hypervisor that pauses a machine stops its other clocks, too, and the token may have expired in
/// that time.
const PAUSE: f64 = 60.0;

/// A newer source of tokens, if there is one. The refresher tries it before it replaces the source
/// in use.
#[derive(Clone, Default)]
pub struct NewSource(pub Option<Arc<dyn TokenSource>>);

impl NewSource {
    /// Returns a channel without a newer source, for a refresher that keeps its own.
    pub fn never() -> watch::Receiver<Self> {
        watch::channel(Self::default()).1
    }
}

/// A newer source that has not brought a token yet.
struct PendingSource {
    source: Arc<dyn TokenSource>,
    streak: Streak,
    next_attempt: Instant,
}

/// The next token request of the loop.
enum Turn {
    Refresh,
    TryPendingSource,
}

/// The state of the loop.
pub struct Refresher {
    client: ClientHandle,
    source: Arc<dyn TokenSource>,
    new_sources: watch::Receiver<NewSource>,
    pending: Option<PendingSource>,
    schedule: Schedule,
    pace: Pace,
    last_failure: Option<TokenRequestOutcome>,
    failure_log: Throttle,
}

impl Refresher {
    /// Creates the loop of a client. `refresh_at` is the fraction of a token's life after which the
    /// next one is fetched.
    pub fn new(
        client: ClientHandle,
        source: Arc<dyn TokenSource>,
        new_sources: watch::Receiver<NewSource>,
        refresh_at: f64,
    ) -> Self {
        Self {
            client,
            source,
            new_sources,
            pending: None,
            schedule: Schedule::new(Instant::now(), refresh_at),
            pace: Pace::new(Instant::now(), clock::wall()),
            last_failure: None,
            failure_log: Throttle::new(),
        }
    }

    /// Fetches and publishes tokens until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let cycle = async {
            loop {
                match self.next_turn().await {
                    Turn::Refresh => self.refresh().await,
                    Turn::TryPendingSource => self.try_pending_source().await,
                }
            }
        };
        shutdown.run_until_cancelled(cycle).await;
    }

    /// Waits until a refresh is due, the current token is to be replaced, or a newer source is to
    /// be tried.
    async fn next_turn(&mut self) -> Turn {
        loop {
            self.record_heartbeat();
            self.check_wall_clock();
            let now = Instant::now();
            let refresh = self.schedule.next_refresh();
            let pending = self.pending.as_ref().map(|pending| pending.next_attempt);
            let pending = pending.map(|due| self.schedule.not_before(due));
            if pending.is_some_and(|due| now >= due) {
                return Turn::TryPendingSource;
            }
            if now >= refresh {
                return Turn::Refresh;
            }
            let next = pending.map_or(refresh, |due| due.min(refresh));
            let has_token = self.schedule.has_token();
            tokio::select! {
                () = sleep((next - now).min(HEARTBEAT)) => {}
                () = self.client.store.newer_requested(), if has_token => self.schedule.expedite(),
                Ok(()) = self.new_sources.changed() => {
                    let source = self.new_sources.borrow_and_update().0.clone();
                    self.client.store.set_pending_source_error(None);
                    let (streak, next_attempt) = (Streak::default(), now);
                    self.pending =
                        source.map(|source| PendingSource { source, streak, next_attempt });
                }
            }
        }
    }

    fn record_heartbeat(&self) {
        self.client.store.record_heartbeat();
        self.client.metrics.record_heartbeat();
    }

    /// Corrects the reported times if the wall clock was set. The current token stays in use: by
    /// the clock by which it ages, it has not expired.
    fn check_wall_clock(&mut self) {
        let Some(step) = self.pace.step(Instant::now(), clock::wall()) else {
            return;
        };
        self.client.store.shift_times(step);
        self.client.metrics.set_gauges(&self.client.store.state().gauges);
        let is_pause = step > PAUSE && self.schedule.has_token();
        if is_pause {
            self.schedule.expedite();
        }
        info!(
            client = self.client.name,
            seconds = step,
            refresh = is_pause,
            "The machine's wall clock was set, or the machine was paused."
        );
    }

    /// Sends one token request with the source in use.
    async fn refresh(&mut self) {
        let source = self.source.clone();
        let (started, result) = self.request(source).await;
        match result {
            Ok(token) => self.publish(token, started),
            Err(error) => self.record_failure(&error),
        }
    }

    /// Sends one token request with the newer source. If it brings a token, that source is in use
    /// from then on; otherwise the old one stays.
    async fn try_pending_source(&mut self) {
        let Some(mut pending) = self.pending.take() else {
            return;
        };
        let (started, result) = self.request(pending.source.clone()).await;
        match result {
            Ok(token) => {
                self.source = pending.source;
                self.client.store.set_pending_source_error(None);
                self.client.metrics.record_credential_reload(CredentialReload::Success, "");
                info!(client = self.client.name, "The new credential is in use.");
                self.publish(token, started);
            }
            Err(error) => {
                self.record_pending_failure(&mut pending, &error);
                self.pending = Some(pending);
            }
        }
    }

    fn record_pending_failure(&mut self, pending: &mut PendingSource, error: &TokenError) {
        let is_first = pending.streak.is_empty();
        let class = error.retry_class();
        let failures = pending.streak.extend(class);
        let delay = retry_delay(class, failures, Duration::ZERO, fastrand::f64());
        pending.next_attempt = Instant::now() + delay;
        let outcome = match error {
            TokenError::Refused { .. } => CredentialReload::Refused,
            _ => CredentialReload::Failed,
        };
        let message = advice::append(error, pending.source.advice(error));
        self.client.metrics.record_credential_reload(outcome, &message);
        self.client.store.set_pending_source_error(Some(message.as_str().into()));
        if is_first || self.try_log(error.outcome()) {
            warn!(
                client = self.client.name,
                outcome = error.outcome().label(),
                next_attempt_seconds = until(pending.next_attempt).as_secs_f64(),
                usable = self.client.store.is_usable(),
                "Keeping the old credential; the issuer returned no token for the new one: {message}."
            );
        }
    }

    async fn request(
        &mut self,
        source: Arc<dyn TokenSource>,
    ) -> (Instant, Result<Token, TokenError>) {
        let started = Instant::now();
        self.schedule.record_request(started);
        self.client.store.set_speculative_from(self.schedule.speculative_from(started));
        // In a task of its own, so that a panic in the source costs one attempt and not the loop.
        let result = tokio::spawn(async move { source.fetch().await })
            .await
            .unwrap_or(Err(TokenError::Panicked));
        let outcome =
            result.as_ref().map_or_else(TokenError::outcome, |_| TokenRequestOutcome::Success);
        self.client.metrics.record_token_request(outcome, started.elapsed());
        (started, result)
    }

    /// Publishes a token. Its lifetime counts from when the request was sent: the answer may have
    /// taken a while.
    fn publish(&mut self, token: Token, sent: Instant) {
        let lifetime = token.lifetime;
        let generation = self.client.store.publish(token, sent);
        self.schedule.record_success(sent, lifetime, fastrand::f64());
        self.last_failure = None;
        let next_refresh = until(self.schedule.next_refresh());
        self.client.store.set_next_refresh(clock::wall() + next_refresh);
        self.client.metrics.record_token(&self.client.store.state().gauges, lifetime);
        info!(
            client = self.client.name,
            generation,
            lifetime_seconds = lifetime.as_secs(),
            next_refresh_seconds = next_refresh.as_secs(),
            "New access token."
        );
    }

    fn record_failure(&mut self, error: &TokenError) {
        self.schedule.record_failure(Instant::now(), error.retry_class(), fastrand::f64());
        let next_attempt = until(self.schedule.next_refresh());
        let message: Arc<str> = advice::append(error, self.source.advice(error)).into();
        let store = &self.client.store;
        if let Some(skew) = self.source.clock_skew() {
            store.set_clock_skew(skew);
        }
        store.set_next_refresh(clock::wall() + next_attempt);
        store.record_failure(Failure {
            kind: error.kind(),
            next_attempt: self.schedule.urgent_refresh(),
            message: message.clone(),
        });
        self.client.metrics.record_failure(&store.state().gauges, &message);
        if self.try_log(error.outcome()) {
            warn!(
                client = self.client.name,
                outcome = error.outcome().label(),
                failures = self.schedule.failures(),
                next_attempt_seconds = next_attempt.as_secs_f64(),
                usable = self.client.store.is_usable(),
                "Could not fetch a new access token: {message}."
            );
        }
    }

    /// Asks to log a failure. One that differs from the last one may pass at once.
    fn try_log(&mut self, outcome: TokenRequestOutcome) -> bool {
        if self.last_failure.replace(outcome) != Some(outcome) {
            self.failure_log.reset();
        }
        self.failure_log.try_pass()
    }
}

fn until(moment: Instant) -> Duration {
    moment.saturating_duration_since(Instant::now())
}

#[cfg(test)]
mod tests;
