//! `bearerd wait`: waits until a running sidecar is ready.

use super::{File, warn_of_unknown};
use anyhow::Context;
use bearerd::config::Flags;
use bearerd::environment::Environment;
use bearerd::probe;
use clap::Args;
use std::time::Duration;
use tokio::runtime::Builder;

#[derive(Args)]
pub(super) struct WaitOptions {
    #[command(flatten)]
    pub(super) file: File,
    /// The sidecar's address for probes (`admin.listen`).
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// The longest time to wait.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

pub(super) fn wait(options: &WaitOptions, environment: &Environment) -> anyhow::Result<()> {
    warn_of_unknown(environment);
    let flags = Flags { admin_listen: options.admin_listen.clone(), ..Flags::default() };
    let config = options.file.load(environment, &flags)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let ready = runtime.block_on(probe::wait_until_ready(&config.admin, options.timeout));
    runtime.shutdown_background();
    ready.with_context(|| {
        format!("the sidecar was not ready within {}", humantime::format_duration(options.timeout))
    })
}
