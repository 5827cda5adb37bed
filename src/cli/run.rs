//! `bearerd run`.

use super::{Settings, warn_of_unknown};
use bearerd::app::{App, ConfigSource};
use bearerd::config::Environment;
use bearerd::shutdown::{self, Shutdown};
use bearerd::telemetry;
use std::sync::Arc;
use tokio::runtime::Builder;

pub(super) fn run(settings: Settings, environment: &Environment) -> anyhow::Result<()> {
    warn_of_unknown(environment);
    let config = settings.load(environment)?;
    let level = telemetry::init(config.log);
    let app = App::bind(config)?;
    // The control tasks are few and light; requests have threads of their own.
    let control = Builder::new_current_thread().enable_all().build()?;
    let file = settings.config.clone();
    let environment = environment.clone();
    let load = Arc::new(move || settings.load(&environment));
    let result = control.block_on(async {
        let source = ConfigSource { load, file, level, hangup: shutdown::hangups()? };
        Ok(app.reloading(source).run(Shutdown::on_signals()?).await?)
    });
    // Dropped, the runtime would wait for a resolver or a file system that hangs.
    control.shutdown_background();
    result
}
