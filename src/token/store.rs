//! What the proxy sees of tokens: the current one, and a bounded wait for the next.
//!
//! Reading takes no lock and allocates nothing: one atomic load, one look at the clock, one
//! reference count. Only the [`refresher`](super::refresher) writes.

use super::Token;
use super::schedule::usable_for;
use crate::error::ErrorKind;
use arc_swap::ArcSwapOption;
use http::HeaderValue;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Suggested to callers when nothing better is known.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(5);

/// One client's current token and the news about the next.
#[derive(Debug)]
pub struct TokenStore {
    current: ArcSwapOption<Current>,
    news: watch::Sender<News>,
    created: Instant,
    /// The refresher's last sign of life, in milliseconds since `created`.
    heartbeat: AtomicU64,
}

#[derive(Debug)]
struct Current {
    authorization: HeaderValue,
    usable_until: Instant,
}

/// What the refresher last had to say.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// Counts published tokens.
    pub generation: u64,
    /// Why the last request brought no token; nothing after a success.
    pub failure: Option<Failure>,
}

/// A failed token request.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What a request without a token is told.
    pub kind: ErrorKind,
    /// When the next request is due.
    pub next_attempt: Instant,
    /// What went wrong and what to do.
    pub message: Arc<str>,
}

/// There is no token to send.
#[derive(Debug)]
pub struct Unavailable {
    /// [`ErrorKind::TokenUnavailable`] or [`ErrorKind::CredentialRejected`].
    pub kind: ErrorKind,
    /// When it may be worth to ask again.
    pub retry_after: Duration,
}

impl TokenStore {
    /// An empty store.
    pub fn new() -> Self {
        Self {
            current: ArcSwapOption::empty(),
            news: watch::Sender::default(),
            created: Instant::now(),
            heartbeat: AtomicU64::new(0),
        }
    }

    /// The `Authorization` value to send, unless there is none that is valid for a while.
    #[inline]
    pub fn usable(&self) -> Option<HeaderValue> {
        let current = self.current.load();
        let current = current.as_ref()?;
        (Instant::now() < current.usable_until).then(|| current.authorization.clone())
    }

    /// Whether a request would be served right now.
    pub fn is_usable(&self) -> bool {
        let current = self.current.load();
        matches!(&*current, Some(current) if Instant::now() < current.usable_until)
    }

    /// Waits for a usable token, at most for `limit`, and not at all when the refresher's next
    /// attempt comes too late anyway.
    ///
    /// # Errors
    /// No token within the limit.
    pub async fn wait(&self, limit: Duration) -> Result<HeaderValue, Unavailable> {
        let deadline = Instant::now() + limit;
        let mut news = self.news.subscribe();
        loop {
            let failure = news.borrow_and_update().failure.clone();
            if let Some(authorization) = self.usable() {
                return Ok(authorization);
            }
            let hopeless = matches!(&failure, Some(failure) if failure.next_attempt > deadline);
            if hopeless || !matches!(timeout_at(deadline, news.changed()).await, Ok(Ok(()))) {
                return Err(unavailable(news.borrow().failure.as_ref()));
            }
        }
    }

    /// Makes a token the current one and wakes all who wait. Returns its generation.
    pub(crate) fn publish(&self, token: Token, received: Instant) -> u64 {
        self.current.store(Some(Arc::new(Current {
            usable_until: received + usable_for(token.lifetime),
            authorization: token.authorization,
        })));
        let mut generation = 0;
        self.news.send_modify(|news| {
            news.generation += 1;
            news.failure = None;
            generation = news.generation;
        });
        generation
    }

    /// Tells that a token request failed. The current token stays while it is valid.
    pub(crate) fn fail(&self, failure: Failure) {
        self.news.send_modify(|news| news.failure = Some(failure));
    }

    /// What the refresher last had to say.
    pub fn news(&self) -> News {
        self.news.borrow().clone()
    }

    /// The refresher is alive.
    pub(crate) fn beat(&self) {
        let elapsed = self.created.elapsed().as_millis();
        self.heartbeat.store(u64::try_from(elapsed).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long ago the refresher last showed a sign of life.
    pub fn since_heartbeat(&self) -> Duration {
        let beat = Duration::from_millis(self.heartbeat.load(Ordering::Relaxed));
        self.created.elapsed().saturating_sub(beat)
    }
}

impl Default for TokenStore {
    fn default() -> Self {
        Self::new()
    }
}

fn unavailable(failure: Option<&Failure>) -> Unavailable {
    match failure {
        Some(failure) => Unavailable {
            kind: failure.kind,
            retry_after: failure
                .next_attempt
                .saturating_duration_since(Instant::now())
                .max(Duration::from_secs(1)),
        },
        None => Unavailable { kind: ErrorKind::TokenUnavailable, retry_after: DEFAULT_RETRY_AFTER },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(store.usable().unwrap(), "Bearer 1");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(store.usable().is_none() && !store.is_usable());
        assert_eq!(store.publish(token("Bearer 2", 60), Instant::now()), 2);
        assert_eq!(store.usable().unwrap(), "Bearer 2");
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
            assert_eq!(task.await.unwrap().unwrap(), "Bearer 1");
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
        store.fail(failure(ErrorKind::CredentialRejected, 30));
        let started = Instant::now();
        let error = store.wait(Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(started.elapsed(), Duration::ZERO);
        assert_eq!(error.kind, ErrorKind::CredentialRejected);
        assert_eq!(error.retry_after, Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_goes_on_through_failures_that_are_retried_in_time() {
        let store = Arc::new(TokenStore::new());
        store.fail(failure(ErrorKind::TokenUnavailable, 1));
        let waiting = tokio::spawn({
            let store = store.clone();
            async move { store.wait(Duration::from_secs(5)).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        store.fail(failure(ErrorKind::TokenUnavailable, 2));
        tokio::time::sleep(Duration::from_secs(2)).await;
        store.publish(token("Bearer 1", 60), Instant::now());
        assert!(waiting.await.unwrap().is_ok());
    }
}
