//! The loop that owns fetching: one a client, so that there is never more than one token request
//! under way. It ends on shutdown and on nothing else.

use super::plan::{Plan, Streak};
use super::schedule::retry_after;
use super::store::{Failure, TokenStore};
use super::{Token, TokenError, TokenSource, advice};
use crate::clock::Instant;
use crate::clock::{self, Pace};
use crate::metrics::ClientMetrics;
use crate::metrics::labels::{CredentialReload, Label, TokenRequestOutcome};
use crate::throttle::Throttle;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often the loop shows that it lives while it has nothing to do. Timers stand still while the machine
/// sleeps: after that, it is this long at most before the loop looks at the clock again.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// A wall clock that is set forward by more may be all that is seen of a pause: a hypervisor that pauses a
/// machine stops its other clocks, too, and the token may have ended in that time.
const PAUSE: f64 = 60.0;

/// A newer source. It is tried before it takes the place of the one in use.
#[derive(Clone, Default)]
pub struct Offer(pub Option<Arc<dyn TokenSource>>);

impl Offer {
    /// For a refresher that keeps its source.
    pub fn never() -> watch::Receiver<Self> {
        watch::channel(Self::default()).1
    }
}

/// A newer source that is being tried.
struct Candidate {
    source: Arc<dyn TokenSource>,
    streak: Streak,
    due: Instant,
}

/// What it is time for.
enum Turn {
    Refresh,
    Candidate,
}

/// Everything the loop needs.
pub struct Refresher {
    name: String,
    source: Arc<dyn TokenSource>,
    offers: watch::Receiver<Offer>,
    candidate: Option<Candidate>,
    store: Arc<TokenStore>,
    metrics: ClientMetrics,
    plan: Plan,
    pace: Pace,
    last_failure: Option<TokenRequestOutcome>,
    failure_log: Throttle,
}

impl Refresher {
    /// Prepares the loop of the client `name`. `refresh_at` is the fraction of a token's life after
    /// which the next is fetched.
    pub fn new(
        name: String,
        source: Arc<dyn TokenSource>,
        offers: watch::Receiver<Offer>,
        store: Arc<TokenStore>,
        metrics: ClientMetrics,
        refresh_at: f64,
    ) -> Self {
        Self {
            name,
            source,
            offers,
            candidate: None,
            store,
            metrics,
            plan: Plan::new(Instant::now(), refresh_at),
            pace: Pace::new(Instant::now(), clock::wall()),
            last_failure: None,
            failure_log: Throttle::new(),
        }
    }

