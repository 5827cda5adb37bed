//! The current token of one client, a bounded wait for the next one, and the client's state.
//!
//! Reading the token takes no lock and allocates nothing: one atomic load, one look at the clock,
//! one reference count. Only the [`refresher`](super::refresher) publishes tokens.

use super::access_token::Token;
use super::client_state::{ClientState, Failure};
use super::issued::IssuedTokens;
use super::schedule::usable_for;
use crate::clock::Instant;
use crate::error::ErrorKind;
use crate::redact::Secrets;
use arc_swap::{ArcSwap, ArcSwapOption};
use http::HeaderValue;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// Life that a token needs for a request whose body cannot be sent twice; half of the token's whole
/// life if that is shorter.
const UPLOAD_LIFE: Duration = Duration::from_secs(300);
/// `Retry-After` of an answer when nothing better is known.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(5);

/// How many times the valid tokens of any store have changed.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// Returns how many times the valid tokens of any store have changed. What is made of the tokens of
/// several stores is good as long as this number stays. Read the number first, then the tokens.
pub(crate) fn token_changes() -> u64 {
    CHANGES.load(Ordering::Acquire)
}

/// One client's current token, and the client's state.
#[derive(Debug)]
pub struct TokenStore {
    current: ArcSwapOption<Current>,
    /// The current token, and earlier ones that are still valid.
    issued: ArcSwap<IssuedTokens>,
    state: watch::Sender<ClientState>,
    /// The latest generation that the upstream refused.
    rejected: AtomicU64,
    /// The latest generation that must be replaced before its time, for any reason.
    unwanted: AtomicU64,
    /// Wakes the refresher when `unwanted` has changed.
    wake: Notify,
    created: tokio::time::Instant,
    /// Time of the refresher's last sign of life, in milliseconds since `created`. It is tokio's
    /// time: while the machine sleeps, no refresher runs.
    heartbeat: AtomicU64,
    /// The earliest time of a token request that may not help, in milliseconds since the clock's
    /// zero.
    speculative_from: AtomicU64,
}

#[derive(Debug)]
struct Current {
    authorization: HeaderValue,
    generation: u64,
    lifetime: Duration,
    usable_until: Instant,
    /// Whether the token was fetched because its predecessor was refused.
    heals: bool,
}

/// A token as a request carries it.
#[derive(Clone, Debug)]
pub struct Usable {
    /// The `Authorization` value.
    pub authorization: HeaderValue,
    /// Number of the token, for [`TokenStore::reject`].
    pub generation: u64,
    /// When the token may no longer be sent.
    pub until: Instant,
}

impl Usable {
    /// Whether the token may no longer be sent.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }
}

/// What a refusal by the upstream means for the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The token is not accepted at all.
    Token {
        /// Whether the refusing route has accepted this token, or one since the last rejection.
        has_worked: bool,
    },
    /// The token is accepted, but does not allow the request. A fresh one may, if its scopes have
    /// changed since. If a fresh one does not, it is not replaced for this reason again.
    Permission,
}

/// The error if there is no token to send.
#[derive(Debug)]
pub struct Unavailable {
    /// [`ErrorKind::TokenUnavailable`] or [`ErrorKind::CredentialRejected`].
    pub kind: ErrorKind,
    /// When to try again.
    pub retry_after: Duration,
}

