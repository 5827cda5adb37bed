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
use crate::config::Client;
use crate::credential::{Identity, ReloadOutcome};
use crate::metrics::ClientMetrics;
use crate::watch::Watch;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::watch::Sender;
use tracing::{info, warn};

/// The changes of one client's credential.
pub struct Rotation {
    client: Client,
    /// What was offered last.
    latest: Identity,
    offers: Sender<Offer>,
    store: Arc<TokenStore>,
    metrics: ClientMetrics,
    /// What was wrong when it was last read; told once.
    complaint: Option<String>,
    expiry: Expiry,
}

impl Rotation {
    /// Prepares the watching. `latest` is the identity that the refresher began with.
    pub fn new(
        client: Client,
        latest: Identity,
        offers: Sender<Offer>,
        store: Arc<TokenStore>,
        metrics: ClientMetrics,
    ) -> Self {
        Self { client, latest, offers, store, metrics, complaint: None, expiry: Expiry::default() }
    }

    /// Looks whenever `watch` says so, for ever.
    pub async fn run(mut self, watch: Watch) {
        loop {
            if let Some(end) = expiry::end_of(self.client.expires_on, &self.latest) {
                self.metrics.expires_on(end);
                self.expiry.look(&self.client.name, end, SystemTime::now());
            }
            watch.changed().await;
            let read = self.client.source.read_in_time().await;
            match read.map_err(|error| error.to_string()).and_then(|read| self.take(read)) {
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

    /// The source of an identity, if that is new.
    fn take(&mut self, read: Identity) -> Result<Option<Arc<dyn TokenSource>>, String> {
        if read == self.latest {
            return Ok(None);
        }
        let source = OAuthSource::new(&self.client, read.clone());
        let source = source.map_err(|error| error.to_string())?;
        info!(client = self.client.name, "Trying a new credential: {}.", read.described);
        self.latest = read;
        Ok(Some(Arc::new(source)))
    }

    fn complain(&mut self, complaint: Option<String>) {
        if complaint == self.complaint {
            return;
        }
        if let Some(why) = &complaint {
            self.metrics.credential_reloaded(ReloadOutcome::Unreadable);
            warn!(client = self.client.name, "Keeping the credential in use: {why}.");
        }
        self.store.tell_of_credential(complaint.as_deref().map(Into::into));
        self.complaint = complaint;
    }
}
