//! The binary: parses the arguments, runs a command, ends with an exit code.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
