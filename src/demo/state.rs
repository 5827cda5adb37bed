//! What the listeners share.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cli::Spaces;
use super::client::Client;
use super::content::Jobs;
use super::csrf::CsrfTokens;
use super::faults::{Faults, TenantFault};
use super::keys::{Keys, unix_now};
use super::rest::Runs;
use super::scim::Directory;
use super::seen::Seen;

/// The state as handlers hold it.
pub(super) type Shared = Arc<TenantState>;

/// Everything that lives as long as the tenant.
pub(super) struct TenantState {
    pub(super) client: Client,
    pub(super) keys: Keys,
    /// `https://localhost:PORT` of the issuer.
    pub(super) issuer_origin: String,
    /// `https://localhost:PORT` of the tenant's API.
    pub(super) tenant_origin: String,
    pub(super) users: Directory,
    pub(super) jobs: Jobs,
    pub(super) runs: Runs,
    pub(super) spaces: Spaces,
    pub(super) csrf: CsrfTokens,
    /// The ids of the tokens issued since the scopes changed.
    issued: Mutex<HashSet<String>>,
    faults: Mutex<Faults>,
    seen: Mutex<Seen>,
}

impl TenantState {
    pub(super) fn new(
        client: Client,
        keys: Keys,
        issuer_origin: String,
        tenant_origin: String,
    ) -> Self {
        Self {
            client,
            keys,
            issuer_origin,
            tenant_origin,
            users: Directory::default(),
            jobs: Jobs::default(),
            runs: Runs::default(),
            spaces: Spaces::default(),
            csrf: CsrfTokens::default(),
            issued: Mutex::default(),
            faults: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// The token URL: where tokens are asked for, who issues them, and whom an assertion is for.
    pub(super) fn token_url(&self) -> String {
        format!("{}/oauth/token", self.issuer_origin)
    }

    pub(super) fn faults(&self) -> Faults {
        lock(&self.faults).clone()
    }

    /// What time it is by the issuer's clock, in seconds since 1970.
    pub(super) fn issuer_now(&self) -> u64 {
        unix_now().saturating_add_signed(lock(&self.faults).issuer_clock_s)
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        let mut current = lock(&self.faults);
        self.replace(&mut current, faults);
    }

    /// Makes new faults of the current ones, with nothing happening to them in between.
    pub(super) fn change_faults<E>(
        &self,
        change: impl FnOnce(&Faults) -> Result<Faults, E>,
    ) -> Result<Faults, E> {
        let mut current = lock(&self.faults);
        let faults = change(&current)?;
        self.replace(&mut current, faults.clone());
        Ok(faults)
    }

    fn replace(&self, current: &mut Faults, faults: Faults) {
        let scopes_changed = |faults: &Faults| faults.tenant == TenantFault::ScopesChanged;
        if scopes_changed(&faults) && !scopes_changed(current) {
            lock(&self.issued).clear();
        }
        *current = faults;
    }

    /// Whether a write with a good CSRF token is to be refused nevertheless; counts down.
    pub(super) fn take_csrf_rejection(&self) -> bool {
        let mut faults = lock(&self.faults);
        let rejected = faults.csrf_reject_next > 0;
        faults.csrf_reject_next = faults.csrf_reject_next.saturating_sub(1);
        rejected
    }

    pub(super) fn note_issued(&self, token_id: String) {
        lock(&self.issued).insert(token_id);
    }

    /// Whether the token was issued after the scopes changed.
    pub(super) fn has_new_scopes(&self, token_id: &str) -> bool {
        lock(&self.issued).contains(token_id)
    }

    pub(super) fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// Notes something that happened, for instance `state.count(|seen| seen.accepted += 1)`.
    pub(super) fn count(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut lock(&self.seen));
    }
}

impl std::fmt::Debug for TenantState {
    /// Addresses only: the rest is a secret, a key, or long.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TenantState")
            .field("issuer_origin", &self.issuer_origin)
            .field("tenant_origin", &self.tenant_origin)
            .finish_non_exhaustive()
    }
}

/// Locks, also after another holder panicked: a demo's counters are worth reading even then.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
