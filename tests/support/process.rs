//! The real binary as a process of its own: signals, exit codes, memory, output.

use super::hosts_file::HostsFile;
use super::{DEADLINE, eventually};
use bearerd::demo::TenantOptions;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// A tool that `scripts/setup.sh` has fetched, or the system's.
pub(crate) fn tool(name: &str) -> PathBuf {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin").join(name);
    if fetched.exists() { fetched } else { name.into() }
}

pub(crate) fn bearerd() -> Command {
    starting(env!("CARGO_BIN_EXE_bearerd"))
}

/// A program that knows nothing of the environment of the tests, and does not outlive them.
pub(crate) fn starting(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().kill_on_drop(true).stdin(Stdio::null());
    command
}

/// bearerd that may open so many files and no more. It keeps its process id.
pub(crate) fn with_files(most: u32) -> Command {
    let plain = bearerd();
    let mut command = starting("prlimit");
    command.arg(format!("--nofile={most}:{most}")).arg(plain.as_std().get_program());
    command
}

/// Runs a command that ends by itself.
pub(crate) async fn output(command: &mut Command) -> Output {
    timeout(DEADLINE, command.output()).await.expect("the command ends in time").unwrap()
}

/// The file of a configuration. It logs at the level where most is told, unless it says otherwise.
pub(crate) fn written(folder: &Path, yaml: &str) -> PathBuf {
    let config = folder.join("bearerd.yaml");
    let level = if yaml.contains("log:") { "" } else { "log: { level: trace }\n" };
    std::fs::write(&config, format!("{yaml}\n{level}")).unwrap();
    config
}

/// The address that a line of the log tells, if it has this message.
pub(crate) fn address(line: &str, message: &str) -> Option<String> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    let told = event.get("message")? == message;
    told.then_some(format!("http://{}", event.get("address")?.as_str()?))
}

pub(crate) async fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status().await.unwrap();
    assert!(sent.success());
}

/// A running sidecar; its log goes to a file.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
    pub(crate) url: String,
    pub(crate) admin: String,
}

impl Process {
    /// Starts `bearerd run` and waits until it listens. `folder` takes the configuration and the log.
    pub(crate) async fn start(folder: &Path, yaml: &str, arguments: &[&str]) -> Self {
        let config = written(folder, yaml);
        Self::start_with(folder, config.to_str().unwrap(), arguments).await
    }

    /// The same in an environment.
    pub(crate) async fn start_in(folder: &Path, yaml: &str, environment: &[(&str, &str)]) -> Self {
        let config = written(folder, yaml);
        let mut command = bearerd();
        command.envs(environment.iter().copied());
        Self::spawn(command, folder, config.to_str().unwrap(), &[]).await
    }

    /// The same among names of its own.
    /// The same with a file that is there. `folder` takes the log.
    pub(crate) async fn start_with(folder: &Path, config: &str, arguments: &[&str]) -> Self {
        Self::spawn(bearerd(), folder, config, arguments).await
    }

    /// The same among names of its own.
    pub(crate) async fn start_among(names: &HostsFile, folder: &Path, config: &str) -> Self {
        Self::spawn(names.bearerd(), folder, config, &[]).await
    }

    /// The same by a command that becomes bearerd.
    pub(crate) async fn start_by(command: Command, folder: &Path, yaml: &str) -> Self {
        let config = written(folder, yaml);
        Self::spawn(command, folder, config.to_str().unwrap(), &[]).await
    }

    async fn spawn(mut command: Command, folder: &Path, config: &str, arguments: &[&str]) -> Self {
        let log = folder.join("log");
        let child = command
            .args(["run", "--config", config])
            .args(arguments)
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut process = Self { child, log, url: String::new(), admin: String::new() };
        eventually("listening", async || {
            match (process.address("Listening."), process.address("Admin is listening.")) {
                (Some(url), Some(admin)) => {
                    (process.url, process.admin) = (url, admin);
                    true
                }
                _ => false,
            }
        })
        .await;
        process
    }

    /// The log's lines, as far as they are whole.
    pub(crate) fn log(&self) -> String {
        let mut log = std::fs::read_to_string(&self.log).unwrap();
        log.truncate(log.rfind('\n').map_or(0, |end| end + 1));
        log
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

    /// Waits for the end and tells the exit code.
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

    /// Resident memory in KiB: the highest so far.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// Whatever the test was about, no secret, token, cookie or query of its world is in the log.
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
