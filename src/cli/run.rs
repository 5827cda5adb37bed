//! `bearerd run`: runs the sidecar.

use super::exec::{self, Announcement};
use super::{Settings, allocator, print, warn_of_unknown};
use bearerd::app::{App, ConfigSource};
use bearerd::blocking;
use bearerd::config::Config;
use bearerd::environment::Environment;
use bearerd::otlp::Spans;
use bearerd::sandbox;
use bearerd::server::InheritedSockets;
use bearerd::shutdown::{self, Shutdown};
use bearerd::telemetry;
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Builder;
use tracing::info;

#[derive(Args)]
pub(super) struct RunOptions {
    #[command(flatten)]
    pub(super) settings: Settings,
    /// Serves one run of `bearerd exec`: on free ports, until standard input ends.
    #[arg(long, hide = true)]
    for_exec: bool,
    /// Requires a user and a password made for this run.
    #[arg(long, hide = true, requires = "for_exec")]
    credential: bool,
}

pub(super) fn run(options: RunOptions, environment: &Environment) -> anyhow::Result<()> {
    let RunOptions { settings, for_exec, credential } = options;
    warn_of_unknown(environment);
    let mut config = settings.load(environment)?;
    if for_exec {
        exec::adapt(&mut config, credential)?;
    }
    let logs = telemetry::init(config.log);
    report_start(&config, settings.file.config.as_deref());
    sandbox::prepare(is_contained(environment));
    let app = App::bind_with(config.clone(), InheritedSockets::take()?)?;
    if for_exec {
        print(&Announcement::of(&app, &config)?.line()?)?;
    }
    if config.sandbox {
        // Later threads inherit the sandbox, so it must be entered before any is started.
        sandbox::enter(&config, settings.file.config.as_deref(), &anchors(environment));
    }
    let _writer = logs.start_writer()?;
    blocking::start()?;
    // One thread is enough: control tasks are few, and requests have threads of their own.
    let control = Builder::new_current_thread().enable_all().build()?;
    control.spawn(allocator::return_freed_memory());
    let file = settings.file.config.clone();
    let for_reloads = environment.clone();
    let load = Arc::new(move || settings.load(&for_reloads));
    let result = control.block_on(async {
        let source =
            ConfigSource { load, file, level: logs.level.clone(), hangup: shutdown::hangups()? };
        let signalled = Shutdown::on_signals()?;
        // Signals to a whole group are for the tool, which needs the sidecar until it ends.
        let shutdown = if for_exec { Shutdown::default() } else { signalled };
        let spans = Spans::start(environment);
        let app = app.spanning(spans.clone()).writing_to(Box::new(logs.writer()));
        // A reload would not know the ports of this run.
        let app = if for_exec { app } else { app.reloading(source) };
        if for_exec {
            exec::stop_at_end_of_input(shutdown.clone())?;
        }
        let ran = app.run(shutdown.clone()).await;
        shutdown.forced.run_until_cancelled(spans.end()).await;
        Ok(ran?)
    });
    // A dropped runtime would wait for a resolver or a file system that hangs.
    control.shutdown_background();
    result
}

/// Logs what is about to run, as the first line.
fn report_start(config: &Config, file: Option<&Path>) {
    let tenants: Vec<_> =
        config.upstreams.iter().map(|upstream| upstream.origin.as_str()).collect();
    let config = file.map_or_else(|| "environment".into(), Path::to_string_lossy);
    let tenants = tenants.join(" ");
    info!(version = env!("CARGO_PKG_VERSION"), %config, tenants, "bearerd is starting.");
}

/// Whether the process runs in a container, where its user is not a user of the machine.
fn is_contained(environment: &Environment) -> bool {
    environment.get("KUBERNETES_SERVICE_HOST").is_some()
        || environment.get("container").is_some()
        || ["/.dockerenv", "/run/.containerenv"].iter().any(|path| Path::new(path).exists())
}

/// The places of the system's trust anchors, if the environment states other than the usual ones.
fn anchors(environment: &Environment) -> Vec<PathBuf> {
    let place = |name| environment.get(name).map(PathBuf::from);
    ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter_map(place).collect()
}