impl TokenStore {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self {
            current: ArcSwapOption::empty(),
            issued: ArcSwap::default(),
            state: watch::Sender::default(),
            rejected: AtomicU64::new(0),
            unwanted: AtomicU64::new(0),
            wake: Notify::new(),
            created: tokio::time::Instant::now(),
            heartbeat: AtomicU64::new(0),
            speculative_from: AtomicU64::new(0),
        }
    }

    /// Returns the token to send, if there is one that is valid for a while.
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

    /// Returns the tokens that nobody else may see: the current one, and earlier ones that are
    /// still valid.
    pub(crate) fn secrets(&self) -> Option<Secrets> {
        self.issued.load().secrets().cloned()
    }

    /// Adds the valid tokens of another store to those that nobody else may see.
    pub(crate) fn add_secrets_of(&self, other: &Self) {
        let (others, now) = (other.issued.load(), Instant::now());
        self.issued.rcu(|issued| issued.merge(&others, now));
        CHANGES.fetch_add(1, Ordering::Release);
    }

    /// Whether there is a token to send right now.
    pub fn is_usable(&self) -> bool {
        let current = self.current.load();
        matches!(&*current, Some(current) if Instant::now() < current.usable_until)
    }

    /// Waits at most `limit` for a usable token. Returns at once if the refresher's next attempt
    /// comes later than that.
    ///
    /// # Errors
    /// No token within the limit.
    pub async fn wait(&self, limit: Duration) -> Result<Usable, Unavailable> {
        self.wait_newer(0, limit).await
    }

    /// Like [`TokenStore::wait`], for a token that is newer than this generation.
    ///
    /// # Errors
    /// No newer token within the limit.
    pub async fn wait_newer(&self, than: u64, limit: Duration) -> Result<Usable, Unavailable> {
        let deadline = Instant::now() + limit;
        let mut state = self.state.subscribe();
        loop {
            let failure = state.borrow_and_update().failure.clone();
            if let Some(usable) = self.usable().filter(|usable| usable.generation > than) {
                return Ok(usable);
            }
            self.replace_ended();
            let hopeless = matches!(&failure, Some(failure) if failure.next_attempt > deadline);
            let left = deadline - Instant::now();
            if hopeless || !matches!(timeout(left, state.changed()).await, Ok(Ok(()))) {
                return Err(unavailable(state.borrow().failure.as_ref()));
            }
        }
    }

    /// Requests a newer token if the current one has ended. That may happen while the machine
    /// sleeps, and the refresher's timer does not fire at once then.
    fn replace_ended(&self) {
        let current = self.current.load();
        if let Some(current) = current.as_ref()
            && Instant::now() >= current.usable_until
        {
            self.request_newer(current.generation);
        }
    }

    /// Whether there is a token that is newer than this generation.
    pub fn has_newer(&self, than: u64) -> bool {
        self.current.load().as_ref().is_some_and(|current| current.generation > than)
    }

    /// Records that the upstream refused the token of this generation, and requests a newer one if
    /// that may help. Returns whether there is a newer one or will be; `false` means that another
    /// would not help, or cannot be fetched soon.
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
            Rejection::Token { has_worked } => !has_worked && !self.may_speculate(),
            // While the issuer is in trouble, a denied permission must not make callers wait.
            Rejection::Permission => {
                current.heals || self.state.borrow().failure.is_some() || !self.may_speculate()
            }
        };
        if is_in_vain {
            return false;
        }
        self.rejected.fetch_max(generation, Ordering::AcqRel);
        self.request_newer(generation);
        true
    }

    /// Whether the current token expires too soon for an upload that could not be sent again.
    pub fn is_short_lived(&self) -> bool {
        let current = self.current.load();
        matches!(&*current, Some(current) if {
            let needed = UPLOAD_LIFE.min(current.lifetime / 2);
            current.usable_until.saturating_duration_since(Instant::now()) < needed
        })
    }

    /// Requests a token that is newer than this generation, unless token requests are scarce. The
    /// current one stays in use until then.
    pub fn try_request_newer(&self, generation: u64) {
        if self.may_speculate() {
            self.request_newer(generation);
        }
    }

    fn request_newer(&self, generation: u64) {
        self.unwanted.fetch_max(generation, Ordering::AcqRel);
        self.wake.notify_one();
    }

    /// Whether a token may be fetched now even if a newer one may not help.
    fn may_speculate(&self) -> bool {
        since_zero(Instant::now()) >= self.speculative_from.load(Ordering::Relaxed)
    }

    /// Sets the earliest time of a token request that may not help.
    pub(super) fn set_speculative_from(&self, moment: Instant) {
        self.speculative_from.store(since_zero(moment), Ordering::Relaxed);
    }

    /// Resolves when the current token is to be replaced before its time.
    pub(super) async fn newer_requested(&self) {
        loop {
            let woken = self.wake.notified();
            let generation = self.state.borrow().gauges.generation;
            if generation > 0 && self.unwanted.load(Ordering::Acquire) >= generation {
                return;
            }
            woken.await;
        }
    }

    /// Makes a token the current one, and wakes all callers that wait for one. Returns its
    /// generation.
    ///
    /// Only the refresher calls it, so that generations follow one another.
    pub(crate) fn publish(&self, token: Token, received: Instant) -> u64 {
        let previous = self.state.borrow().gauges.generation;
        let generation = previous + 1;
        let (lifetime, clock_skew) = (token.lifetime, token.clock_skew);
        self.issued.rcu(|issued| issued.with(&token, received));
        // Before the token is current: no request has a token that its answer is not searched for.
        CHANGES.fetch_add(1, Ordering::Release);
        self.current.store(Some(Arc::new(Current {
            authorization: token.authorization,
            generation,
            lifetime,
            usable_until: received + usable_for(lifetime),
            heals: previous > 0 && self.rejected.load(Ordering::Acquire) == previous,
        })));
        let age = received.elapsed();
        self.state.send_modify(|state| state.record_token(age, lifetime, clock_skew));
        generation
    }

    /// Records a failed token request. The current token stays while it is valid.
    pub(crate) fn record_failure(&self, failure: Failure) {
        self.state.send_modify(|state| state.record_failure(failure));
    }

    /// Sets when the next token request is due.
    pub(super) fn set_next_refresh(&self, time: SystemTime) {
        self.change_quietly(|state| state.gauges.next_refresh = Some(time));
    }

    /// Sets how far the issuer's clock is ahead of the local one, in seconds.
    pub(super) fn set_clock_skew(&self, seconds: f64) {
        self.change_quietly(|state| state.gauges.clock_skew = Some(seconds));
    }

    /// Sets when the OAuth client or its certificate expires.
    pub(super) fn set_client_expiry(&self, expiry: Option<SystemTime>) {
        self.change_quietly(|state| state.gauges.client_expires = expiry);
    }

    /// Moves the state's times by as much as the wall clock was set, in seconds.
    pub(super) fn shift_times(&self, seconds: f64) {
        self.change_quietly(|state| state.shift_times(seconds));
    }

    /// Sets why the credential cannot be read; `None` if it can.
    pub(super) fn set_credential_read_error(&self, error: Option<Arc<str>>) {
        self.change_quietly(|state| state.credential_read_error = error);
    }

    /// Sets why a newer credential is not in use; `None` if there is none.
    pub(super) fn set_pending_source_error(&self, error: Option<Arc<str>>) {
        self.change_quietly(|state| state.pending_source_error = error);
    }

    /// Changes the state without waking callers that wait for a token.
    fn change_quietly(&self, change: impl FnOnce(&mut ClientState)) {
        self.state.send_if_modified(|state| {
            change(state);
            false
        });
    }

    /// Returns the client's state.
    pub fn state(&self) -> ClientState {
        self.state.borrow().clone()
    }

    /// Records that the refresher is alive.
    pub(crate) fn record_heartbeat(&self) {
        let elapsed = self.created.elapsed().as_millis();
        self.heartbeat.store(u64::try_from(elapsed).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns the time since the refresher last showed a sign of life.
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

/// Returns a moment as milliseconds since the clock's zero.
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
mod tests;
