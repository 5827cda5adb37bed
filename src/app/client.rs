//! An OAuth client as it lives: what was read for it, then its refresher and the watch over its
//! credential.

use super::{AppError, Control};
use crate::config::Client;
use crate::credential::Identity;
use crate::metrics::Metrics;
use crate::token::ClientHandle;
use crate::token::TokenSource;
use crate::token::oauth::OAuthSource;
use crate::token::refresher::{Offer, Refresher};
use crate::token::rotation::Rotation;
use crate::token::store::TokenStore;
use crate::watch::Watch;
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tokio_util::sync::DropGuard;

/// A client with all that was read for it. Nothing runs, and nothing was sent.
pub(super) struct PreparedClient {
    config: Client,
    identity: Identity,
    source: Arc<dyn TokenSource>,
}

/// A client with its tasks, which end when this is dropped.
pub(super) struct RunningClient {
    pub(super) config: Client,
    pub(super) handle: ClientHandle,
    /// Makes it look at its credential now.
    pub(super) look: Arc<Notify>,
    _tasks: DropGuard,
}

impl PreparedClient {
    /// Reads what proves the client.
    pub(super) fn new(config: &Client) -> Result<Self, AppError> {
        let name = || config.name.clone();
        let identity = config.source.read();
        let identity =
            identity.map_err(|source| AppError::Credential { client: name(), source })?;
        let source = OAuthSource::new(config, identity.clone())
            .map_err(|source| AppError::Issuer { client: name(), source })?;
        Ok(Self { config: config.clone(), identity, source: Arc::new(source) })
    }

    /// Starts fetching tokens and watching the credential.
    pub(super) fn start(self, metrics: &Metrics, control: &Control) -> RunningClient {
        let Self { config, identity, source } = self;
        let store = Arc::new(TokenStore::new());
        let metrics = metrics.client(&config.name);
        let (offers, offered) = watch::channel(Offer::default());
        let stop = control.stop.child_token();
        let refresher = Refresher::new(
            config.name.clone(),
            source,
            offered,
            store.clone(),
            metrics.clone(),
            config.refresh_at,
        );
        control.tasks.spawn(refresher.run(stop.clone()));

        let watch = Watch::new(config.source.paths());
        let look = watch.trigger();
        let rotation = Rotation::new(
            config.clone(),
            identity,
            offers,
            store.clone(),
            metrics.clone(),
            control.reload.clone(),
        );
        let watching = stop.clone();
        control.tasks.spawn(async move {
            watching.run_until_cancelled(rotation.run(watch)).await;
        });
        let handle = ClientHandle { name: config.name.clone(), store, wait: config.wait, metrics };
        RunningClient { config, handle, look, _tasks: stop.drop_guard() }
    }
}
