//! What the three listeners share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::content::Jobs;
use super::faults::Faults;
use super::keys::Keys;
use super::scim::Directory;
use super::seen::Seen;

/// The state as handlers hold it.
pub(super) type Shared = Arc<TenantState>;

/// The OAuth client that the issuer knows.
pub(super) struct Client {
    /// The client id, as registered.
    pub(super) id: String,
    /// The client secret, as registered.
    pub(super) secret: String,
}

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
            faults: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    pub(super) fn faults(&self) -> Faults {
        lock(&self.faults).clone()
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        *lock(&self.faults) = faults;
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
