use super::*;
use crate::clock::machine;
use crate::error::ErrorKind;
use crate::metrics::Metrics;
use crate::no_answer::NoAnswer;
use crate::token::InvalidAnswer;
use crate::token::store::{Rejection, TokenStore};
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
    new_sources: watch::Sender<NewSource>,
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
    let (new_sources, receiver) = watch::channel(NewSource::default());
    let client = ClientHandle {
        name: "c".into(),
        store: store.clone(),
        wait: Duration::ZERO,
        metrics: metrics.client("c"),
    };
    let refresher = Refresher::new(client, script.clone(), receiver, 0.5);
    tokio::spawn(refresher.run(stop.clone()));
    Running { script, store, new_sources, _stop: stop.drop_guard() }
}

impl Running {
    /// Returns when the source was asked.
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
    assert_eq!(running.store.state().gauges.generation, 4);
}

#[tokio::test(start_paused = true)]
async fn the_loop_survives_every_failure_and_a_panic() {
    let running = start([
        Err(server_error()),
        Err(TokenError::Timeout(NoAnswer::ReadTimeout)),
        Err(TokenError::Connect(NoAnswer::Refused)),
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
    let failure = running.store.state().failure.unwrap();
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
    let failure = running.store.state().failure.unwrap();
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
    let next = running.store.wait_newer(first.generation, Duration::from_secs(1)).await.unwrap();
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
        generation = store.wait_newer(generation, Duration::from_secs(1)).await.unwrap().generation;
    }
    assert_eq!(running.asked().len(), 10);
    assert!(
        !store.reject(generation, Rejection::Permission),
        "a permission is not looked into either"
    );
    store.try_request_newer(generation);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(running.asked().len(), 10, "an upload does not get a longer one either");
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
    assert_eq!(running.asked().len(), 2, "the second was refused, the third is half a minute away");
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
    running.new_sources.send(NewSource(Some(newer.clone()))).unwrap();
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
    running.new_sources.send(NewSource(Some(newer.clone()))).unwrap();
    sleep(Duration::from_secs(20)).await;
    let state = running.store.state();
    assert!(state.pending_source_error.is_some_and(|why| why.contains("refuses the client")));
    assert!(state.failure.is_none() && running.store.is_usable());
    running.store.wait_newer(1, Duration::from_secs(300)).await.unwrap();
    assert_eq!(newer.asked.lock().unwrap().len(), 4);
    assert!(running.store.state().pending_source_error.is_none());
}

#[tokio::test(start_paused = true)]
async fn while_a_newer_source_fails_the_old_one_is_asked_in_time() {
    let running = start([]);
    let newer = script(std::iter::repeat_with(|| Err(refusal())).take(1000));
    running.store.wait(Duration::from_secs(1)).await.unwrap();
    running.new_sources.send(NewSource(Some(newer.clone()))).unwrap();
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
    running.new_sources.send(NewSource(Some(script([])))).unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(running.store.is_usable() && running.store.state().failure.is_none());
}

#[tokio::test(start_paused = true)]
async fn of_two_newer_sources_the_latest_counts() {
    let running = start([]);
    running.store.wait(Duration::from_secs(1)).await.unwrap();
    let (wrong, right) = (script([Err(refusal())]), script([]));
    running.new_sources.send(NewSource(Some(wrong.clone()))).unwrap();
    sleep(Duration::from_secs(1)).await;
    running.new_sources.send(NewSource(Some(right))).unwrap();
    running.store.wait_newer(1, Duration::from_secs(1)).await.unwrap();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(wrong.asked.lock().unwrap().len(), 1);
    assert!(running.store.state().pending_source_error.is_none());
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
async fn what_is_shown_in_the_wall_clocks_time_follows_it() {
    let running = start([Ok(43_200)]);
    running.store.wait(Duration::from_secs(1)).await.unwrap();
    let ends_in = || clock::ahead(running.store.state().gauges.expires.unwrap(), clock::wall());
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
