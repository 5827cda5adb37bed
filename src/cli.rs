//! The command line: what the user typed, which command runs, what the process ends with.

mod check;
mod demo;
mod doctor;
mod run;
mod token;

use bearerd::config::{self, Config, ConfigError, Flags, reference};
use bearerd::environment::Environment;
use bearerd::forward_proxy::ProxyChoice;
use bearerd::readable;
use bearerd::sandbox;
use clap::{Args, Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// `EX_USAGE`: the command line or the configuration is wrong.
const USAGE: u8 = 64;
/// Any other failure.
const FAILURE: u8 = 1;

/// OAuth for tools that know no OAuth: a token-injecting sidecar for SAP Datasphere.
#[derive(Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the sidecar until SIGTERM.
    Run(Settings),
    /// Parse the configuration and explain what it means. Nothing is sent anywhere.
    Check(Settings),
    /// Fetch one token and show what it says. The token itself is shown only with --raw.
    Token(token::Options),
    /// Try everything once, name, TLS, clock, token and one read a route, and give advice.
    Doctor(doctor::Options),
    #[command(about = demo::ABOUT)]
    Demo(demo::Options),
    /// Print the documented default configuration.
    Reference,
}

/// Where the configuration comes from. Flags win over the environment, and that over the file.
#[derive(Args)]
struct Settings {
    /// The configuration file; without one, BEARERD_* variables alone are read.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where applications connect (`listen`).
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where probes and Prometheus connect (`admin.listen`).
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// error, warn, info, debug or trace (`log.level`).
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl Settings {
    fn load(&self, environment: &Environment) -> Result<Config, ConfigError> {
        let flags = Flags {
            listen: self.listen.clone(),
            admin_listen: self.admin_listen.clone(),
            log_level: self.log_level.clone(),
        };
        config::load(self.config.as_deref(), environment, &flags)
    }
}

/// Parses the arguments and runs the command.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be told when the terminal itself is gone.
            let _ = error.print();
            return if error.use_stderr() { USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    // Before any secret is read; the environment is there already.
    for failure in sandbox::hide() {
        complain(&format!("warning: {failure}"));
    }
    let environment = Environment::of_process();
    let result = match cli.command {
        Command::Run(settings) => run::run(settings, &environment),
        Command::Check(settings) => check::check(&settings, &environment),
        Command::Token(options) => token::token(&options, &environment),
        Command::Doctor(options) => doctor::doctor(&options, &environment),
        Command::Demo(options) => demo::demo(&options),
        Command::Reference => print(&reference()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&whole(&error));
            exit_code(&error).into()
        }
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigError>() || error.is::<clap::Error>() { USAGE } else { FAILURE }
}

/// Writes to standard output; a reader that has gone away (`| head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(readable::lines(text).as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// An error with its causes, as far as it does not tell them itself.
fn whole(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match &*told {
        "" => cause,
        _ if told.contains(&cause) => told,
        _ => format!("{told}: {cause}"),
    })
}

/// Waits a moment only: a reader that stalls must not keep a process that has failed.
fn complain(text: &str) {
    const PATIENCE: Duration = Duration::from_secs(1);
    // There is nowhere else to complain to.
    let write = |text: &str| drop(writeln!(std::io::stderr().lock(), "{text}"));
    let (text, (told, is_told)) = (readable::lines(text).into_owned(), mpsc::channel());
    let line = text.clone();
    let complaining = thread::Builder::new().spawn(move || {
        write(&line);
        let _ = told.send(());
    });
    match complaining {
        Ok(_) => drop(is_told.recv_timeout(PATIENCE)),
        // That there is no thread may be what it is about.
        Err(_) => write(&text),
    }
}

/// One line for each variable that is set and means nothing, in whole or in part.
fn warn_of_unknown(environment: &Environment) {
    for name in config::unknown_variables(environment) {
        complain(&format!(
            "warning: environment variable {name} is set, but bearerd reads no such variable"
        ));
    }
    for why in ProxyChoice::skipped_exceptions(environment) {
        complain(&format!("warning: environment variable {why}"));
    }
}
