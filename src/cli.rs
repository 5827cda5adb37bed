//! The command line: arguments, subcommands, exit codes.

mod allocator;
mod cert;
mod check;
mod completions;
mod default_file;
mod demo;
mod doctor;
mod exec;
mod init;
mod key;
mod run;
mod token;
mod version;
mod wait;

use bearerd::config::{self, Config, ConfigError, Flags, reference, schema};
use bearerd::environment::Environment;
use bearerd::forward_proxy::ProxyChoice;
use bearerd::readable;
use bearerd::sandbox;
use clap::{Args, Parser, Subcommand};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use url::Url;

/// Exit code for a wrong command line or configuration: `EX_USAGE`.
const USAGE: u8 = 64;
/// Any other failure.
const FAILURE: u8 = 1;

/// Shown below the list of commands.
const AFTER_HELP: &str = "\
Examples:
  bearerd init
  bearerd check --config bearerd.yaml
  bearerd run --config bearerd.yaml
  bearerd exec --config bearerd.yaml -- ./nightly-export.sh

Exit codes: 0 success, 1 failure, 64 a wrong command line or configuration. `exec` ends with the code of the
tool: 127 if there is no tool of that name, 126 if it cannot be started, 128 and more if a signal ended it.";

/// OAuth for tools that know no OAuth: a token-injecting sidecar for SAP Datasphere.
#[derive(Parser)]
#[command(version, propagate_version = true, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Ask for the values of the OAuth client and write a configuration.
    Init(init::InitOptions),
    /// Run the sidecar until SIGTERM.
    Run(run::RunOptions),
    /// Run a tool with a sidecar of its own, which ends with the tool.
    Exec(exec::ExecOptions),
    /// Wait until the sidecar that runs with this configuration is ready.
    Wait(wait::WaitOptions),
    /// Parse the configuration and explain what it means. Nothing is sent anywhere.
    Check(Settings),
    /// Fetch one token and show what it says. The token itself is shown only with --raw.
    Token(token::TokenOptions),
    /// Try everything once (names, TLS, clock, token, one read for each route) and give advice.
    Doctor(doctor::DoctorOptions),
    #[command(about = demo::ABOUT)]
    Demo(demo::DemoOptions),
    /// Make a certificate for a listener, from a private authority for the names in access.hosts.
    Cert(cert::CertOptions),
    /// Print a random key for a caller with a name.
    Key(key::KeyOptions),
    /// Print the documented default configuration.
    Reference,
    /// Print the JSON Schema of the configuration, for editors and linters.
    Schema,
    /// Print the script that completes commands and flags in a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write a man page of each command into a folder.
    #[command(hide = true)]
    Man {
        /// The folder, which exists.
        folder: PathBuf,
    },
    /// Print version, commit and features.
    Version,
}

impl Command {
    /// The path of the configuration file, for a command that has one.
    const fn config_mut(&mut self) -> Option<&mut Option<PathBuf>> {
        match self {
            Self::Run(options) => Some(&mut options.settings.file.config),
            Self::Exec(options) => Some(&mut options.config),
            Self::Wait(options) => Some(&mut options.file.config),
            Self::Check(settings) => Some(&mut settings.file.config),
            Self::Token(options) => Some(&mut options.file.config),
            Self::Doctor(options) => Some(&mut options.file.config),
            Self::Cert(options) => Some(&mut options.config),
            Self::Init(_)
            | Self::Demo(_)
            | Self::Key(_)
            | Self::Reference
            | Self::Schema
            | Self::Completions { .. }
            | Self::Man { .. }
            | Self::Version => None,
        }
    }
}

/// The configuration file.
#[derive(Args)]
struct File {
    /// The configuration file. Without one, BEARERD_* variables are enough; without those,
    /// ./bearerd.yaml (not for root) or /etc/bearerd/bearerd.yaml is used.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl File {
    fn load(&self, environment: &Environment, flags: &Flags) -> Result<Config, ConfigError> {
        let config = config::load(self.config.as_deref(), environment, flags)?;
        for warning in &config.warnings {
            print_error(&format!("warning: {warning}"));
        }
        Ok(config)
    }
}

