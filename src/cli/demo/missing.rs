//! `bearerd demo` in a build without the demo tenant.

use clap::Args;
use clap::error::ErrorKind;
use std::ffi::OsString;

pub(in crate::cli) const ABOUT: &str = "Start a demo tenant and a sidecar in front of it. \
    This build has no demo tenant: take bearerd from the .tar.gz or the .whl of the same release, \
    or run `make demo` in its source tree";

const MESSAGE: &str = "this build of bearerd has no demo tenant: take bearerd from the .tar.gz or the \
    .whl of the same release, or run `make demo` in its source tree";

/// The options of the real command, accepted so that the error is about the missing demo tenant.
#[derive(Args)]
pub(in crate::cli) struct DemoOptions {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    _ignored: Vec<OsString>,
}

pub(in crate::cli) fn demo(_: &DemoOptions) -> anyhow::Result<()> {
    Err(clap::Error::raw(ErrorKind::InvalidSubcommand, MESSAGE).into())
}

#[cfg(test)]
mod tests {
    use crate::cli::{Cli, Command, USAGE, exit_code};
    use clap::Parser;

    #[test]
    fn with_any_options_the_command_is_a_usage_error_that_says_how_to_get_the_demo_tenant() {
        for options in [&[][..], &["--once"], &["--listen", "127.0.0.1:1"]] {
            let arguments = [&["bearerd", "demo"][..], options].concat();
            let Command::Demo(options) = Cli::try_parse_from(&arguments).unwrap().command else {
                panic!("{arguments:?}");
            };
            let error = super::demo(&options).unwrap_err();
            assert_eq!(exit_code(&error), USAGE);
            assert!(error.to_string().contains("make demo"), "{error}");
        }
    }

    #[test]
    fn the_help_says_how_to_get_the_demo_tenant() {
        for arguments in [&["bearerd", "--help"][..], &["bearerd", "demo", "--help"]] {
            let help = Cli::try_parse_from(arguments).err().unwrap().to_string();
            assert!(help.contains("make demo"), "{help}");
        }
    }
}
