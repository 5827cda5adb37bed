//! Another configuration in the place of the one in force, without a restart: all of it or nothing.
//!
//! The file is read again on SIGHUP and when it changes. What is new is tried first: a client that is
//! not there yet must get a token before the new configuration counts.

use super::client::RunningClient;
use super::control::{Control, FILES_TIMEOUT};
use super::error::AppError;
use super::setup::{Prepared, Setup};
use super::transport_inputs::TransportInputs;
use crate::blocking::{self, BlockingError};
use crate::config::{Config, ConfigError, ListenAddress};
use crate::files::read_small;
use crate::metrics::Metrics;
use crate::metrics::labels::{ConfigReload, Label};
use crate::proxy::Proxy;
use crate::server::Engines;
use crate::status::StatusView;
use crate::telemetry::LevelHandle;
use crate::trust::TrustError;
use crate::watch::{POLL, Watch};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

/// How long a client that is new may take to get its first token.
const FIRST_TOKEN: Duration = Duration::from_secs(20);
/// What was refused for a reason that may pass is tried again after this long, and then ever later: a
/// secret that is wrong must not be sent over and over.
const RETRY: Duration = Duration::from_secs(30);
const SLOWEST_RETRY: Duration = Duration::from_secs(300);

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

/// Work with files beside the runtime: a file system that hangs must not hold up anything else.
async fn in_time<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    Ok(blocking::within(FILES_TIMEOUT, work).await?)
}

/// Why the configuration in force stays.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    App(#[from] AppError),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("{0} can't change while the sidecar runs; restart it, or take that back")]
    NeedsRestart(&'static str),
    #[error("client {client} gets no token ({why}); it is tried again")]
    NoToken { client: String, why: String },
    #[error("cannot read it now: {0}")]
    NotRead(#[from] BlockingError),
}

impl Refusal {
    const fn outcome(&self) -> ConfigReload {
        match self {
            Self::Config(_) | Self::App(_) | Self::Trust(_) | Self::NotRead(_) => {
                ConfigReload::Invalid
            }
            Self::NeedsRestart(_) => ConfigReload::NeedsRestart,
            Self::NoToken { .. } => ConfigReload::NoToken,
        }
    }

    /// Whether it may pass although the file stays as it is: another file may be yet to come.
    const fn may_pass(&self) -> bool {
        matches!(self, Self::App(_) | Self::Trust(_) | Self::NoToken { .. } | Self::NotRead(_))
    }
}

/// What a reload would begin with: the file, if there is one, and what stands outside of it; or why that can't
/// be read.
type Look = Result<(Option<String>, TransportInputs), String>;

/// Owns the configuration in force.
pub(super) struct Reloader {
    pub(super) setup: Arc<Setup>,
    pub(super) addresses: Vec<ListenAddress>,
    pub(super) proxy: Proxy,
    pub(super) engines: Engines,
    pub(super) view: Arc<StatusView>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) control: Control,
}

impl Reloader {
    /// Reloads whenever it is asked to, or the file or what it points at changes, for ever. Dropped, it
    /// leaves nothing half done: what is in force is swapped in one go.
    pub(super) async fn run(&mut self, source: Option<ConfigSource>) {
        let Some(source) = source else {
            return std::future::pending().await;
        };
        let mut seen = self.look(&source).await;
        // The file may have changed since it was read for the start.
        let mut retry = match self.reload(&source).await {
            Ok(ConfigReload::Unchanged) => None,
            judged => self.judge(judged, None),
        };
        loop {
            let mut is_asked = false;
            let files = self.setup.inputs.files.keys().map(PathBuf::as_path);
            let watch = Watch::new(source.file.as_deref().into_iter().chain(files));
            // Kept while others are heard: left in the middle, it would forget the change that it waits on.
            let mut changed = pin!(watch.changed());
            while !is_asked {
                let retry_at = retry.map_or_else(|| Instant::now() + POLL * 2, |(at, _)| at);
                tokio::select! {
                    () = source.hangup.notified() => {
                        for client in &self.setup.clients {
                            client.look.notify_one();
                        }
                        self.setup.local.look();
                        (is_asked, retry) = (true, None);
                    }
                    () = self.control.reload.notified() => is_asked = retry.is_none(),
                    () = sleep_until(retry_at) => is_asked = retry.is_some(),
                    () = &mut changed => {
                        changed.set(watch.changed());
                        let found = self.look(&source).await;
                        if found != seen {
                            (is_asked, retry) = (true, None);
                        }
                    }
                }
            }
            seen = self.look(&source).await;
            let judged = self.reload(&source).await;
            retry = self.judge(judged, retry.map(|(_, delay)| delay));
        }
    }