/// Where the configuration of a sidecar comes from. Flags override the environment, and the
/// environment overrides the file.
#[derive(Args)]
struct Settings {
    #[command(flatten)]
    file: File,
    /// Where applications connect (`listen`).
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where probes and Prometheus connect (`admin.listen`).
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// error, warn, info, debug or trace (`log.level`).
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// auto, json or text (`log.format`).
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl Settings {
    fn load(&self, environment: &Environment) -> Result<Config, ConfigError> {
        self.file.load(environment, &self.flags())
    }

    fn flags(&self) -> Flags {
        Flags {
            listen: self.listen.clone(),
            admin_listen: self.admin_listen.clone(),
            log_level: self.log_level.clone(),
            log_format: self.log_format.clone(),
        }
    }
}

/// Parses the arguments and runs the command.
pub(crate) fn main() -> ExitCode {
    let mut command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            // Without a terminal there is no way to report anything.
            let _ = error.print();
            return if error.use_stderr() { USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    // Before any secret is read, except those of the environment.
    let failures = match command {
        // The tool must not inherit a limit.
        Command::Exec(_) => sandbox::hide_memory().into_iter().collect(),
        _ => sandbox::hide(),
    };
    for failure in failures {
        print_error(&format!("warning: {failure}"));
    }
    let environment = Environment::of_process();
    // The output of a cron job is a mail.
    let is_quiet = matches!(command, Command::Exec(_)) && !std::io::stderr().is_terminal();
    if let Some(config @ None) = command.config_mut() {
        *config = default_file::find(&environment, is_quiet);
    }
    let done = |()| ExitCode::SUCCESS;
    let result = match command {
        Command::Init(options) => init::init(options, &environment).map(done),
        Command::Run(options) => run::run(options, &environment).map(done),
        Command::Exec(options) => exec::exec(&options, &environment),
        Command::Wait(options) => wait::wait(&options, &environment).map(done),
        Command::Check(settings) => check::check(&settings, &environment).map(done),
        Command::Token(options) => token::token(&options, &environment).map(done),
        Command::Doctor(options) => doctor::doctor(&options, &environment).map(done),
        Command::Demo(options) => demo::demo(&options).map(done),
        Command::Cert(options) => cert::cert(&options, &environment).map(done),
        Command::Key(options) => key::key(&options).map(done),
        Command::Reference => print(&reference()).map(done),
        Command::Schema => print(&schema()).map(done),
        Command::Completions { shell } => completions::completions(shell).map(done),
        Command::Man { folder } => completions::man(&folder).map(done),
        Command::Version => version::version().map(done),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            print_error(&whole(&error));
            exit_code(&error).into()
        }
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigError>() || error.is::<clap::Error>() { USAGE } else { FAILURE }
}

/// Writes to standard output. A reader that has closed the pipe (`| head`) is not an error.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(readable::lines(text).as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// The message of an error and of its causes. A cause that the message quotes already is left out.
fn whole(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match &*text {
        "" => cause,
        _ if text.contains(&cause) => text,
        _ => format!("{text}: {cause}"),
    })
}

/// The URL without its query, which may hold confidential values.
fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.into()
}

/// Writes to standard error, for a limited time: a reader that stalls must not keep a failed
/// process alive.
fn print_error(text: &str) {
    const TIME_LIMIT: Duration = Duration::from_secs(1);
    // A failure can't be reported anywhere else.
    let write = |text: &str| drop(writeln!(std::io::stderr().lock(), "{text}"));
    let (text, (done, is_done)) = (readable::lines(text).into_owned(), mpsc::channel());
    let line = text.clone();
    let writing = thread::Builder::new().spawn(move || {
        write(&line);
        let _ = done.send(());
    });
    match writing {
        Ok(_) => drop(is_done.recv_timeout(TIME_LIMIT)),
        // The message may be about the lack of threads.
        Err(_) => write(&text),
    }
}

/// Warns of each variable that is set but has no effect, in whole or in part.
fn warn_of_unknown(environment: &Environment) {
    for name in config::unknown_variables(environment) {
        print_error(&format!(
            "warning: environment variable {name} is set, but bearerd does not know it; correct its name, or remove it"
        ));
    }
    for why in ProxyChoice::skipped_exceptions(environment) {
        print_error(&format!("warning: environment variable {why}"));
    }
}
