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
use files::Target;
use questions::Questions;
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct InitOptions {
    /// The file to write. The secret goes into a file beside it. The default is
    /// /etc/bearerd/bearerd.yaml for root, and ./bearerd.yaml for other users.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn init(options: InitOptions, environment: &Environment) -> anyhow::Result<()> {
    let target = Target::of(options.config.unwrap_or_else(default_file::to_write))?;
    let questions = Questions::on_terminal();
    if let Some(existing) = target.existing() {
        let question = format!("{existing} already. Replace (the old content goes to .bak)?");
        if !questions.confirm(&question, false)? {
            bail!("nothing was written; name a file in another folder with --config");
        }
    }
    let answers = answers::ask(&questions, environment)?;
    target.check(&answers, environment).context("nothing was written")?;
    let written = target.write(&answers).context("cannot finish")?;
    questions.say(&format!("Wrote {}.", written.join(" and ")));
    let file = target.shown();
    if questions.are_on_terminal()
        && questions.confirm("Try it now with `bearerd doctor`?", true)?
    {
        let tried = doctor(&DoctorOptions::of_file(target.config().to_owned()), environment);
        tried.with_context(|| {
            format!("correct {file}, and try again: bearerd doctor --config {file}")
        })?;
    } else {
        questions.say(&format!("Try it: bearerd doctor --config {file}"));
    }
    questions.say(&format!("Start it: {}", target.start_command()));
    Ok(())
}
