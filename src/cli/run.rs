//! `bearerd run`: runs the sidecar.

use super::{Settings, allocator, warn_of_unknown};
use bearerd::app::{App, ConfigSource};
use bearerd::blocking;
use bearerd::environment::Environment;
use bearerd::otlp::Spans;
use bearerd::sandbox;
use bearerd::shutdown::{self, Shutdown};
use bearerd::telemetry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Builder;

pub(super) fn run(settings: Settings, environment: &Environment) -> anyhow::Result<()> {
    warn_of_unknown(environment);
    let config = settings.load(environment)?;
    let logs = telemetry::init(config.log);
    sandbox::prepare(is_contained(environment));
    let app = App::bind(config.clone())?;
    if config.sandbox {
        // Later threads inherit the sandbox, so it must be entered before any is started.
        sandbox::enter(&config, settings.config.as_deref(), &anchors(environment));
    }
    let _writer = logs.start_writer()?;
    blocking::start()?;
    // One thread is enough: control tasks are few, and requests have threads of their own.
    let control = Builder::new_current_thread().enable_all().build()?;
    control.spawn(allocator::return_freed_memory());
    let file = settings.config.clone();
    let for_reloads = environment.clone();
    let load = Arc::new(move || settings.load(&for_reloads));
    let result = control.block_on(async {
        let source = ConfigSource { load, file, level: logs.level, hangup: shutdown::hangups()? };
        let shutdown = Shutdown::on_signals()?;
        let spans = Spans::start(environment);
        let ran = app.reloading(source).spanning(spans.clone()).run(shutdown.clone()).await;
        shutdown.forced.run_until_cancelled(spans.end()).await;
        Ok(ran?)
    });
    // A dropped runtime would wait for a resolver or a file system that hangs.
    control.shutdown_background();
    result
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
