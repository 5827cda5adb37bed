//! The tool: its environment and its end.

use super::ExecOptions;
use super::sidecar::{Announcement, OF_SYSTEMD};
use bearerd::config;
use bearerd::environment::Environment;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use tokio::process::{Child, Command};

/// The folder where systemd puts the secrets of a service.
const SECRETS: &str = "CREDENTIALS_DIRECTORY";
/// The variables that exempt hosts from a forward proxy. Tools read the one or the other.
const EXEMPT: [&str; 2] = ["NO_PROXY", "no_proxy"];
const LOOPBACK: &str = "127.0.0.1,localhost";
/// The codes of shells for a tool that is not found, and for one that can't be executed.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
/// What shells add to the number of the signal that has ended a process.
const SIGNALLED: i32 = 128;

/// A tool that can't be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {}: {error}", name.display())]
pub(super) struct StartError {
    name: OsString,
    error: io::Error,
}

impl StartError {
    pub(super) fn exit_code(&self) -> ExitCode {
        match self.error.kind() {
            io::ErrorKind::NotFound => NOT_FOUND.into(),
            _ => NOT_EXECUTABLE.into(),
        }
    }
}

/// Starts the tool, with the sidecar's address in its environment and without any secret.
pub(super) fn start(
    options: &ExecOptions,
    announcement: &Announcement,
    environment: &Environment,
) -> Result<Child, StartError> {
    let (name, arguments) = options
        .command
        .split_first()
        .map_or_else(|| (OsString::new(), &[][..]), |(name, arguments)| (name.clone(), arguments));
    let mut command = Command::new(&name);
    command.args(arguments);
    for variable in hidden(announcement, environment) {
        command.env_remove(variable);
    }
    let exempt = EXEMPT.into_iter().find_map(|variable| environment.get(variable));
    for variable in EXEMPT {
        command.env(variable, with_loopback(environment.get(variable).or(exempt)));
    }
    let url = announcement.urls.first().map_or("", String::as_str);
    command.env("BEARERD_URL", url);
    for (index, url) in announcement.urls.iter().enumerate().skip(1) {
        command.env(format!("BEARERD_URL_{}", index + 1), url);
    }
    for (name, value) in &options.env {
        command.env(name, value.replace("{url}", url));
    }
    command.spawn().map_err(|error| StartError { name, error })
}

/// The variables that the tool must not get.
fn hidden<'a>(
    announcement: &'a Announcement,
    environment: &'a Environment,
) -> impl Iterator<Item = &'a str> {
    let configured =
        config::variables().chain(OF_SYSTEMD).chain([SECRETS]).map(|name| -> &'a str { name });
    let ours = environment.names().filter(|name| name.starts_with("BEARERD_"));
    let referenced = announcement.references.iter().map(String::as_str);
    configured.chain(ours).chain(referenced)
}

/// The hosts that need no forward proxy, and the machine itself.
fn with_loopback(hosts: Option<&str>) -> String {
    match hosts {
        None => LOOPBACK.to_owned(),
        Some("*") => "*".to_owned(),
        Some(hosts) => format!("{hosts},{LOOPBACK}"),
    }
}

/// The exit code of the tool.
pub(super) fn exit_code(status: ExitStatus) -> ExitCode {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from),
        (None, Some(signal)) => code_of_signal(signal),
        (None, None) => ExitCode::FAILURE,
    }
}

/// The exit code of a process that this signal has ended.
pub(super) fn code_of_signal(signal: i32) -> ExitCode {
    u8::try_from(SIGNALLED + signal).map_or(ExitCode::FAILURE, ExitCode::from)
}
