//! The sidecar of a tool: a child process, and what it says about itself.

use super::ExecOptions;
use anyhow::{Context, ensure};
use bearerd::app::App;
use bearerd::config::{AdminListener, BasicAccess, Config, ListenAddress, PasswordSource};
use bearerd::secret::Secret;
use bearerd::shutdown::Shutdown;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;
use uuid::Uuid;

/// The user name of the credential that is made for a run.
const USER: &str = "exec";
/// Variables by which systemd addresses the process that it has started.
pub(super) const OF_SYSTEMD: [&str; 7] = [
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];
/// The time that the sidecar has at least until it listens.
const START: Duration = Duration::from_secs(10);
/// The longest announcement.
const LONGEST: u64 = 64 * 1024;
/// The longest time that the sidecar has to end.
const END: Duration = Duration::from_secs(5);
/// A free port of the machine's own address.
const FREE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What the sidecar prints when it listens.
#[derive(Serialize, Deserialize)]
pub(in crate::cli) struct Announcement {
    /// Where the tool connects, in the order of `listen`.
    pub(super) addresses: Vec<SocketAddr>,
    /// The user and the password that were made for this run.
    pub(super) credential: Option<(String, String)>,
    pub(super) admin: SocketAddr,
    /// The variables that the configuration refers to. The tool must not get them.
    pub(super) references: BTreeSet<String>,
}

impl Announcement {
    pub(in crate::cli) fn of(app: &App, config: &Config) -> anyhow::Result<Self> {
        let credential = config.access.basic.as_ref().and_then(|basic| match &basic.password {
            PasswordSource::Generated(password) => {
                Some((basic.username.clone(), password.expose().to_owned()))
            }
            PasswordSource::File(_) => None,
        });
        let addresses = app.addresses().into_iter().filter_map(|address| match address {
            ListenAddress::Tcp(address) => Some(address),
            ListenAddress::Unix(_) => None,
        });
        Ok(Self {
            addresses: addresses.collect(),
            credential,
            admin: app.admin_address()?,
            references: config.references.clone(),
        })
    }

    /// The URLs for the tool, with the credential if there is one.
    pub(super) fn urls(&self) -> impl Iterator<Item = String> {
        let credential = self.credential.as_ref();
        let user = credential.map(|(user, password)| format!("{user}:{password}@"));
        let user = user.unwrap_or_default();
        self.addresses.iter().map(move |address| format!("http://{user}{address}"))
    }

    /// The announcement as a line.
    pub(in crate::cli) fn line(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }
}

/// Makes a configuration serve one tool: on free ports, and with a credential of its own if one is
/// wanted.
pub(in crate::cli) fn adapt(config: &mut Config, credential: bool) -> anyhow::Result<()> {
    for address in &mut config.listen {
        if let ListenAddress::Tcp(address) = address {
            // Tenants on addresses of their own stay apart: cookies are for an address.
            let ip = if address.ip().is_loopback() { address.ip() } else { FREE.ip() };
            *address = SocketAddr::new(ip, FREE.port());
        }
    }
    ensure!(
        config.listen.iter().any(|address| matches!(address, ListenAddress::Tcp(_))),
        "`listen` has no TCP address; exec needs one, so that the tool gets a URL"
    );
    config.admin = AdminListener::cleartext(FREE);
    // The tool is on this machine, and need not trust the listener's authority.
    config.tls.clear();
    let has_credentials = config.asks_for_credentials();
    let access = &mut config.access;
    for address in &config.listen {
        let ListenAddress::Tcp(address) = address else { continue };
        let name = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        if !access.hosts.contains(&name) {
            access.hosts.push(name);
        }
    }
    if credential {
        ensure!(
            !has_credentials,
            "the configuration has local credentials, one of which the tool has to send; leave out --credential, or remove callers, access.basic and access.api_key_file"
        );
        // Both come from the system's random numbers.
        let password = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        access.basic = Some(BasicAccess {
            username: USER.to_owned(),
            password: PasswordSource::Generated(Secret::new(password)),
        });
    }
    Ok(())
}

/// Stops the sidecar when its parent has ended, however it ended.
pub(in crate::cli) fn stop_at_end_of_input(shutdown: Shutdown) -> io::Result<()> {
    thread::Builder::new().name("input".to_owned()).spawn(move || {
        // Nothing is ever sent.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        // No caller is left.
        shutdown.forced.cancel();
        shutdown.requested.cancel();
    })?;
    Ok(())
}

/// A sidecar that runs.
pub(super) struct Sidecar {
    child: Child,
    /// Its standard input, apart from the child: waiting for a child would close it.
    input: Option<ChildStdin>,
}

impl Sidecar {
    /// Starts it, and returns what it announces; its exit code if it has ended instead. Then it has
    /// written why.
    pub(super) async fn start(
        options: &ExecOptions,
    ) -> anyhow::Result<Result<(Self, Announcement), ExitCode>> {
        let program = std::env::current_exe().context("the path of bearerd is not known")?;
        let mut command = Command::new(program);
        command.args(["run", "--for-exec"]);
        if let Some(config) = &options.config {
            // One argument: a file may be named like a flag.
            let mut argument = OsString::from("--config=");
            argument.push(config);
            command.arg(argument);
        }
        let level = options.log_level.as_deref();
        if let Some(level) = level.or_else(|| options.log_file.is_none().then_some("warn")) {
            command.args(["--log-level", level]);
        }
        if options.credential {
            command.arg("--credential");
        }
        if let Some(file) = &options.log_file {
            let log = OpenOptions::new().append(true).create(true).open(file);
            let log = log.with_context(|| format!("cannot write the log to {}", file.display()))?;
            command.stderr(log);
        }
        // systemd started another process.
        for variable in OF_SYSTEMD {
            command.env_remove(variable);
        }
        // Signals of a terminal are for the tool, which may still need the sidecar.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("the sidecar cannot be started")?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            let mut output = BufReader::new(output.take(LONGEST));
            let limit = options.timeout.max(START);
            timeout(limit, output.read_line(&mut line)).await.with_context(|| {
                let limit = humantime::format_duration(limit);
                format!("the sidecar did not listen within {limit}, so the tool was not started; run `bearerd check` with the same configuration")
            })??;
        }
        let Ok(announcement) = serde_json::from_str(&line) else {
            let code = exit_code(child.wait().await?);
            if let Some(file) = &options.log_file {
                super::print_error(&format!("The sidecar has ended; {} says why.", file.display()));
            }
            return Ok(Err(code));
        };
        let input = child.stdin.take();
        Ok(Ok((Self { child, input }, announcement)))
    }

    /// Resolves when the sidecar has ended by itself.
    pub(super) async fn ended(&mut self) -> ExitCode {
        self.child.wait().await.map_or(ExitCode::FAILURE, exit_code)
    }

    /// Ends the sidecar.
    pub(super) async fn stop(mut self) {
        drop(self.input.take());
        if timeout(END, self.child.wait()).await.is_err() {
            // Nothing is left to be done if it fails.
            let _ = self.child.kill().await;
        }
    }
}

/// The exit code of a sidecar that has ended too early, which is a failure in any case.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.filter(|code| *code != 0).map_or(ExitCode::FAILURE, ExitCode::from)
}
