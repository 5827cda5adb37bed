//! Replaces the configuration in force without a restart: all of it or nothing.
//!
//! The file is read again on SIGHUP and when it changes. New parts are tried first: a new client
//! must get a token before the new configuration takes effect.

mod backoff;
mod changes;
mod error;

use super::client::RunningClient;
use super::control::{Control, FILES_TIMEOUT};
use super::error::AppError;
use super::setup::{Prepared, Setup};
use super::transport_inputs::TransportInputs;
use crate::audit::Audit;
use crate::blocking;
use crate::config::{Config, ConfigError, ListenAddress};
use crate::metrics::Metrics;
use crate::metrics::labels::{ConfigReload, Label};
use crate::proxy::Proxy;
use crate::server::Engines;
use crate::service_manager;
use crate::status::StatusView;
use crate::telemetry::LevelHandle;
use crate::traffic::Traffic;
use crate::watch::{POLL, Watch};
use backoff::Backoff;
use changes::{Snapshot, refuse_restart_only_changes, warn_of_wider_rights};
use error::ReloadError;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

/// How long a new client may take to get its first token.
const FIRST_TOKEN: Duration = Duration::from_secs(20);

/// Where the configuration comes from, for reading it again.
#[derive(Clone)]
pub struct ConfigSource {
    /// Reads all of it: file, environment, flags.
    pub load: Arc<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>,
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// Sets the level of the log.
    pub level: LevelHandle,
    /// Notified to request a reload, as SIGHUP does.
    pub hangup: Arc<Notify>,
}

/// Owner of the configuration in force.
pub(super) struct Reloader {
    pub(super) setup: Arc<Setup>,
    pub(super) addresses: Vec<ListenAddress>,
    pub(super) proxy: Proxy,
    pub(super) engines: Engines,
    pub(super) view: Arc<StatusView>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) traffic: Traffic,
    pub(super) control: Control,
    pub(super) audit: Option<Audit>,
}

impl Reloader {
    /// Reloads on request, and when the file or a file that it names changes; never ends. It may be
    /// dropped at any time, since a new configuration replaces the old one in a single step.
    pub(super) async fn run(&mut self, source: Option<ConfigSource>) {
        let Some(source) = source else {
            return std::future::pending().await;
        };
        let mut seen = self.snapshot(&source).await;
        // The file may have changed since it was read for the start.
        let mut retry = match self.reload(&source).await {
            Ok(ConfigReload::Unchanged) => None,
            result => self.report(result, None),
        };
        loop {
            retry = self.wait(&source, &seen, retry).await;
            service_manager::reloading();
            seen = self.snapshot(&source).await;
            let result = self.reload(&source).await;
            retry = self.report(result, retry);
            service_manager::ready();
        }
    }

    async fn snapshot(&self, source: &ConfigSource) -> Snapshot {
        Snapshot::take(&self.setup, source.file.clone()).await
    }

    /// Waits until a reload is due. Returns `retry` if the retry is what is due.
    async fn wait(
        &self,
        source: &ConfigSource,
        seen: &Snapshot,
        retry: Option<Backoff>,
    ) -> Option<Backoff> {
        let files = self.setup.inputs.files.keys().map(PathBuf::as_path);
        let watch = Watch::new(source.file.as_deref().into_iter().chain(files));
        // Kept across the rounds: dropped in the middle, it would lose the change that it waits
        // for.
        let mut changed = pin!(watch.changed());
        loop {
            let retry_at = retry.map_or_else(|| Instant::now() + POLL * 2, |retry| retry.at);
            tokio::select! {
                () = source.hangup.notified() => {
                    for client in &self.setup.clients {
                        client.look.notify_one();
                    }
                    self.setup.local.look();
                    if let Some(audit) = &self.audit {
                        audit.rotate();
                    }
                    self.setup.tls.look();
                    return None;
                }
                () = self.control.reload.notified() => {
                    // The request is dropped if a retry is due anyway.
                    retry?;
                }
                () = sleep_until(retry_at), if retry.is_some() => return retry,
                () = &mut changed => {
                    changed.set(watch.changed());
                    if self.snapshot(source).await != *seen {
                        return None;
                    }
                }
            }
        }
    }

