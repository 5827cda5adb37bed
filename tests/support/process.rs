//! The binary in a process of its own: signals, exit codes, memory, output.

use super::hosts_file::HostsFile;
use super::sidecar::Endpoints;
use super::{DEADLINE, eventually, http_builder, tls};
use bearerd::demo::TenantOptions;
use std::fmt::Display;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// The path of a tool that `scripts/setup.sh` has fetched, or the system's.
pub(crate) fn tool(name: &str) -> PathBuf {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin").join(name);
    if fetched.exists() { fetched } else { name.into() }
}

pub(crate) fn bearerd() -> Command {
    starting(env!("CARGO_BIN_EXE_bearerd"))
}

/// A command that becomes bearerd with mounts of its own, after this script, whose `$0` is the
/// argument.
pub(crate) fn bearerd_after(script: &str, argument: &Path) -> Command {
    let plain = bearerd();
    let mut command = starting("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg(format!(r#"{script} && exec "$@""#))
        .args([argument.as_os_str(), plain.as_std().get_program()]);
    command
}

/// A command with an empty environment. Its process is killed on drop.
pub(crate) fn starting(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().kill_on_drop(true).stdin(Stdio::null());
    command
}

/// A command that becomes bearerd with this limit of open files.
pub(crate) fn with_files(most: u32) -> Command {
    let plain = bearerd();
    let mut command = starting("prlimit");
    command.arg(format!("--nofile={most}:{most}")).arg(plain.as_std().get_program());
    command
}

/// Runs a command to its end.
pub(crate) async fn output(command: &mut Command) -> Output {
    timeout(DEADLINE, command.output()).await.expect("the command ends in time").unwrap()
}

/// Writes a configuration and returns its path. The log level is `trace` if it sets no other.
pub(crate) fn written(folder: &Path, yaml: &(impl Display + ?Sized)) -> PathBuf {
    let config = folder.join("bearerd.yaml");
    let yaml = yaml.to_string();
    let level = if yaml.contains("log:") { "" } else { "log: { level: trace }\n" };
    std::fs::write(&config, format!("{yaml}\n{level}")).unwrap();
    config
}

/// The URL of the address in a log line with this message.
pub(crate) fn address(line: &str, message: &str) -> Option<String> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    let is_it = event.get("message")? == message;
    is_it.then_some(format!("http://{}", event.get("address")?.as_str()?))
}

pub(crate) async fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status().await.unwrap();
    assert!(sent.success());
}

/// A running sidecar with its log in a file.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
    endpoints: Endpoints,
}

impl Process {
    /// Starts `bearerd run` and waits until it listens. `folder` takes the configuration and the
    /// log.
    pub(crate) async fn start(folder: &Path, yaml: &(impl Display + ?Sized)) -> Self {
        Self::start_by(bearerd(), folder, yaml).await
    }

    /// Starts it with these environment variables.
    pub(crate) async fn start_in(
        folder: &Path,
        yaml: &(impl Display + ?Sized),
        environment: &[(&str, &str)],
    ) -> Self {
        let mut command = bearerd();
        command.envs(environment.iter().copied());
        Self::start_by(command, folder, yaml).await
    }

    /// Starts it with a configuration file that exists. `folder` takes the log.
    pub(crate) async fn start_with_file(folder: &Path, config: &Path) -> Self {
        Self::spawn(bearerd(), folder, config).await
    }

    /// Starts it with a hosts file of its own and a configuration file that exists.
    pub(crate) async fn start_among(hosts: &HostsFile, folder: &Path, config: &Path) -> Self {
        Self::spawn(hosts.bearerd(), folder, config).await
    }

    /// Starts it by a command that becomes bearerd.
    pub(crate) async fn start_by(
        command: Command,
        folder: &Path,
        yaml: &(impl Display + ?Sized),
    ) -> Self {
        Self::spawn(command, folder, &written(folder, yaml)).await
    }

    async fn spawn(mut command: Command, folder: &Path, config: &Path) -> Self {
        let log = folder.join("log");
        let yaml = String::from_utf8_lossy(&std::fs::read(config).unwrap()).into_owned();
        let child = command
            .args(["run", "--config"])
            .arg(config)
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        // A new connection for each request: a kept one would use up a file of the process.
        let http = http_builder().pool_max_idle_per_host(0).build().unwrap();
        let mut process =
            Self { child, log, endpoints: Endpoints::new(String::new(), String::new(), http) };
        eventually("listening", async || {
            match (process.address("Listening."), process.address("Admin is listening.")) {
                (Some(url), Some(admin)) => {
                    let listener = url.strip_prefix("http://").and_then(|it| it.parse().ok());
                    let scheme = listener.map_or("http", |it| tls::scheme(it, &yaml));
                    let url = url.replace("http://", &format!("{scheme}://"));
                    (process.endpoints.url, process.endpoints.admin) = (url, admin);
                    true
                }
                _ => false,
            }
        })
        .await;
        process
    }

    /// The complete lines of the log.
    pub(crate) fn log(&self) -> String {
        let mut log = std::fs::read_to_string(&self.log).unwrap();
        log.truncate(log.rfind('\n').map_or(0, |end| end + 1));
        log
    }

    /// Waits until the log has this text. The log is written in the background, and may come after
    /// what else shows the event.
    pub(crate) async fn logged(&self, text: &str) {
        eventually(text, async || self.log().contains(text)).await;
    }

    fn address(&self, message: &str) -> Option<String> {
        self.log().lines().find_map(|line| address(line, message))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("the process runs")
    }

    pub(crate) async fn signal(&self, name: &str) {
        signal(self.pid(), name).await;
    }

    /// Waits for the end and returns the exit code.
    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        timeout(DEADLINE, self.child.wait())
            .await
            .expect("the process ends in time")
            .unwrap()
            .code()
    }

    /// Whether the process ends within this time.
    pub(crate) async fn ends_within(&mut self, limit: Duration) -> bool {
        timeout(limit, self.child.wait()).await.is_ok()
    }

    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// The peak of resident memory in KiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// Resident memory without pages of files, in KiB.
    pub(crate) fn anonymous_memory(&self) -> u64 {
        self.memory("RssAnon:")
    }

    fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Deref for Process {
    type Target = Endpoints;

    fn deref(&self) -> &Endpoints {
        &self.endpoints
    }
}

/// Checks that the log of every test is free of secrets, tokens, cookies and queries.
impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let log = self.log();
        let secret = TenantOptions::default().client_secret;
        for marker in
            [&*secret, "eyJ", "steady-token", "s3cret", "demo-csrf-", "demo-session-", "$top="]
        {
            let place = log.find(marker).map(|at| &log[at.saturating_sub(200)..at]);
            assert_eq!(place, None, "{marker} is in the log");
        }
    }
}