    /// The file, and what is outside of the configuration in force that says how servers are reached.
    async fn look(&self, source: &ConfigSource) -> Look {
        let (setup, file) = (self.setup.clone(), source.file.clone());
        let look = move || {
            let file = file.as_deref().map(read_small).transpose();
            let inputs = TransportInputs::read(&setup.config, Some(&setup.inputs.anchors));
            Ok((
                file.map_err(|error| error.to_string())?,
                inputs.map_err(|error| error.to_string())?,
            ))
        };
        in_time(look).await.map_err(|refusal| refusal.to_string())?
    }

    /// Tells how a reload ended. Returns when to try again, and how long that is.
    fn judge(
        &self,
        judged: Result<ConfigReload, Refusal>,
        delay: Option<Duration>,
    ) -> Option<(Instant, Duration)> {
        let outcome = match &judged {
            Ok(outcome) => *outcome,
            Err(refusal) => refusal.outcome(),
        };
        let detail = judged.as_ref().err().map(ToString::to_string).unwrap_or_default();
        self.metrics.record_config_reload(outcome, detail);
        match judged {
            Ok(ConfigReload::Unchanged) => info!("The configuration has not changed."),
            Ok(_) => info!("The new configuration is in force."),
            Err(refusal) => {
                warn!(outcome = outcome.label(), "Keeping the configuration in force: {refusal}.");
                let delay = delay.map_or(RETRY, |delay| (delay * 2).min(SLOWEST_RETRY));
                return refusal.may_pass().then(|| (Instant::now() + delay, delay));
            }
        }
        None
    }

    async fn reload(&mut self, source: &ConfigSource) -> Result<ConfigReload, Refusal> {
        let load = source.load.clone();
        let config = in_time(move || load()).await??;
        let before = &self.setup.config;
        let wanted = config.clone();
        let setup = self.setup.clone();
        let anchors = move || TransportInputs::read(&wanted, Some(&setup.inputs.anchors));
        let inputs = in_time(anchors).await??;
        if config == *before && inputs == self.setup.inputs {
            return Ok(ConfigReload::Unchanged);
        }
        for (name, changes) in [
            ("listen", config.listen != before.listen),
            ("admin.listen", config.admin_listen != before.admin_listen),
            ("workers", config.workers != before.workers),
            ("access.uids", config.access.uids != before.access.uids),
            ("sandbox", config.sandbox != before.sandbox),
            ("log.format", config.log.format != before.log.format),
        ] {
            if changes {
                return Err(Refusal::NeedsRestart(name));
            }
        }
        let setup = self.setup.clone();
        let prepared = in_time(move || Prepared::new(config, Some(&setup))).await??;
        let anchors = &prepared.inputs.anchors;
        let is_new = *anchors != self.setup.inputs.anchors;
        let successors = is_new.then(|| self.engines.successors(anchors)).transpose();
        let successors = successors.map_err(AppError::System)?;
        let (setup, newcomers) = prepared.start(&self.metrics, &self.control);
        if let Err(refusal) = first_tokens(&newcomers).await {
            self.metrics.remove_retired(&setup.config, &self.setup.config);
            // The newcomers had the same series.
            for client in &self.setup.clients {
                client.handle.metrics.set_gauges(&client.handle.store.state().gauges);
            }
            return Err(refusal);
        }
        if let Some(successors) = successors {
            self.engines.replace(successors);
        }
        setup.remember(&self.setup);
        self.proxy.replace(setup.table(&self.addresses, &self.metrics));
        self.view.readiness().replace_clients(setup.handles());
        self.view.readiness().replace_guard(setup.local.guard.clone());
        self.view.replace_routes(&setup.config);
        source.level.set(setup.config.log.level);
        let before = std::mem::replace(&mut self.setup, Arc::new(setup));
        self.metrics.remove_retired(&before.config, &self.setup.config);
        Ok(ConfigReload::Success)
    }
}

/// Waits until each of these clients has a token.
async fn first_tokens(clients: &[Arc<RunningClient>]) -> Result<(), Refusal> {
    for client in clients {
        if client.handle.store.wait(FIRST_TOKEN).await.is_err() {
            let failure = client.handle.store.state().failure;
            let why = failure.map_or_else(|| "no answer".into(), |failure| failure.message);
            let client = client.config.name.clone();
            return Err(Refusal::NoToken { client, why: why.to_string() });
        }
    }
    Ok(())
}