    /// Logs and counts the result of a reload. Returns the next retry, if there is one.
    fn report(
        &self,
        result: Result<ConfigReload, ReloadError>,
        retry: Option<Backoff>,
    ) -> Option<Backoff> {
        let error = match result {
            Ok(outcome) => {
                self.metrics.record_config_reload(outcome, String::new());
                match outcome {
                    ConfigReload::Unchanged => info!("The configuration has not changed."),
                    _ => info!("The new configuration is in force."),
                }
                return None;
            }
            Err(error) => error,
        };
        let outcome = error.outcome();
        self.metrics.record_config_reload(outcome, error.to_string());
        warn!(
            outcome = outcome.label(),
            "Keeping the old configuration; the new one was not applied: {error}."
        );
        error.may_pass().then(|| Backoff::after(retry))
    }

    async fn reload(&mut self, source: &ConfigSource) -> Result<ConfigReload, ReloadError> {
        let load = source.load.clone();
        let config = blocking::within(FILES_TIMEOUT, move || load()).await??;
        let (wanted, setup) = (config.clone(), self.setup.clone());
        let read = move || TransportInputs::read(&wanted, Some(&setup.inputs.anchors));
        let inputs = blocking::within(FILES_TIMEOUT, read).await??;
        if config == self.setup.config && inputs == self.setup.inputs {
            return Ok(ConfigReload::Unchanged);
        }
        refuse_restart_only_changes(&self.setup.config, &config)?;
        let setup = self.setup.clone();
        let prepared =
            blocking::within(FILES_TIMEOUT, move || Prepared::new(config, Some(&setup))).await??;
        let anchors = &prepared.inputs.anchors;
        let is_new = *anchors != self.setup.inputs.anchors;
        let successors = is_new.then(|| self.engines.successors(anchors)).transpose();
        let successors = successors.map_err(AppError::System)?;
        let (setup, started) = prepared.start(&self.metrics, &self.control);
        if let Err(error) = first_tokens(&started).await {
            self.discard(&setup);
            return Err(error);
        }
        if let Some(successors) = successors {
            self.engines.replace(successors);
        }
        warn_of_wider_rights(&self.setup.config, &setup.config);
        source.level.set(setup.config.log.level);
        self.put_in_force(setup);
        Ok(ConfigReload::Success)
    }

    /// Removes the metric series of a configuration that was not applied.
    fn discard(&self, setup: &Setup) {
        self.metrics.remove_retired(&setup.config, &self.setup.config);
        // A client in use may have had the same series as a new one.
        for client in &self.setup.clients {
            client.handle.metrics.set_gauges(&client.handle.store.state().gauges);
        }
    }

    /// Replaces the configuration in force.
    fn put_in_force(&mut self, setup: Setup) {
        setup.remember(&self.setup);
        let before = self.proxy.table();
        let table = setup.table(&self.addresses, &self.metrics, &self.traffic, Some(&before));
        self.proxy.replace(table);
        self.view.readiness().replace_clients(setup.handles());
        self.view.readiness().replace_guard(setup.local.guard.clone());
        self.view.replace_routes(&setup.config);
        let before = std::mem::replace(&mut self.setup, Arc::new(setup));
        let config = &self.setup.config;
        self.metrics.remove_retired(&before.config, config);
        let routes: Vec<_> = config.routes.iter().map(|route| config.name_of(route)).collect();
        let upstreams: Vec<_> =
            config.upstreams.iter().map(|upstream| upstream.name.clone()).collect();
        let callers: Vec<_> = config.caller_names().map(str::to_owned).collect();
        self.traffic.retain(&routes, &upstreams, &callers);
    }
}

/// Waits until each of these clients has a token.
async fn first_tokens(clients: &[Arc<RunningClient>]) -> Result<(), ReloadError> {
    for client in clients {
        if client.handle.store.wait(FIRST_TOKEN).await.is_err() {
            let failure = client.handle.store.state().failure;
            let why = failure.map_or_else(|| "no answer".into(), |failure| failure.message);
            let client = client.config.name.clone();
            return Err(ReloadError::NoToken { client, why: why.to_string() });
        }
    }
    Ok(())
}
