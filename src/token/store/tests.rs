use super::*;
use crate::clock::machine;

const REFUSED: Rejection = Rejection::Token { has_worked: true };

fn token(text: &'static str, lifetime: u64) -> Token {
    Token {
        authorization: HeaderValue::from_static(text),
        lifetime: Duration::from_secs(lifetime),
        clock_skew: None,
    }
}

fn failure(kind: ErrorKind, in_seconds: u64) -> Failure {
    Failure {
        kind,
        next_attempt: Instant::now() + Duration::from_secs(in_seconds),
        message: "".into(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_usable_until_shortly_before_its_end() {
    let store = TokenStore::new();
    assert!(store.usable().is_none());
    assert_eq!(store.publish(token("Bearer 1", 60), Instant::now()), 1);
    tokio::time::advance(Duration::from_secs(53)).await;
    assert_eq!(store.usable().unwrap().authorization, "Bearer 1");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(store.usable().is_none() && !store.is_usable());
    assert_eq!(store.publish(token("Bearer 2", 60), Instant::now()), 2);
    assert_eq!(store.usable().unwrap().authorization, "Bearer 2");
}

#[tokio::test(start_paused = true)]
async fn a_token_ends_while_the_machine_sleeps_and_a_request_asks_for_the_next_one() {
    let store = TokenStore::new();
    store.publish(token("Bearer 1", 43_200), Instant::now());
    machine::sleep(Duration::from_secs(9 * 3600));
    let usable = store.usable().unwrap();
    assert!(!usable.is_over() && !store.is_short_lived(), "three hours are left");
    store.record_heartbeat();
    machine::sleep(Duration::from_secs(3 * 3600));
    assert!(usable.is_over() && store.usable().is_none() && !store.is_usable());
    assert!(store.since_heartbeat().is_zero(), "nothing is stuck that only slept");
    assert!(!asked(&store).await);
    store.wait(Duration::ZERO).await.unwrap_err();
    assert!(asked(&store).await);
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_does_not_touch_the_token() {
    let store = TokenStore::new();
    store.publish(token("Bearer 1", 600), Instant::now());
    for set in [86_400.0, -2.0 * 86_400.0] {
        machine::set_wall_clock(set);
        assert!(store.is_usable() && !store.is_short_lived());
    }
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_get_the_token_when_it_comes() {
    let store = Arc::new(TokenStore::new());
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.wait(Duration::from_secs(5)).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(4)).await;
    store.publish(token("Bearer 1", 60), Instant::now());
    for task in waiting {
        assert_eq!(task.await.unwrap().unwrap().authorization, "Bearer 1");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_at_its_limit() {
    let store = TokenStore::new();
    let started = Instant::now();
    let error = store.wait(Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(started.elapsed(), Duration::from_secs(5));
    assert_eq!(error.kind, ErrorKind::TokenUnavailable);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_cannot_be_fulfilled_ends_at_once_and_says_when_to_come_back() {
    let store = TokenStore::new();
    store.record_failure(failure(ErrorKind::CredentialRejected, 30));
    let started = Instant::now();
    let error = store.wait(Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(error.kind, ErrorKind::CredentialRejected);
    assert_eq!(error.retry_after, Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_wait_goes_on_through_failures_that_are_retried_in_time() {
    let store = Arc::new(TokenStore::new());
    store.record_failure(failure(ErrorKind::TokenUnavailable, 1));
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.wait(Duration::from_secs(5)).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    store.record_failure(failure(ErrorKind::TokenUnavailable, 2));
    tokio::time::sleep(Duration::from_secs(2)).await;
    store.publish(token("Bearer 1", 60), Instant::now());
    assert!(waiting.await.unwrap().is_ok());
}

/// Whether the refresher has been asked for a newer token.
async fn asked(store: &TokenStore) -> bool {
    timeout(Duration::from_millis(1), store.newer_requested()).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_asked_to_be_replaced_and_serves_until_it_is() {
    let store = TokenStore::new();
    store.publish(token("Bearer 1", 600), Instant::now());
    assert!(!asked(&store).await);
    for _ in 0..100 {
        assert!(store.reject(1, REFUSED));
    }
    assert!(asked(&store).await);
    assert_eq!(store.usable().unwrap().generation, 1);
    store.publish(token("Bearer 2", 600), Instant::now());
    assert!(!asked(&store).await, "a hundred refusals, one new token");
    assert_eq!(store.wait_newer(1, Duration::ZERO).await.unwrap().generation, 2);
}

#[tokio::test(start_paused = true)]
async fn a_late_refusal_of_an_old_token_does_not_touch_the_new_one() {
    let store = TokenStore::new();
    store.publish(token("Bearer 1", 600), Instant::now());
    assert!(store.reject(1, REFUSED));
    store.publish(token("Bearer 2", 600), Instant::now());
    assert!(store.reject(1, REFUSED), "a newer one is there");
    assert!(store.reject(1, Rejection::Permission));
    assert!(!asked(&store).await);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_that_is_refused_too_is_replaced_like_any_other() {
    let store = TokenStore::new();
    store.publish(token("Bearer 1", 600), Instant::now());
    for generation in 1..5 {
        assert!(store.reject(generation, REFUSED) && asked(&store).await);
        store.publish(token("Bearer 2", 600), Instant::now());
        assert!(store.has_newer(generation) && !store.has_newer(generation + 1));
    }
}

#[tokio::test(start_paused = true)]
async fn only_who_knows_that_it_has_worked_gets_another_out_of_the_reserve() {
    let store = TokenStore::new();
    store.publish(token("Bearer 1", 600), Instant::now());
    store.set_speculative_from(Instant::now() + Duration::from_secs(10));
    let doubt = Rejection::Token { has_worked: false };
    store.try_request_newer(1);
    assert!(!store.reject(1, doubt) && !store.reject(1, Rejection::Permission));
    assert!(!asked(&store).await);
    tokio::time::advance(Duration::from_secs(10)).await;
    assert!(store.reject(1, doubt) && asked(&store).await);
    store.set_speculative_from(Instant::now() + Duration::from_secs(10));
    store.publish(token("Bearer 2", 600), Instant::now());
    assert!(store.reject(2, REFUSED) && asked(&store).await);
}

#[tokio::test(start_paused = true)]
async fn a_missing_permission_is_looked_into_once_a_generation() {
    let store = TokenStore::new();
    store.publish(token("Bearer 1", 6000), Instant::now());
    assert!(store.reject(1, Rejection::Permission));
    store.publish(token("Bearer 2", 6000), Instant::now());
    tokio::time::advance(Duration::from_secs(3000)).await;
    assert!(!store.reject(2, Rejection::Permission), "it did not help, and will not");
    store.publish(token("Bearer 3", 6000), Instant::now());
    assert!(store.reject(3, Rejection::Permission), "a scheduled refresh begins anew");
}

#[tokio::test(start_paused = true)]
async fn a_missing_permission_makes_nobody_wait_for_an_issuer_in_trouble() {
    let store = TokenStore::new();
    store.publish(token("Bearer 1", 6000), Instant::now());
    store.record_failure(failure(ErrorKind::TokenUnavailable, 1));
    assert!(!store.reject(1, Rejection::Permission));
    assert!(store.reject(1, REFUSED), "that is worth waiting for");
}

#[tokio::test(start_paused = true)]
async fn an_upload_wants_five_minutes_or_half_a_life() {
    let store = TokenStore::new();
    store.publish(token("Bearer 1", 6000), Instant::now());
    assert!(!store.is_short_lived());
    tokio::time::advance(Duration::from_secs(6000 - 30 - 299)).await;
    assert!(store.is_short_lived());
    store.publish(token("Bearer 2", 60), Instant::now());
    tokio::time::advance(Duration::from_secs(24)).await;
    assert!(!store.is_short_lived());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(store.is_short_lived());
}
