//! Another configuration in the place of the one in force, without a restart: all of it or nothing.
//!
//! The file is read again on SIGHUP and when it changes. What is new is tried first: a client that is
//! not there yet must get a token before the new configuration counts.

use super::client::RunningClient;
use super::setup::{Prepared, Setup};
use super::{AppError, Control};
use crate::config::{Config, ConfigError, ListenAddress};
use crate::metrics::Metrics;
use crate::proxy::Proxy;
use crate::readiness::Readiness;
use crate::telemetry::LevelHandle;
use crate::watch::Watch;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

/// How long a client that is new may take to get its first token.
const FIRST_TOKEN: Duration = Duration::from_secs(20);

/// Where the configuration comes from, for reading it again.
#[derive(Clone)]
pub struct ConfigSource {
    /// Reads all of it: file, environment, flags.
    pub load: Arc<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>,
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// What sets the level of the log.
    pub level: LevelHandle,
    /// Asks for a reload, as SIGHUP does.
    pub hangup: Arc<Notify>,
}

impl ConfigSource {
    /// What the file holds; nothing if it can't be read, as in the middle of a swap.
    async fn content(&self) -> Option<Vec<u8>> {
        let file = self.file.clone()?;
        spawn_blocking(move || std::fs::read(file).ok()).await.ok()?
    }
}

/// How a reload ended; the label of `config_reloads_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReloadOutcome {
    /// The new configuration is in force.
    Success,
    /// Nothing in it has changed.
    Unchanged,
    /// It is wrong, or what it points at is.
    Invalid,
    /// A new client gets no token.
    NoToken,
    /// It changes what only a restart can change.
    NeedsRestart,
}

impl ReloadOutcome {
    pub(crate) const ALL: [Self; 5] =
        [Self::Success, Self::Unchanged, Self::Invalid, Self::NoToken, Self::NeedsRestart];

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Unchanged => "unchanged",
            Self::Invalid => "invalid",
            Self::NoToken => "no_token",
            Self::NeedsRestart => "needs_restart",
        }
    }
}

/// Why the configuration in force stays.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    App(#[from] AppError),
    #[error("{0} can't change while the sidecar runs; restart it, or take that back")]
    NeedsRestart(&'static str),
    #[error("client {client} gets no token ({why}); it is tried again")]
    NoToken { client: String, why: String },
    #[error("reading it failed; please report this")]
    Panicked,
}

impl Refusal {
    const fn outcome(&self) -> ReloadOutcome {
        match self {
            Self::Config(_) | Self::App(_) | Self::Panicked => ReloadOutcome::Invalid,
            Self::NeedsRestart(_) => ReloadOutcome::NeedsRestart,
            Self::NoToken { .. } => ReloadOutcome::NoToken,
        }
    }
}

/// Owns the configuration in force.
pub(super) struct Reloader {
    pub(super) setup: Setup,
    pub(super) addresses: Vec<ListenAddress>,
    pub(super) proxy: Proxy,
    pub(super) readiness: Readiness,
    pub(super) metrics: Arc<Metrics>,
    pub(super) control: Control,
}

impl Reloader {
    /// Reloads whenever it is asked to or the file changes, for ever. Dropped, it leaves nothing half
    /// done: what is in force is swapped in one go.
    pub(super) async fn run(&mut self, source: Option<ConfigSource>) {
        let Some(source) = source else {
            return std::future::pending().await;
        };
        let watch = Watch::new(source.file.as_deref());
        // What the file held when it was last read, unless that is to be tried again.
        let mut seen = source.content().await;
        loop {
            tokio::select! {
                () = source.hangup.notified() => {
                    for client in &self.setup.clients {
                        client.look.notify_one();
                    }
                }
                () = watch.changed() => {
                    let content = source.content().await;
                    if content.is_none() || content == seen {
                        continue;
                    }
                }
            }
            let content = source.content().await;
            let outcome = self.reload(&source).await.unwrap_or_else(|refusal| {
                let outcome = refusal.outcome();
                warn!(outcome = outcome.label(), "Keeping the configuration in force: {refusal}.");
                outcome
            });
            self.metrics.config_reloaded(outcome);
            seen = content.filter(|_| outcome != ReloadOutcome::NoToken);
        }
    }

    async fn reload(&mut self, source: &ConfigSource) -> Result<ReloadOutcome, Refusal> {
        let load = source.load.clone();
        let config = spawn_blocking(move || load()).await.map_err(|_| Refusal::Panicked)??;
        let before = &self.setup.config;
        if config == *before {
            info!("The configuration has not changed.");
            return Ok(ReloadOutcome::Unchanged);
        }
        for (name, changes) in [
            ("listen", config.listen != before.listen),
            ("admin.listen", config.admin_listen != before.admin_listen),
            ("workers", config.workers != before.workers),
            ("sandbox", config.sandbox != before.sandbox),
            ("log.format", config.log.format != before.log.format),
        ] {
            if changes {
                return Err(Refusal::NeedsRestart(name));
            }
        }
        let prepared = Prepared::new(config, Some(&self.setup))?;
        let (setup, newcomers) = prepared.start(&self.metrics, &self.control);
        if let Err(refusal) = first_tokens(&newcomers).await {
            self.metrics.retire(&setup.config, &self.setup.config);
            return Err(refusal);
        }
        self.proxy.replace(setup.table(&self.addresses, &self.metrics));
        self.readiness.replace_clients(setup.handles());
        source.level.set(setup.config.log.level);
        let before = std::mem::replace(&mut self.setup, setup);
        self.metrics.retire(&before.config, &self.setup.config);
        info!("The new configuration is in force.");
        Ok(ReloadOutcome::Success)
    }
}

/// Waits until each of these clients has a token.
async fn first_tokens(clients: &[Arc<RunningClient>]) -> Result<(), Refusal> {
    for client in clients {
        if client.handle.store.wait(FIRST_TOKEN).await.is_err() {
            let failure = client.handle.store.news().failure;
            let why = failure.map_or_else(|| "no answer".into(), |failure| failure.message);
            let client = client.config.name.clone();
            return Err(Refusal::NoToken { client, why: why.to_string() });
        }
    }
    Ok(())
}
