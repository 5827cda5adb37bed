//! The configuration: file, environment and flags, parsed and checked.
//!
//! The text of a file becomes a `node` tree. `overrides` replaces values by those of the
//! environment and the flags. `read` walks the tree by the tables of `file` into a [`Draft`] and
//! reports every [`Fault`] at once. Until then, nothing but text is used. [`Draft::resolve`] reads
//! the clients' keys that name an upstream's origin, and completes the [`Config`].

mod access;
mod audit;
mod caller;
mod client;
mod comment;
mod draft;
mod fault;
mod field;
mod file;
mod listener;
mod model;
mod node;
mod overrides;
mod read;
mod reference;
mod route;
mod schema;
mod section;
mod syntax;
mod transport;
mod upstream;
mod value;

pub use access::{Access, BasicAccess, PasswordSource};
pub use audit::{Audit, AuditTarget, OnAuditFailure};
pub use caller::{Caller, CallerId, CallerLimits, CertificateName, Rate, SubjectName, UNNAMED};
pub use client::Client;
pub use draft::Draft;
pub use fault::{Fault, Faults, Place};
pub use listener::{AdminListener, TlsSettings};
pub use model::{Config, Limits, Log, LogFormat, ShutdownTimes};
pub use overrides::{Flags, unknown_variables, variables};
pub use reference::reference;
pub use route::{Retry, Route, RouteRef};
pub use schema::schema;
pub use transport::Transport;
pub use upstream::{InFlightLimits, Timeouts, Upstream};
pub use value::{ListenAddress, ListenerId, TlsVersion};

use crate::environment::Environment;
use crate::files;
use std::path::{Path, PathBuf};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}", files::unreadable(&path.display().to_string(), path, cause))]
    Unreadable {
        /// The path as given.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// The content is wrong.
    #[error(transparent)]
    Faults(#[from] Faults),
}

/// Parses the text of a file, and reads nothing else. `name` is used in messages only.
pub fn parse(name: &str, text: &str, environment: &Environment, flags: &Flags) -> Draft {
    let is_empty = text.trim().is_empty();
    let parsed = if is_empty { Ok(node::Node::empty_map()) } else { node::parse(name, text) };
    match parsed {
        Ok(mut tree) => {
            let mut faults = Faults::default();
            let references = tree.references();
            let warnings = comment::in_secrets(text, &tree);
            overrides::apply(&mut tree, environment, flags, &mut faults);
            let mut draft = read::draft(&tree, environment, faults);
            if let Some(config) = &mut draft.rest {
                config.references = references;
                config.warnings.extend(warnings);
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
        Some(path) => files::read_small(path)
            .map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?,
        None => String::new(),
    };
    let name = file.map_or_else(String::new, |path| path.display().to_string());
    let resolved = parse(&name, &text, environment, flags).resolve();
    // Without a file, a person sets variables and knows no keys.
    let named =
        |faults: Faults| if file.is_none() { overrides::without_file(faults) } else { faults };
    Ok(resolved.map_err(named)?)
}
