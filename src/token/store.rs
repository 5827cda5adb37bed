//! What the proxy sees of tokens: the current one, and a bounded wait for the next.
//!
//! Reading takes no lock and allocates nothing: one atomic load, one look at the clock, one
//! reference count. Only the [`refresher`](super::refresher) writes.

use super::Token;
use super::schedule::usable_for;
use super::valid::Valid;
use crate::clock::Instant;
use crate::error::ErrorKind;
use crate::redact::Secrets;
use arc_swap::{ArcSwap, ArcSwapOption};
use http::HeaderValue;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// A request whose body cannot be sent twice wants a token that lives at least this long, or half
/// its life if that is shorter.
const UPLOAD_LIFE: Duration = Duration::from_secs(300);
/// Suggested to callers when nothing better is known.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(5);

/// One client's current token and the news about the next.
#[derive(Debug)]
pub struct TokenStore {
    current: ArcSwapOption<Current>,
    /// The current token, and those before it that are still valid.
    valid: ArcSwap<Valid>,
    news: watch::Sender<News>,
    /// The latest generation that the upstream refused.
    rejected: AtomicU64,
    /// The latest generation that shall be replaced before its time, for whatever reason.
    unwanted: AtomicU64,
    /// Wakes the refresher when `unwanted` has changed.
    wake: Notify,
    created: tokio::time::Instant,
    /// The refresher's last sign of life, in milliseconds since `created`. By tokio's clock: while the machine
    /// sleeps, no heart beats.
    heartbeat: AtomicU64,
    /// From when on a token is fetched for those who cannot tell that a newer one helps, in milliseconds
    /// since the clock's zero.
    spare_from: AtomicU64,
}

#[derive(Debug)]
struct Current {
    authorization: HeaderValue,
    generation: u64,
    lifetime: Duration,
    usable_until: Instant,
    /// Whether it came because its predecessor was refused.
    heals: bool,
}

/// A token as a request takes it along.
#[derive(Clone, Debug)]
pub struct Usable {
    /// The `Authorization` value.
    pub authorization: HeaderValue,
    /// Which token it is, for [`TokenStore::reject`].
    pub generation: u64,
    /// Until when it may be sent.
    pub until: Instant,
}

impl Usable {
    /// Whether its time is over.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }
}

/// What a refusal by the upstream says about the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// It is not accepted at all.
    Token {
        /// Whether it, or one since the last rejection, has worked where it is refused now.
        has_worked: bool,
    },
    /// It is accepted, but does not allow this. A fresh one may, if its scopes have changed since; a
    /// fresh one that does not either settles the matter for its whole life.
    Permission,
}

/// What the refresher last had to say.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// Counts published tokens.
    pub generation: u64,
    /// Why the last request brought no token; nothing after a success.
    pub failure: Option<Failure>,
    /// Why the credential's place can't be read; nothing if it can.
    pub unreadable: Option<Arc<str>>,
    /// Why a newer credential is not in use; nothing if there is none.
    pub untaken: Option<Arc<str>>,
}

