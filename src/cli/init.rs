//! `bearerd init`: asks for the values of the OAuth client, writes a configuration and the secret,
//! and offers to try them.

mod answers;
mod files;
mod questions;

use super::default_file;
use super::doctor::{DoctorOptions, doctor};
use anyhow::{Context, bail};
use bearerd::environment::Environment;
use clap::Args;
use questions::Questions;
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct InitOptions {
    /// The file to write. The secret goes beside it, into client_secret. The default is
    /// /etc/bearerd/bearerd.yaml for root, and ./bearerd.yaml for other users.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn init(options: InitOptions, environment: &Environment) -> anyhow::Result<()> {
    let target = files::Target::of(options.config.unwrap_or_else(default_file::to_write));
    let questions = Questions::on_terminal();
    let existing = target.existing();
    if !existing.is_empty()
        && !questions.confirm(&format!("{} exists. Replace it?", existing.join(" and ")), false)?
    {
        bail!("nothing was written; name another file with --config");
    }
    let answers = answers::ask(&questions, environment)?;
    let written = target.write(&answers).context("nothing else was written")?;
    questions.say(&format!("Wrote {}.", written.join(" and ")));
    if questions.are_on_terminal()
        && questions.confirm("Try it now with `bearerd doctor`?", true)?
    {
        doctor(&DoctorOptions::of_file(target.config().to_owned()), environment)?;
    } else {
        questions.say(&format!("Try it: bearerd doctor --config {}", target.config().display()));
    }
    questions.say(&format!("Start it: {}", target.start_command()));
    Ok(())
}
