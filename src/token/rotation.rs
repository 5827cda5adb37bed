//! Rotation of one client's credential: reads it again when its files may have changed, and hands a
//! new one to the refresher, which tries it before it replaces the one in use.
//!
//! A credential that cannot be read or understood changes nothing. The one in use stays, and the
//! log, the metrics and readiness report why.

use super::client_expiry::{self, ExpiryWarnings};
use super::handle::ClientHandle;
use super::oauth::OAuthSource;
use super::refresher::NewSource;
use super::source::TokenSource;
use crate::blocking;
use crate::config::Client;
use crate::credential::{Identity, READ_TIMEOUT};
use crate::metrics::labels::CredentialReload;
use crate::watch::Watch;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::Notify;
use tokio::sync::watch::Sender;
use tracing::{info, warn};
use url::Url;

/// Rotation of one client's credential.
pub struct Rotation {
    client: ClientHandle,
    config: Arc<Client>,
    /// Origin to which the client's tokens go because its key names it.
    pinned: Option<Url>,
    /// Identity that the refresher was given last.
    latest: Identity,
    /// Identity before it, which is in use while the latest one brings no token.
    previous: Identity,
    new_sources: Sender<NewSource>,
    /// Why the credential could not be read last time; reported once.
    read_error: Option<String>,
    warnings: ExpiryWarnings,
    /// Requests a reload of the configuration.
    reload: Arc<Notify>,
}

impl Rotation {
    /// Creates the rotation of a client. `identity` is the one that the refresher started with.
    pub fn new(
        client: ClientHandle,
        config: Arc<Client>,
        identity: Identity,
        new_sources: Sender<NewSource>,
        reload: Arc<Notify>,
    ) -> Self {
        Self {
            client,
            config,
            pinned: None,
            previous: identity.clone(),
            latest: identity,
            new_sources,
            read_error: None,
            warnings: ExpiryWarnings::default(),
            reload,
        }
    }

    /// Pins the client to the origin that its key names. A key that names another one is not used.
    #[must_use]
    pub fn pinned_to(self, pinned: Option<Url>) -> Self {
        Self { pinned, ..self }
    }

    /// Reads the credential whenever `watch` reports a change, and never ends.
    pub async fn run(mut self, watch: Watch) {
        loop {
            self.report_expiry();
            watch.changed().await;
            match self.read_new_source().await {
                Ok(None) => self.set_read_error(None),
                Ok(Some(source)) => {
                    self.set_read_error(None);
                    // Fails if the refresher has ended, which then needs no source.
                    let _ = self.new_sources.send(NewSource(Some(source)));
                }
                Err(error) => self.set_read_error(Some(error)),
            }
        }
    }

    fn report_expiry(&mut self) {
        let is_pending = self.client.store.state().pending_source_error.is_some();
        let in_use = if is_pending { &self.previous } else { &self.latest };
        let expiry = client_expiry::client_expiry(self.config.expires_on, in_use);
        self.client.store.set_client_expiry(expiry);
        self.client.metrics.set_client_expiry(expiry);
        if let Some(expiry) = expiry {
            self.warnings.log_if_due(&self.client.name, expiry, SystemTime::now());
        }
    }

    /// Reads the credential. Returns a source for it if it has changed.
    async fn read_new_source(&mut self) -> Result<Option<Arc<dyn TokenSource>>, String> {
        let read = self.config.source.read_in_time().await.map_err(|error| error.to_string())?;
        if read == self.latest {
            return Ok(None);
        }
        let origin = read.api_url.as_ref().map(Url::origin);
        if self.pinned.as_ref().is_some_and(|known| Some(known.origin()) != origin) {
            // Its token must not go to the API of the old key, so the API changes with it.
            self.reload.notify_one();
            return Err("the key names another API now; reloading the configuration".into());
        }
        let (config, identity) = (self.config.clone(), read.clone());
        let source = blocking::within(READ_TIMEOUT, move || OAuthSource::new(&config, identity));
        let source =
            source.await.map_err(|error| format!("the new one cannot be set up now: {error}"))?;
        let source = source.map_err(|error| error.to_string())?;
        info!(client = self.client.name, "Trying a new credential: {}.", read.description);
        let replaced = std::mem::replace(&mut self.latest, read);
        if self.client.store.state().pending_source_error.is_none() {
            self.previous = replaced;
        }
        Ok(Some(Arc::new(source)))
    }

    fn set_read_error(&mut self, error: Option<String>) {
        if error == self.read_error {
            return;
        }
        if let Some(why) = &error {
            self.client.metrics.record_credential_reload(CredentialReload::Unreadable, why);
            warn!(client = self.client.name, "Keeping the old credential: {why}.");
        }
        self.client.store.set_credential_read_error(error.as_deref().map(Into::into));
        self.read_error = error;
    }
}
