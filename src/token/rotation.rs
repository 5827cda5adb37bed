//! Reads a client's identity again when its place may have changed, and offers what is new to the
//! refresher, which tries it before it takes over.
//!
//! What can't be read or understood changes nothing: the identity in use stays, and the log, the
//! metrics and readiness say why.

use super::TokenSource;
use super::expiry::{self, Expiry};
use super::oauth::OAuthSource;
use super::refresher::Offer;
use super::store::TokenStore;
use crate::blocking;
use crate::config::Client;
use crate::credential::{Identity, READ_TIMEOUT};
use crate::metrics::ClientMetrics;
use crate::metrics::labels::CredentialReload;
use crate::watch::Watch;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::Notify;
use tokio::sync::watch::Sender;
use tracing::{info, warn};
use url::Url;

/// The changes of one client's credential.
pub struct Rotation {
    client: Client,
    /// What was offered last.
    latest: Identity,
    /// What was there before; it is in use while the latest brings no token.
    before: Identity,
    offers: Sender<Offer>,
    store: Arc<TokenStore>,
    metrics: ClientMetrics,
    /// What was wrong when it was last read; told once.
    complaint: Option<String>,
    expiry: Expiry,
    /// Asks for a reload of the configuration.
    reload: Arc<Notify>,
}

impl Rotation {
    /// Prepares the watching. `latest` is the identity that the refresher began with.
    pub fn new(
        client: Client,
        latest: Identity,
        offers: Sender<Offer>,
        store: Arc<TokenStore>,
        metrics: ClientMetrics,
        reload: Arc<Notify>,
    ) -> Self {
        let (complaint, expiry) = (None, Expiry::default());
        let before = latest.clone();
        Self { client, latest, before, offers, store, metrics, complaint, expiry, reload }
    }

    /// Looks whenever `watch` says so, for ever.
    pub async fn run(mut self, watch: Watch) {
        loop {
            let is_untaken = self.store.news().untaken.is_some();
            let in_use = if is_untaken { &self.before } else { &self.latest };
            let end = expiry::end_of(self.client.expires_on, in_use);
            self.metrics.set_client_expiry(end);
            if let Some(end) = end {
                self.expiry.look(&self.client.name, end, SystemTime::now());
            }
            watch.changed().await;
            match self.look().await {
                Ok(None) => self.complain(None),
                Ok(Some(source)) => {
                    self.complain(None);
                    // Without a refresher there is nobody left to offer it to.
                    let _ = self.offers.send(Offer(Some(source)));
                }
                Err(complaint) => self.complain(Some(complaint)),
            }
        }
    }

    /// The source of the identity that is there, if that is new.
    async fn look(&mut self) -> Result<Option<Arc<dyn TokenSource>>, String> {
        let read = self.client.source.read_in_time().await.map_err(|error| error.to_string())?;
        if read == self.latest {
            return Ok(None);
        }
        let origin = read.api_url.as_ref().map(Url::origin);
        if self.client.api_origin.as_ref().is_some_and(|known| Some(known.origin()) != origin) {
            // Its token must not go to the API of the old one: all of it changes, or nothing.
            self.reload.notify_one();
            return Err("the key names another API now; the configuration is reloaded".into());
        }
        let (client, identity) = (self.client.clone(), read.clone());
        let source = blocking::within(READ_TIMEOUT, move || OAuthSource::new(&client, identity));
        let source = source.await.map_err(|error| format!("cannot set it up now: {error}"))?;
        let source = source.map_err(|error| error.to_string())?;
        info!(client = self.client.name, "Trying a new credential: {}.", read.described);
        let offered = std::mem::replace(&mut self.latest, read);
        if self.store.news().untaken.is_none() {
            self.before = offered;
        }
        Ok(Some(Arc::new(source)))
    }

    fn complain(&mut self, complaint: Option<String>) {
        if complaint == self.complaint {
            return;
        }
        if let Some(why) = &complaint {
            self.metrics.record_credential_reload(CredentialReload::Unreadable, why);
            warn!(client = self.client.name, "Keeping the credential in use: {why}.");
        }
        self.store.tell_of_reading(complaint.as_deref().map(Into::into));
        self.complaint = complaint;
    }
}
