//! The command in a build without the feature.

use anyhow::bail;
use bearerd::environment::Environment;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(in crate::cli) struct CertOptions {
    #[arg(skip)]
    pub(in crate::cli) config: Option<PathBuf>,
    #[arg(hide = true, allow_hyphen_values = true, trailing_var_arg = true)]
    _ignored: Vec<String>,
}

pub(in crate::cli) fn cert(_: &CertOptions, _: &Environment) -> anyhow::Result<()> {
    bail!("this build makes no certificates; build bearerd with `--features cert`")
}
