//! The demo tenant and the sidecar, started, shown and ended together.

use super::tour;
use crate::cli::{print, print_error};
use anyhow::Context;
use bearerd::app::{App, AppError};
use bearerd::config::{self, Flags, ListenAddress, LogFormat};
use bearerd::demo::{DemoFaults, Tenant, TenantOptions};
use bearerd::environment::Environment;
use bearerd::shutdown::Shutdown;
use bearerd::telemetry;
use clap::Args;
use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Builder;
use tracing::level_filters::LevelFilter;

pub(in crate::cli) const ABOUT: &str =
    "Start a demo tenant and a sidecar in front of it, and print commands to try";

/// Token lifetime of the interactive demo, in seconds: long enough to read, short enough to see a
/// refresh.
const LIFETIME: u64 = 120;
/// Token lifetime of the tour, in seconds. The refresh comes after about half of it.
const TOUR_LIFETIME: u64 = 5;
/// Time after which the tour fails. It usually takes about half the lifetime of a token.
const TOUR_DEADLINE: Duration = Duration::from_secs(60);

#[derive(Args)]
pub(in crate::cli) struct DemoOptions {
    /// Take a tour, print the result of each step, and exit: 0 if all steps succeeded, else 1.
    #[arg(long)]
    once: bool,
    /// Listen address for callers. The tour chooses free ports itself.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", conflicts_with = "once")]
    listen: String,
    /// Listen address for probes, metrics and the status page.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081", conflicts_with = "once")]
    admin_listen: String,
}

/// A running demo tenant, and the addresses and configuration of the sidecar in front of it.
struct Pair {
    tenant: Tenant,
    listen: String,
    admin: String,
    config: String,
    /// The files that the configuration names. They are deleted with this value.
    _folder: TempDir,
}

/// Runs the demo: with `--once` the tour, otherwise until SIGTERM or Ctrl-C.
pub(in crate::cli) fn demo(options: &DemoOptions) -> anyhow::Result<()> {
    let control = Builder::new_current_thread().enable_all().build()?;
    let result = control.block_on(async {
        let (pair, app) = start(options).await?;
        if options.once { run_tour(pair, app).await } else { run_until_signal(&pair, app).await }
    });
    control.shutdown_background();
    result
}

async fn start(options: &DemoOptions) -> anyhow::Result<(Pair, App)> {
    let tenant = Tenant::start(TenantOptions::default()).await?;
    let token_lifetime = if options.once { TOUR_LIFETIME } else { LIFETIME };
    tenant.set_faults(DemoFaults { token_lifetime, ..DemoFaults::default() });
    // The folder holds a secret: no other user may read it, whatever the umask is.
    let folder = tempfile::Builder::new()
        .prefix("bearerd-demo-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()?;
    let path = folder.path().join("bearerd.yaml");
    let config = write_files(folder.path(), &tenant)?;
    write(&path, &config)?;
    let (listen, admin_listen) = if options.once {
        ("127.0.0.1:0".into(), "127.0.0.1:0".into())
    } else {
        (options.listen.clone(), options.admin_listen.clone())
    };
    let flags =
        Flags { listen: Some(listen), admin_listen: Some(admin_listen), ..Flags::default() };
    let mut parsed = config::load(Some(&path), &Environment::default(), &flags)?;
    parsed.log.format = LogFormat::Text;
    if options.once {
        parsed.log.level = LevelFilter::WARN;
    }
    telemetry::init(parsed.log);
    let app = App::bind(parsed).map_err(|error| match error {
        AppError::Bind(error) => AppError::Bind(
            error.with_advice("choose other addresses with --listen and --admin-listen"),
        ),
        other => other,
    })?;
    let listen = match app.addresses().into_iter().next() {
        Some(ListenAddress::Tcp(address)) => format!("http://{address}"),
        _ => anyhow::bail!("the demo needs a TCP address to listen on; give one with --listen"),
    };
    let admin = format!("http://{}", app.admin_address()?);
    Ok((Pair { tenant, listen, admin, config, _folder: folder }, app))
}

/// Writes the files that the configuration names, and returns the text of the configuration.
fn write_files(folder: &Path, tenant: &Tenant) -> anyhow::Result<String> {
    let (ca, secret) = (folder.join("ca.pem"), folder.join("client_secret"));
    write(&ca, tenant.ca_pem())?;
    write(&secret, &tenant.client_secret())?;
    Ok(format!(
        "clients:
  technical-user:
    token_url: {token_url}
    client_id: {client_id}
    client_secret_file: {secret}
    ca_file: {ca}
upstreams:
  datasphere:
    url: {url}
    ca_file: {ca}
",
        token_url = tenant.token_url(),
        client_id = tenant.client_id(),
        secret = secret.display(),
        ca = ca.display(),
        url = tenant.url(),
    ))
}

/// Writes a new file that only its owner can read.
fn write(path: &Path, content: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)?.write_all(content.as_bytes())
}

