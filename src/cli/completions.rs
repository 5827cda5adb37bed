//! `bearerd completions` and `bearerd man`: what shells and `man` know of the command line.

use super::Cli;
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::{Write, stdout};
use std::path::Path;

/// Prints the script that completes commands and flags in this shell.
pub(super) fn completions(shell: Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bearerd", &mut script);
    Ok(stdout().lock().write_all(&script)?)
}

/// Writes a man page of each command into this folder.
pub(super) fn man(folder: &Path) -> anyhow::Result<()> {
    Ok(clap_mangen::generate_to(Cli::command(), folder)?)
}