/// A failed token request.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What a request without a token is told.
    pub kind: ErrorKind,
    /// When the next request is due if the token in hand is no help.
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
            valid: ArcSwap::default(),
            news: watch::Sender::default(),
            rejected: AtomicU64::new(0),
            unwanted: AtomicU64::new(0),
            wake: Notify::new(),
            created: tokio::time::Instant::now(),
            heartbeat: AtomicU64::new(0),
            spare_from: AtomicU64::new(0),
        }
    }

    /// The token to send, unless there is none that is valid for a while.
    #[inline]
    pub fn usable(&self) -> Option<Usable> {
        let current = self.current.load();
        let current = current.as_ref()?;
        (Instant::now() < current.usable_until).then(|| Usable {
            authorization: current.authorization.clone(),
            generation: current.generation,
            until: current.usable_until,
        })
    }

    /// The tokens that nobody else may see: the current one, and those before it that are still valid.
    pub(crate) fn secrets(&self) -> Option<Secrets> {
        self.valid.load().secrets().cloned()
    }

    /// From now on, the tokens of another store that are still valid are for nobody else to see either.
    pub(crate) fn remember(&self, other: &Self) {
        let (others, now) = (other.valid.load(), Instant::now());
        self.valid.rcu(|valid| valid.and(&others, now));
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
    pub async fn wait(&self, limit: Duration) -> Result<Usable, Unavailable> {
        self.wait_newer(0, limit).await
    }

    /// Like [`TokenStore::wait`], for a token that is newer than this generation.
    ///
    /// # Errors
    /// No such token within the limit.
    pub async fn wait_newer(&self, than: u64, limit: Duration) -> Result<Usable, Unavailable> {
        let deadline = Instant::now() + limit;
        let mut news = self.news.subscribe();
        loop {
            let failure = news.borrow_and_update().failure.clone();
            if let Some(usable) = self.usable().filter(|usable| usable.generation > than) {
                return Ok(usable);
            }
            self.replace_ended();
            let hopeless = matches!(&failure, Some(failure) if failure.next_attempt > deadline);
            let left = deadline - Instant::now();
            if hopeless || !matches!(timeout(left, news.changed()).await, Ok(Ok(()))) {
                return Err(unavailable(news.borrow().failure.as_ref()));
            }
        }
    }

    /// A token may end while the machine sleeps, and the refresher's timer sleeps on for a while then.
    fn replace_ended(&self) {
        let current = self.current.load();
        if let Some(current) = current.as_ref()
            && Instant::now() >= current.usable_until
        {
            self.want_newer(current.generation);
        }
    }

    /// Whether there is a newer token than that of this generation.
    pub fn has_newer(&self, than: u64) -> bool {
        self.current.load().as_ref().is_some_and(|current| current.generation > than)
    }

    /// The upstream refused the token of this generation. Tells whether a newer one is there or
    /// will be fetched; `false` means that another would not help, or is not to be had so soon.
    ///
    /// A late refusal of an old generation never harms a newer one.
    pub fn reject(&self, generation: u64, rejection: Rejection) -> bool {
        let current = self.current.load();
        let Some(current) = current.as_ref() else {
            return true;
        };
        if generation < current.generation {
            return true;
        }
        let is_in_vain = match rejection {
            Rejection::Token { has_worked } => !has_worked && !self.may_spare(),
            // While the issuer is in trouble, a denied permission must not make callers wait.
            Rejection::Permission => {
                current.heals || self.news.borrow().failure.is_some() || !self.may_spare()
            }
        };
        if is_in_vain {
            return false;
        }
        self.rejected.fetch_max(generation, Ordering::AcqRel);
        self.want_newer(generation);
        true
    }

    /// Whether the current token lives too short for an upload that could not be sent again.
    pub fn is_short_lived(&self) -> bool {
        let current = self.current.load();
        matches!(&*current, Some(current) if {
            let needed = UPLOAD_LIFE.min(current.lifetime / 2);
            current.usable_until.saturating_duration_since(Instant::now()) < needed
        })
    }

    /// Asks for a token that is newer than this generation, if one can be spared. It stays in use until
    /// then.
    pub fn replace(&self, generation: u64) {
        if self.may_spare() {
            self.want_newer(generation);
        }
    }

    fn want_newer(&self, generation: u64) {
        self.unwanted.fetch_max(generation, Ordering::AcqRel);
        self.wake.notify_one();
    }

    /// Whether a token is fetched for a caller that does not know whether a newer one helps.
    fn may_spare(&self) -> bool {
        since_zero(Instant::now()) >= self.spare_from.load(Ordering::Relaxed)
    }

    /// From this moment on, it is.
    pub(crate) fn spare_from(&self, moment: Instant) {
        self.spare_from.store(since_zero(moment), Ordering::Relaxed);
    }

    /// Resolves when the current token shall be replaced before its time.
    pub(crate) async fn unwanted(&self) {
        loop {
            let woken = self.wake.notified();
            let generation = self.news.borrow().generation;
            if generation > 0 && self.unwanted.load(Ordering::Acquire) >= generation {
                return;
            }
            woken.await;
        }
    }

    /// Makes a token the current one and wakes all who wait. Returns its generation.
    ///
    /// Called by the refresher alone, so that generations follow one another.
    pub(crate) fn publish(&self, token: Token, received: Instant) -> u64 {
        let previous = self.news.borrow().generation;
        let generation = previous + 1;
        self.valid.rcu(|valid| valid.with(&token, received));
        self.current.store(Some(Arc::new(Current {
            authorization: token.authorization,
            generation,
            lifetime: token.lifetime,
            usable_until: received + usable_for(token.lifetime),
            heals: previous > 0 && self.rejected.load(Ordering::Acquire) == previous,
        })));
        self.news.send_modify(|news| {
            news.generation = generation;
            news.failure = None;
        });
        generation
    }

    /// Tells that a token request failed. The current token stays while it is valid.
    pub(crate) fn fail(&self, failure: Failure) {
        self.news.send_modify(|news| news.failure = Some(failure));
    }

    /// Tells why the credential's place can't be read, or that it can.
    pub(crate) fn tell_of_reading(&self, complaint: Option<Arc<str>>) {
        self.news.send_modify(|news| news.unreadable = complaint);
    }

    /// Tells why a newer credential is not in use, or that there is none any more.
    pub(crate) fn tell_of_candidate(&self, complaint: Option<Arc<str>>) {
        self.news.send_modify(|news| news.untaken = complaint);
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

/// In milliseconds.
fn since_zero(moment: Instant) -> u64 {
    u64::try_from((moment - Instant::default()).as_millis()).unwrap_or(u64::MAX)
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
        store.beat();
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

    /// Whether the refresher has been asked for a newer token.
    async fn asked(store: &TokenStore) -> bool {
        timeout(Duration::from_millis(1), store.unwanted()).await.is_ok()
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
        store.spare_from(Instant::now() + Duration::from_secs(10));
        let doubt = Rejection::Token { has_worked: false };
        store.replace(1);
        assert!(!store.reject(1, doubt) && !store.reject(1, Rejection::Permission));
        assert!(!asked(&store).await);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(store.reject(1, doubt) && asked(&store).await);
        store.spare_from(Instant::now() + Duration::from_secs(10));
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
        store.fail(failure(ErrorKind::TokenUnavailable, 1));
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
}
