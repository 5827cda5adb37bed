//! The tool: its environment and its end.

use super::ExecOptions;
use super::sidecar::{Announcement, OF_SYSTEMD};
use bearerd::config;
use bearerd::environment::Environment;
use rustix::io::Errno;
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use tokio::process::{Child, Command};

/// The folder where systemd puts the secrets of a service.
const SECRETS: &str = "CREDENTIALS_DIRECTORY";
/// The variables that exempt hosts from a forward proxy. Tools read the one or the other.
const EXEMPT: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// Variables that hold no secret, and that tools need even if the configuration refers to them.
const KEPT: [&str; 10] =
    ["HOME", "LANG", "LOGNAME", "PATH", "PWD", "SHELL", "TERM", "TMPDIR", "TZ", "USER"];
/// The codes of shells for a tool that is not found, and for one that can't be executed.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
/// What shells add to the number of the signal that has ended a process.
const SIGNALLED: i32 = 128;

/// A tool that can't be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {}: {error}{}", name.display(), advice(error))]
pub(super) struct StartError {
    name: OsString,
    error: io::Error,
}

/// What to do about a tool that can't be started, where the error does not say it.
fn advice(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::NOEXEC) => "; a script needs `#!/bin/sh` as its first line",
        _ => "",
    }
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
    let hosts = loopback(announcement);
    for variable in EXEMPT {
        command.env(variable, with(&hosts, environment.get(variable).or(exempt)));
    }
    let mut places = Vec::new();
    for (index, url) in announcement.urls().enumerate() {
        let suffix = if index == 0 { String::new() } else { format!("_{}", index + 1) };
        command.env(format!("BEARERD_URL{suffix}"), &url);
        places.push((format!("{{url{suffix}}}"), url));
    }
    if let Some((user, password)) = &announcement.credential {
        command.env("BEARERD_USER", user).env("BEARERD_PASSWORD", password);
    }
    for (name, value) in &options.env {
        let fill = |value: String, (place, url): &(String, String)| value.replace(place, url);
        command.env(name, places.iter().fold(value.clone(), fill));
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
    let referenced = referenced.filter(|name| !KEPT.contains(name));
    configured.chain(ours).chain(referenced)
}

/// The names of the sidecar's addresses.
fn loopback(announcement: &Announcement) -> String {
    let mut names = vec![IpAddr::V4(Ipv4Addr::LOCALHOST).to_string(), "localhost".to_owned()];
    for address in &announcement.addresses {
        let name = address.ip().to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(",")
}

/// These hosts, after those that need no forward proxy already.
fn with(hosts: &str, known: Option<&str>) -> String {
    match known {
        None => hosts.to_owned(),
        Some("*") => "*".to_owned(),
        Some(known) => format!("{known},{hosts}"),
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
