//! State that all listeners use. The data of each API are kept elsewhere, by the API itself.

use super::faults::{DemoFaults, TenantFault};
use super::keys::SigningKeys;
use super::registered_client::RegisteredClient;
use super::seen::Seen;
use super::time::unix_now;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::fmt::{Debug, Formatter, Result as FmtResult};
use std::sync::Arc;

/// The state as handlers share it.
pub(super) type Shared = Arc<TenantState>;

/// Client, keys, faults and counters of one tenant.
pub(super) struct TenantState {
    pub(super) client: RegisteredClient,
    pub(super) keys: SigningKeys,
    /// `https://localhost:PORT` of the issuer.
    pub(super) issuer_origin: String,
    /// `https://localhost:PORT` of the tenant's API.
    pub(super) tenant_origin: String,
    /// The ids of the tokens issued since the scopes changed.
    issued: Mutex<HashSet<String>>,
    faults: Mutex<DemoFaults>,
    seen: Mutex<Seen>,
}

impl TenantState {
    pub(super) fn new(
        client: RegisteredClient,
        keys: SigningKeys,
        issuer_origin: String,
        tenant_origin: String,
    ) -> Self {
        Self {
            client,
            keys,
            issuer_origin,
            tenant_origin,
            issued: Mutex::default(),
            faults: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// The token URL. It is also the `iss` of tokens and the `aud` of assertions.
    pub(super) fn token_url(&self) -> String {
        format!("{}/oauth/token", self.issuer_origin)
    }

    pub(super) fn faults(&self) -> DemoFaults {
        self.faults.lock().clone()
    }

    /// The time by the issuer's clock, in seconds since 1970.
    pub(super) fn issuer_now(&self) -> u64 {
        unix_now().saturating_add_signed(self.faults.lock().issuer_clock_s)
    }

    pub(super) fn set_faults(&self, faults: DemoFaults) {
        let mut current = self.faults.lock();
        self.replace(&mut current, faults);
    }

    /// Replaces the faults by what `change` makes of the current ones, in one step.
    pub(super) fn change_faults<E>(
        &self,
        change: impl FnOnce(&DemoFaults) -> Result<DemoFaults, E>,
    ) -> Result<DemoFaults, E> {
        let mut current = self.faults.lock();
        let faults = change(&current)?;
        self.replace(&mut current, faults.clone());
        Ok(faults)
    }

    fn replace(&self, current: &mut DemoFaults, faults: DemoFaults) {
        let scopes_changed = |faults: &DemoFaults| faults.tenant == TenantFault::ScopesChanged;
        if scopes_changed(&faults) && !scopes_changed(current) {
            self.issued.lock().clear();
        }
        *current = faults;
    }

    /// Counts [`DemoFaults::csrf_reject_next`] down. Returns true if a write is to be refused
    /// despite its valid CSRF token.
    pub(super) fn take_csrf_rejection(&self) -> bool {
        let mut faults = self.faults.lock();
        let rejected = faults.csrf_reject_next > 0;
        faults.csrf_reject_next = faults.csrf_reject_next.saturating_sub(1);
        rejected
    }

    pub(super) fn record_issued(&self, token_id: String) {
        self.issued.lock().insert(token_id);
    }

    /// Whether the token was issued after the scopes changed.
    pub(super) fn has_new_scopes(&self, token_id: &str) -> bool {
        self.issued.lock().contains(token_id)
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }

    /// Updates the counters, for example `state.record(|seen| seen.accepted += 1)`.
    pub(super) fn record(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock());
    }
}

impl Debug for TenantState {
    /// Shows the addresses only, since the other fields are secret or long.
    fn fmt(&self, formatter: &mut Formatter<'_>) -> FmtResult {
        formatter
            .debug_struct("TenantState")
            .field("issuer_origin", &self.issuer_origin)
            .field("tenant_origin", &self.tenant_origin)
            .finish_non_exhaustive()
    }
}
