//! The configuration: file, environment and flags, parsed and checked.
//!
//! The text of a file becomes a `node` tree. `overrides` replaces values by those of the
//! environment and the flags. `read` walks the tree by the tables of `file` into a [`Draft`] and
//! reports every [`Fault`] at once. Until then, nothing but text is used. [`Draft::resolve`] reads
//! the clients' keys that name an upstream's origin, and completes the [`Config`].

mod draft;
mod fault;
mod file;
mod model;
mod node;
mod overrides;
mod read;
mod reference;
mod schema;
mod section;
mod value;

pub use draft::Draft;
pub use fault::{Fault, Faults, Place};
pub use model::{
    Access, BasicAccess, Client, Config, InFlightLimits, Limits, ListenerId, Log, LogFormat,
    PasswordSource, Retry, Route, ShutdownTimes, Timeouts, TlsVersion, Transport, Upstream,
};
pub use overrides::{Flags, unknown_variables, variables};
pub use reference::reference;
pub use schema::schema;
pub use value::ListenAddress;

use crate::environment::Environment;
use std::path::{Path, PathBuf};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read {}: {source}; {}", path.display(), unreadable_advice(source))]
    Unreadable {
        /// The path as given.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The content is wrong.
    #[error(transparent)]
    Faults(#[from] Faults),
}

/// What to do about a configuration file that can't be read.
fn unreadable_advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => "give the path of a configuration file with --config",
        std::io::ErrorKind::PermissionDenied => {
            "let this user read the file and enter its folders, or run the command as the file's owner"
        }
        _ => "give the path of a text file in UTF-8",
    }
}

/// Parses the text of a file, and reads nothing else. `name` is used in messages only.
pub fn parse(name: &str, text: &str, environment: &Environment, flags: &Flags) -> Draft {
    let is_empty = text.trim().is_empty();
    let parsed = if is_empty { Ok(node::Node::empty_map()) } else { node::parse(name, text) };
    match parsed {
        Ok(mut tree) => {
            let mut faults = Faults::default();
            let references = tree.references();
            overrides::apply(&mut tree, environment, flags, &mut faults);
            let mut draft = read::draft(&tree, environment, faults);
            if let Some(config) = &mut draft.rest {
                config.references = references;
            }
            draft
        }
        Err(faults) => Draft::of_faults(faults),
    }
}

/// Loads a configuration from a file. Without a file, loads it from the environment alone.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(
    file: Option<&Path>,
    environment: &Environment,
    flags: &Flags,
) -> Result<Config, ConfigError> {
    let text = match file {
        Some(path) => crate::files::read_small(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?,
        None => String::new(),
    };
    let name = file.map_or_else(String::new, |path| path.display().to_string());
    Ok(parse(&name, &text, environment, flags).resolve()?)
}
