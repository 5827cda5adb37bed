//! `bearerd exec`: runs a tool with a sidecar of its own.
//!
//! The sidecar is a child process: it enters the sandbox, while the tool keeps its rights and
//! limits. This process reads no secret. It holds those of its environment, and keeps them from the
//! tool.

mod sidecar;
mod signals;
mod tool;

pub(super) use sidecar::{Announcement, adapt, stop_at_end_of_input};

use super::print_error;
use bearerd::config::AdminListener;
use bearerd::environment::Environment;
use bearerd::probe::{self, NotReady};
use clap::Args;
use sidecar::Sidecar;
use signals::Signals;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime::Builder;

#[derive(Args)]
pub(super) struct ExecOptions {
    /// The configuration file. Without one, BEARERD_* variables are enough; without those,
    /// ./bearerd.yaml (not for root) or /etc/bearerd/bearerd.yaml is used.
    #[arg(short, long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The longest time to wait for the token.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Set a variable of the tool; {url} stands for the sidecar's URL, {url_2} for that of the
    /// second address in `listen`. BEARERD_URL is always set.
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Require a user and a password, made for this run: for machines that others share. They are
    /// in {url}, and in BEARERD_USER and BEARERD_PASSWORD.
    #[arg(long)]
    credential: bool,
    /// Append the sidecar's log to this file. Without one, only its warnings are written, to
    /// standard error.
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// error, warn, info, debug or trace (`log.level`).
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// The tool and its arguments.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "TOOL"
    )]
    command: Vec<OsString>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => is_placeholder(value)
            .then(|| (name.to_owned(), value.to_owned()))
            .ok_or_else(|| "write {url}, or {url_2} for the second address in `listen`".to_owned()),
        _ => Err("not in the form NAME=VALUE".to_owned()),
    }
}

/// Whether whatever begins like a placeholder is one.
fn is_placeholder(value: &str) -> bool {
    value.split("{url").skip(1).all(|rest| {
        let inner = rest.split_once('}').map(|(inner, _)| inner);
        inner.is_some_and(|inner| {
            inner.is_empty()
                || inner.strip_prefix('_').is_some_and(|number| number.parse::<u8>().is_ok())
        })
    })
}

pub(super) fn exec(options: &ExecOptions, environment: &Environment) -> anyhow::Result<ExitCode> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(run(options, environment));
    runtime.shutdown_background();
    code
}

async fn run(options: &ExecOptions, environment: &Environment) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let (mut sidecar, announcement) = tokio::select! {
        started = Sidecar::start(options) => match started? {
            Ok(serving) => serving,
            Err(code) => return Ok(code),
        },
        signal = signals.next() => return Ok(signals::exit_code(signal)),
    };
    let admin = AdminListener::cleartext(announcement.admin);
    let ready = tokio::select! {
        ready = probe::wait_unless_refused(&admin, options.timeout) => ready,
        signal = signals.next() => return Ok(signals::exit_code(signal)),
        code = sidecar.ended() => return Ok(code),
    };
    if let Err(reason) = ready {
        let reason = match reason {
            NotReady::NoAnswer(_) => "the sidecar does not answer".to_owned(),
            other => other.to_string(),
        };
        anyhow::bail!("there is no token, so the tool was not started: {reason}");
    }
    let mut tool = match tool::start(options, &announcement, environment) {
        Ok(tool) => tool,
        Err(failure) => {
            print_error(&failure.to_string());
            return Ok(failure.exit_code());
        }
    };
    let mut serves = true;
    let status = loop {
        tokio::select! {
            status = tool.wait() => break status?,
            signal = signals.next() => signals::forward(signal, &tool),
            _ = sidecar.ended(), if serves => {
                serves = false;
                print_error("The sidecar has stopped before the tool; the tool's further requests fail.");
            }
        }
    };
    sidecar.stop().await;
    Ok(tool::exit_code(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_placeholder_is_refused() {
        for good in ["A={url}", "A={url_2}/x", "A=x{y}", "A=", "A={url}{url_3}"] {
            assert!(variable(good).is_ok(), "{good}");
        }
        for bad in ["A={urll}", "A={url", "A={url_}", "A={url_x}", "A", "=x"] {
            assert!(variable(bad).is_err(), "{bad}");
        }
    }
}