    /// Fetches and publishes until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let cycle = async {
            loop {
                match self.idle().await {
                    Turn::Refresh => self.refresh().await,
                    Turn::Candidate => self.try_candidate().await,
                }
            }
        };
        shutdown.run_until_cancelled(cycle).await;
    }

    /// Returns when a request is due, when the current token is not wanted any more, or when a
    /// candidate is to be tried.
    async fn idle(&mut self) -> Turn {
        loop {
            self.beat();
            self.look_at_clock();
            let now = Instant::now();
            let refresh = self.plan.due();
            let candidate = self.candidate.as_ref().map(|candidate| candidate.due);
            let candidate = candidate.map(|due| self.plan.not_before(due));
            if candidate.is_some_and(|candidate| now >= candidate) {
                return Turn::Candidate;
            }
            if now >= refresh {
                return Turn::Refresh;
            }
            let next = candidate.map_or(refresh, |candidate| candidate.min(refresh));
            tokio::select! {
                () = sleep((next - now).min(HEARTBEAT)) => {}
                () = self.store.unwanted(), if self.plan.has_token() => self.plan.hurry(),
                Ok(()) = self.offers.changed() => {
                    let source = self.offers.borrow_and_update().0.clone();
                    self.store.tell_of_candidate(None);
                    let new = |source| Candidate { source, streak: Streak::default(), due: now };
                    self.candidate = source.map(new);
                }
            }
        }
    }

    fn beat(&self) {
        self.store.beat();
        self.metrics.record_heartbeat();
    }

    /// Keeps what is shown in the wall clock's time right when that clock is set. The token in hand serves on:
    /// by the clock that it ages by, its time is not over.
    fn look_at_clock(&mut self) {
        let Some(step) = self.pace.step(Instant::now(), clock::wall()) else {
            return;
        };
        self.metrics.wall_clock_was_set(step);
        let is_pause = step > PAUSE && self.plan.has_token();
        if is_pause {
            self.plan.hurry();
        }
        info!(
            client = self.name,
            seconds = step,
            refresh = is_pause,
            "The machine's wall clock was set, or the machine was paused."
        );
    }

    /// One token request.
    async fn refresh(&mut self) {
        let source = self.source.clone();
        let (started, result) = self.ask(source).await;
        match result {
            Ok(token) => self.publish(token, started),
            Err(error) => self.note(&error),
        }
    }

    /// One token request with the newer source. A token makes it the one in use; without one, the
    /// source in use stays.
    async fn try_candidate(&mut self) {
        let Some(mut candidate) = self.candidate.take() else {
            return;
        };
        let (started, result) = self.ask(candidate.source.clone()).await;
        match result {
            Ok(token) => {
                self.source = candidate.source;
                self.store.tell_of_candidate(None);
                self.metrics.record_credential_reload(CredentialReload::Success, "");
                info!(client = self.name, "The new credential is in use.");
                self.publish(token, started);
            }
            Err(error) => {
                let is_first = candidate.streak.is_empty();
                let class = error.retry_class();
                let failures = candidate.streak.extend(class);
                let delay = retry_after(class, failures, Duration::ZERO, fastrand::f64());
                candidate.due = Instant::now() + delay;
                let outcome = match error {
                    TokenError::Refused { .. } => CredentialReload::Refused,
                    _ => CredentialReload::Failed,
                };
                let message = advice::with(&error, candidate.source.advice(&error));
                self.metrics.record_credential_reload(outcome, &message);
                self.store.tell_of_candidate(Some(message.into()));
                if is_first || self.try_log(error.outcome()) {
                    warn!(
                        client = self.name,
                        outcome = error.outcome().label(),
                        next_attempt_seconds = until(candidate.due).as_secs_f64(),
                        usable = self.store.is_usable(),
                        "Keeping the credential in use, the new one brings no token: {error}."
                    );
                }
                self.candidate = Some(candidate);
            }
        }
    }

    async fn ask(&mut self, source: Arc<dyn TokenSource>) -> (Instant, Result<Token, TokenError>) {
        let started = Instant::now();
        self.plan.sent(started);
        self.store.spare_from(self.plan.spare_from(started));
        // In a task of its own, so that a panic in the source costs one attempt and not the loop.
        let result = tokio::spawn(async move { source.fetch().await })
            .await
            .unwrap_or(Err(TokenError::Panicked));
        let outcome =
            result.as_ref().map_or_else(TokenError::outcome, |_| TokenRequestOutcome::Success);
        self.metrics.record_token_request(outcome, started.elapsed());
        (started, result)
    }

    /// Counts the lifetime from when the request was sent: the answer may have taken a while.
    fn publish(&mut self, token: Token, sent: Instant) {
        let lifetime = token.lifetime;
        let clock_skew = token.clock_skew;
        let generation = self.store.publish(token, sent);
        self.plan.succeeded(sent, lifetime, fastrand::f64());
        self.last_failure = None;
        let due = self.plan.due();
        self.metrics.published(generation, lifetime, sent.elapsed(), until(due), clock_skew);
        info!(
            client = self.name,
            generation,
            lifetime_seconds = lifetime.as_secs(),
            next_refresh_seconds = until(due).as_secs(),
            "New access token."
        );
    }

    fn note(&mut self, error: &TokenError) {
        self.plan.failed(Instant::now(), error.retry_class(), fastrand::f64());
        let (due, failures) = (self.plan.due(), self.plan.failures());
        let message: Arc<str> = advice::with(error, self.source.advice(error)).into();
        self.store.fail(Failure {
            kind: error.kind(),
            next_attempt: self.plan.urgent(),
            message: message.clone(),
        });
        self.metrics.failed(failures, until(due), &message, self.source.clock_skew());
        if self.try_log(error.outcome()) {
            warn!(
                client = self.name,
                outcome = error.outcome().label(),
                failures,
                next_attempt_seconds = until(due).as_secs_f64(),
                usable = self.store.is_usable(),
                "No new access token: {message}."
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
mod tests {
    use super::*;
    use crate::clock::machine;
    use crate::error::ErrorKind;
    use crate::metrics::Metrics;
    use crate::token::InvalidAnswer;
    use crate::token::store::Rejection;
    use http::{HeaderValue, StatusCode};
    use std::collections::VecDeque;
    use std::sync::Mutex;
    use tokio::time::sleep;

    /// Answers from a list, then with good tokens; remembers when it was asked.
    #[derive(Default)]
    struct Script {
        answers: Mutex<VecDeque<Result<u64, TokenError>>>,
        asked: Mutex<Vec<Instant>>,
        under_way: Mutex<u32>,
    }

    #[async_trait::async_trait]
    impl TokenSource for Script {
        async fn fetch(&self) -> Result<Token, TokenError> {
            self.asked.lock().unwrap().push(Instant::now());
            *self.under_way.lock().unwrap() += 1;
            assert_eq!(*self.under_way.lock().unwrap(), 1, "two requests at once");
            sleep(Duration::from_millis(100)).await;
            *self.under_way.lock().unwrap() -= 1;
            let lifetime = self.answers.lock().unwrap().pop_front().unwrap_or(Ok(1000))?;
            assert_ne!(lifetime, 13, "the scripted panic");
            Ok(Token {
                authorization: HeaderValue::from_static("Bearer x"),
                lifetime: Duration::from_secs(lifetime),
                clock_skew: None,
            })
        }
    }

    struct Running {
        script: Arc<Script>,
        store: Arc<TokenStore>,
        offers: watch::Sender<Offer>,
        metrics: ClientMetrics,
        _stop: tokio_util::sync::DropGuard,
    }

    fn script(answers: impl IntoIterator<Item = Result<u64, TokenError>>) -> Arc<Script> {
        let answers = Mutex::new(answers.into_iter().collect());
        Arc::new(Script { answers, ..Script::default() })
    }

    fn start(answers: impl IntoIterator<Item = Result<u64, TokenError>>) -> Running {
        let script = script(answers);
        let store = Arc::new(TokenStore::new());
        let metrics = Metrics::new().unwrap();
        let stop = CancellationToken::new();
        let (offers, offered) = watch::channel(Offer::default());
        let (source, metrics) = (script.clone(), metrics.client("c"));
        let told = metrics.clone();
        let refresher = Refresher::new("c".into(), source, offered, store.clone(), told, 0.5);
        tokio::spawn(refresher.run(stop.clone()));
        Running { script, store, offers, metrics, _stop: stop.drop_guard() }
    }

    impl Running {
        /// When the source was asked.
        fn asked(&self) -> Vec<Instant> {
            self.script.asked.lock().unwrap().clone()
        }
    }

    fn refusal() -> TokenError {
        TokenError::Refused { status: StatusCode::UNAUTHORIZED, reason: String::new() }
    }

    fn server_error() -> TokenError {
        TokenError::Server { status: StatusCode::SERVICE_UNAVAILABLE, retry_after: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_refreshed_around_its_half_life() {
        let running = start([]);
        sleep(Duration::from_secs(1700)).await;
        let asked = running.asked();
        assert_eq!(asked.len(), 4, "{asked:?}");
        for pair in asked.windows(2) {
            assert!((450..=550).contains(&(pair[1] - pair[0]).as_secs()), "{asked:?}");
        }
        assert_eq!(running.store.news().generation, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn the_loop_survives_every_failure_and_a_panic() {
        let running = start([
            Err(server_error()),
            Err(TokenError::Timeout),
            Err(TokenError::Connect("refused".into())),
            Err(TokenError::Invalid(InvalidAnswer::NotJson)),
            Err(TokenError::RateLimited { retry_after: Some(Duration::from_secs(40)) }),
            Ok(13),
            Err(TokenError::NotAnIssuer { status: StatusCode::NOT_FOUND }),
            Err(refusal()),
        ]);
        // Six troubles, a Retry-After and two refusals add up to minutes.
        running.store.wait(Duration::from_secs(300)).await.unwrap();
        assert_eq!(running.asked().len(), 9);
    }

    #[tokio::test(start_paused = true)]
    async fn a_valid_token_serves_on_while_refreshing_fails_and_ends_with_its_life() {
        let outage = std::iter::repeat_with(|| Err(server_error())).take(10_000);
        let running = start(std::iter::once(Ok(1000)).chain(outage));
        sleep(Duration::from_secs(960)).await;
        assert!(running.store.usable().is_some());
        let failure = running.store.news().failure.unwrap();
        assert_eq!(failure.kind, ErrorKind::TokenUnavailable);
        sleep(Duration::from_secs(11)).await;
        assert!(running.store.usable().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_client_is_not_hammered() {
        let refusals = std::iter::repeat_with(|| Err(refusal()));
        let running = start(refusals.take(1000));
        sleep(Duration::from_secs(3600)).await;
        let asked = running.asked();
        assert!((12..=17).contains(&asked.len()), "{asked:?}");
        assert!(asked[1] - asked[0] >= Duration::from_secs(27), "{asked:?}");
        let failure = running.store.news().failure.unwrap();
        assert_eq!(failure.kind, ErrorKind::CredentialRejected);
    }

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_gives_one_second_tokens_is_asked_at_most_twenty_times_a_minute() {
        let running = start(std::iter::repeat_with(|| Ok(1)).take(10_000));
        sleep(Duration::from_secs(600)).await;
        let asked = running.asked();
        assert!(asked.len() <= 220, "{}", asked.len());
        assert!(asked.windows(21).all(|window| window[20] - window[0] >= Duration::from_secs(60)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejected_token_is_replaced_at_once_by_one_request() {
        let running = start([]);
        let first = running.store.wait(Duration::from_secs(1)).await.unwrap();
        for _ in 0..50 {
            running.store.reject(first.generation, Rejection::Token { has_worked: true });
        }
        let next =
            running.store.wait_newer(first.generation, Duration::from_secs(1)).await.unwrap();
        assert_eq!(next.generation, 2);
        for _ in 0..50 {
            running.store.reject(first.generation, Rejection::Token { has_worked: true });
        }
        sleep(Duration::from_secs(29)).await;
        assert_eq!(running.asked().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_came_by_a_heal_is_replaced_at_once_too() {
        let running = start([]);
        running.store.wait(Duration::from_secs(1)).await.unwrap();
        for generation in 1..5 {
            assert!(running.store.reject(generation, Rejection::Token { has_worked: true }));
            let next = running.store.wait_newer(generation, Duration::from_secs(1)).await.unwrap();
            assert_eq!(next.generation, generation + 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rejections_in_doubt_leave_half_of_the_ceiling_to_those_who_know_better() {
        let running = start([]);
        let store = &running.store;
        let mut generation = store.wait(Duration::from_secs(1)).await.unwrap().generation;
        let doubt = Rejection::Token { has_worked: false };
        while store.reject(generation, doubt) {
            generation =
                store.wait_newer(generation, Duration::from_secs(1)).await.unwrap().generation;
        }
        assert_eq!(running.asked().len(), 10);
        assert!(
            !store.reject(generation, Rejection::Permission),
            "nor is a permission looked into"
        );
        store.replace(generation);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(running.asked().len(), 10, "nor does an upload get a longer one");
        for generation in generation..generation + 10 {
            assert!(store.reject(generation, Rejection::Token { has_worked: true }));
            store.wait_newer(generation, Duration::from_secs(1)).await.unwrap();
        }
        assert_eq!(running.asked().len(), 20);
        sleep(Duration::from_secs(60)).await;
        let generation = store.usable().unwrap().generation;
        assert!(store.reject(generation, doubt), "a minute later there is room again");
    }

    #[tokio::test(start_paused = true)]
    async fn rejections_do_not_shorten_a_back_off() {
        let running = start([Ok(1000), Err(refusal())]);
        running.store.wait(Duration::from_secs(1)).await.unwrap();
        for _ in 0..26 {
            running.store.reject(1, Rejection::Token { has_worked: true });
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(
            running.asked().len(),
            2,
            "the second was refused, the third is half a minute away"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_token_serves_on_an_outage_is_waited_for_and_a_refusal_ends_the_wait() {
        let outage = std::iter::repeat_with(|| Err(server_error())).take(10_000);
        let running = start(std::iter::once(Ok(43_200)).chain(outage));
        sleep(Duration::from_secs(8 * 3600)).await;
        let patient = running.asked().len();
        assert!((10..=60).contains(&patient), "not once in half a minute for hours: {patient}");
        running.store.reject(1, Rejection::Token { has_worked: true });
        sleep(Duration::from_secs(61)).await;
        assert!(running.asked().len() > patient, "{:?}", running.asked());
        sleep(Duration::from_secs(3600)).await;
        assert!(running.asked().len() > patient + 60, "{}", running.asked().len() - patient);
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_source_takes_over_with_its_first_token() {
        let running = start([]);
        running.store.wait(Duration::from_secs(1)).await.unwrap();
        let newer = script([]);
        running.offers.send(Offer(Some(newer.clone()))).unwrap();
        running.store.wait_newer(1, Duration::from_secs(1)).await.unwrap();
        sleep(Duration::from_secs(600)).await;
        assert_eq!(running.asked().len(), 1, "nobody asks the old one any more");
        assert_eq!(newer.asked.lock().unwrap().len(), 2, "at once, and at half its life");
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_source_that_brings_no_token_changes_nothing_and_is_tried_again() {
        let running = start([]);
        running.store.wait(Duration::from_secs(1)).await.unwrap();
        let newer = script([Err(refusal()), Err(server_error()), Err(refusal())]);
        running.offers.send(Offer(Some(newer.clone()))).unwrap();
        sleep(Duration::from_secs(20)).await;
        let news = running.store.news();
        assert!(news.untaken.is_some_and(|why| why.contains("refuses the client")));
        assert!(news.failure.is_none() && running.store.is_usable());
        running.store.wait_newer(1, Duration::from_secs(300)).await.unwrap();
        assert_eq!(newer.asked.lock().unwrap().len(), 4);
        assert!(running.store.news().untaken.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_newer_source_fails_the_old_one_is_asked_in_time() {
        let running = start([]);
        let newer = script(std::iter::repeat_with(|| Err(refusal())).take(1000));
        running.store.wait(Duration::from_secs(1)).await.unwrap();
        running.offers.send(Offer(Some(newer.clone()))).unwrap();
        for _ in 0..300 {
            sleep(Duration::from_secs(10)).await;
            assert!(running.store.is_usable());
        }
        assert!((5..=8).contains(&running.asked().len()), "{:?}", running.asked());
        let asked = newer.asked.lock().unwrap().len();
        assert!((9..=16).contains(&asked), "backed off to minutes, and not given up: {asked}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_source_need_not_wait_for_the_back_off_of_the_refused_one() {
        let running = start(std::iter::repeat_with(|| Err(refusal())).take(1000));
        sleep(Duration::from_secs(100)).await;
        running.offers.send(Offer(Some(script([])))).unwrap();
        sleep(Duration::from_secs(1)).await;
        assert!(running.store.is_usable() && running.store.news().failure.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_newer_sources_the_latest_counts() {
        let running = start([]);
        running.store.wait(Duration::from_secs(1)).await.unwrap();
        let (wrong, right) = (script([Err(refusal())]), script([]));
        running.offers.send(Offer(Some(wrong.clone()))).unwrap();
        sleep(Duration::from_secs(1)).await;
        running.offers.send(Offer(Some(right))).unwrap();
        running.store.wait_newer(1, Duration::from_secs(1)).await.unwrap();
        sleep(Duration::from_secs(600)).await;
        assert_eq!(wrong.asked.lock().unwrap().len(), 1);
        assert!(running.store.news().untaken.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_sleep_the_next_token_is_there_within_a_heartbeat() {
        let running = start([]);
        running.store.wait(Duration::from_secs(1)).await.unwrap();
        machine::sleep(Duration::from_secs(9 * 3600));
        assert!(!running.store.is_usable());
        sleep(HEARTBEAT + Duration::from_secs(1)).await;
        assert!(running.store.is_usable());
        assert_eq!(running.asked().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_request_after_a_sleep_does_not_wait_for_the_heartbeat() {
        let running = start([]);
        running.store.wait(Duration::from_secs(1)).await.unwrap();
        machine::sleep(Duration::from_secs(9 * 3600));
        let token = running.store.wait(Duration::from_millis(500)).await.unwrap();
        assert_eq!(token.generation, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_set_forward_brings_one_new_token_and_set_back_none() {
        let running = start([]);
        running.store.wait(Duration::from_secs(1)).await.unwrap();
        for (set, asked) in [(-7200.0, 1), (30.0, 1), (9.0 * 3600.0, 2)] {
            machine::set_wall_clock(set);
            assert!(running.store.is_usable(), "{set}");
            sleep(HEARTBEAT * 4).await;
            assert_eq!(running.asked().len(), asked, "{set}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_in_the_wall_clocks_time_follows_it() {
        let running = start([Ok(43_200)]);
        running.store.wait(Duration::from_secs(1)).await.unwrap();
        let ends_in = || clock::ahead(running.metrics.facts().expires.unwrap(), clock::wall());
        // Set forward, it would bring a new token; of a minute, it does not.
        for set in [-7200.0, 50.0] {
            machine::set_wall_clock(set);
            sleep(HEARTBEAT * 2).await;
            assert!((43_200.0 - ends_in()).abs() < 30.0, "{set}: {}", ends_in());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_heart_beats_between_refreshes() {
        let running = start([]);
        for _ in 0..50 {
            sleep(Duration::from_secs(7)).await;
            assert!(running.store.since_heartbeat() <= HEARTBEAT + Duration::from_secs(1));
        }
    }
}