async fn run_tour(pair: Pair, app: App) -> anyhow::Result<()> {
    let shutdown = Shutdown::default();
    let _shutdown_on_return = shutdown.requested.clone().drop_guard();
    let mut running = tokio::spawn(app.run(shutdown.clone()));
    let tour =
        tokio::time::timeout(TOUR_DEADLINE, tour::run(&pair.listen, &pair.admin, &pair.tenant));
    let steps = tokio::select! {
        steps = tour => steps.with_context(|| {
            format!("the tour did not end within {} s", TOUR_DEADLINE.as_secs())
        })?,
        ended = &mut running => {
            ended??;
            anyhow::bail!("the sidecar ended during the tour");
        }
    };
    print(&tour::table(&steps))?;
    shutdown.requested.cancel();
    running.await??;
    pair.tenant.stop().await;
    let failed = steps.iter().filter(|step| !step.succeeded).count();
    anyhow::ensure!(failed == 0, "{failed} of {} steps of the tour failed", steps.len());
    Ok(())
}

async fn run_until_signal(pair: &Pair, app: App) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    print(&greeting(pair))?;
    app.run(shutdown).await?;
    print_error("The demo has ended.");
    Ok(())
}

/// The text with the commands to try. Each command works as printed.
fn greeting(pair: &Pair) -> String {
    let Pair { listen, admin, config, tenant, .. } = pair;
    let control = tenant.control_url();
    format!(
        "\
A demo tenant and a sidecar in front of it are running. The sidecar's configuration:

{config}
Read, write, upload and export through the sidecar, without a token:

  curl '{listen}/api/v1/datasphere/consumption/relational/DEMO/SALES/SALES?$top=3'
  curl '{listen}/api/v1/scim2/Users' -H 'Content-Type: application/scim+json' -d '{{\"userName\":\"ADA\"}}'
  head -c 1000000 /dev/zero | curl '{listen}/api/v1/content/jobs' --data-binary @-
  curl -X POST '{listen}/api/v1/audit/activities/exportActivities?pageIndex=1'

Look at the state of the token, which is valid for {LIFETIME} s here. In a browser: {admin}/

  curl {admin}/readyz
  curl -s {admin}/metrics | grep bearerd_token

Make the token endpoint fail, and look again within a minute, when the next token is due. Make the tenant
fail, call it, and look at once. DELETE resets all faults. The last command lists more:

  curl -X PATCH {control}/faults -d '{{\"issuer\":\"unavailable\"}}'
  curl -X PATCH {control}/faults -d '{{\"tenant\":\"internal_error\"}}'
  curl -X DELETE {control}/faults
  curl {control}

Without the sidecar, the tenant requires a token and answers 401:

  curl -k {url}/api/v1/scim2/Users

Ctrl-C ends the demo.

",
        url = tenant.url(),
    )
}
