//! An OAuth client: what was read for it, then its refresher and the rotation of its credential.

use super::control::Control;
use super::error::AppError;
use super::transport_inputs::TransportInputs;
use crate::config::Client;
use crate::credential::Identity;
use crate::metrics::Metrics;
use crate::token::ClientHandle;
use crate::token::TokenSource;
use crate::token::oauth::OAuthSource;
use crate::token::refresher::{NewSource, Refresher};
use crate::token::rotation::Rotation;
use crate::token::store::TokenStore;
use crate::watch::Watch;
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tokio_util::sync::DropGuard;
use url::Url;

/// A client of a new configuration.
pub(super) enum ClientSlot {
    /// An unchanged client, which stays in use.
    Running(Arc<RunningClient>),
    /// A client that is new or was changed.
    Prepared(Box<PreparedClient>),
}

impl ClientSlot {
    /// Prepares a client, unless the same client runs in `before`.
    ///
    /// An upstream may take its origin from the client's key. Then the client counts as the same
    /// only if that origin (`pinned`) is also the same: its tokens must not go to the API of
    /// another key.
    pub(super) fn new(
        config: &Arc<Client>,
        pinned: Option<&Url>,
        inputs: &TransportInputs,
        before: Option<(&[Arc<RunningClient>], &TransportInputs)>,
    ) -> Result<Self, AppError> {
        if let Some((running, before)) = before
            && let Some(known) = running
                .iter()
                .find(|client| client.config == *config && client.pinned.as_ref() == pinned)
            && inputs.match_for(before, config.transport.files())
        {
            return Ok(Self::Running(known.clone()));
        }
        Ok(Self::Prepared(Box::new(PreparedClient::new(config, pinned)?)))
    }

    /// Starts the client. Returns whether it did not run before.
    pub(super) fn start(self, metrics: &Metrics, control: &Control) -> (Arc<RunningClient>, bool) {
        match self {
            Self::Running(running) => (running, false),
            Self::Prepared(prepared) => (Arc::new(prepared.start(metrics, control)), true),
        }
    }
}

/// A client with all that was read for it. Nothing runs, and nothing was sent.
pub(super) struct PreparedClient {
    config: Arc<Client>,
    pinned: Option<Url>,
    identity: Identity,
    source: Arc<dyn TokenSource>,
}

/// A client with its tasks, which end when this is dropped.
pub(super) struct RunningClient {
    pub(super) config: Arc<Client>,
    /// The origin that an upstream takes from the client's key.
    pinned: Option<Url>,
    pub(super) handle: ClientHandle,
    /// Notified to read the credential now.
    pub(super) look: Arc<Notify>,
    _tasks: DropGuard,
}

impl PreparedClient {
    /// Reads the client's credential.
    fn new(config: &Arc<Client>, pinned: Option<&Url>) -> Result<Self, AppError> {
        let name = || config.name.clone();
        let identity = config.source.read();
        let identity =
            identity.map_err(|source| AppError::Credential { client: name(), source })?;
        let source = OAuthSource::new(config, identity.clone())
            .map_err(|source| AppError::Issuer { client: name(), source })?;
        Ok(Self {
            config: config.clone(),
            pinned: pinned.cloned(),
            identity,
            source: Arc::new(source),
        })
    }

    /// Starts fetching tokens and watching the credential.
    fn start(self, metrics: &Metrics, control: &Control) -> RunningClient {
        let Self { config, pinned, identity, source } = self;
        let handle = ClientHandle {
            name: config.name.clone(),
            store: Arc::new(TokenStore::new()),
            wait: config.wait,
            metrics: metrics.client(&config.name),
        };
        let (sender, new_sources) = watch::channel(NewSource::default());
        let stop = control.stop.child_token();
        let refresher = Refresher::new(handle.clone(), source, new_sources, config.refresh_at);
        control.tasks.spawn(refresher.run(stop.clone()));

        let watch = Watch::new(config.source.paths());
        let look = watch.trigger();
        let reload = control.reload.clone();
        let rotation = Rotation::new(handle.clone(), config.clone(), identity, sender, reload)
            .pinned_to(pinned.clone());
        let watching = stop.clone();
        control.tasks.spawn(async move {
            watching.run_until_cancelled(rotation.run(watch)).await;
        });
        RunningClient { config, pinned, handle, look, _tasks: stop.drop_guard() }
    }
}
