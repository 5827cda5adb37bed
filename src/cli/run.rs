//! `bearerd run`.

use super::{Settings, warn_of_unknown};
use bearerd::app::App;
use bearerd::config::Environment;
use bearerd::shutdown::Shutdown;
use bearerd::telemetry;
use tokio::runtime::Builder;

pub(super) fn run(settings: Settings, environment: &Environment) -> anyhow::Result<()> {
    warn_of_unknown(environment);
    let config = settings.load(environment)?;
    telemetry::init(config.log);
    let app = App::bind(config)?;
    // The control tasks are few and light; requests have threads of their own.
    let control = Builder::new_current_thread().enable_all().build()?;
    let result = control.block_on(async { Ok(app.run(Shutdown::on_signals()?).await?) });
    // Dropped, the runtime would wait for a resolver or a file system that hangs.
    control.shutdown_background();
    result
}
