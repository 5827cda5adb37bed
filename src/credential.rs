//! What proves an OAuth client to its issuer, and how it is read.

use crate::secret::Secret;
use std::io;
use std::path::{Path, PathBuf};

/// A client secret, or where to find it.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Given in the configuration or the environment.
    Secret(Secret),
    /// In a file, read anew for every token request.
    SecretFile(PathBuf),
}

/// A secret file that can't be used. The message names the file, never its content.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file can't be read.
    #[error("cannot read the client secret from {}: {source}; check the path and its permissions", path.display())]
    Unreadable {
        /// The configured path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file holds nothing but line breaks.
    #[error("the client secret file {} is empty; write the secret into it", path.display())]
    Empty {
        /// The configured path.
        path: PathBuf,
    },
}

impl Credential {
    /// The secret as it stands now.
    ///
    /// # Errors
    /// The file is missing, unreadable, not UTF-8 or empty.
    pub fn read(&self) -> Result<Secret, CredentialError> {
        match self {
            Self::Secret(secret) => Ok(secret.clone()),
            Self::SecretFile(path) => read_file(path),
        }
    }
}

/// Reads a file that holds one secret. Editors and `echo` end it with a line break; no secret does.
fn read_file(path: &Path) -> Result<Secret, CredentialError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| CredentialError::Unreadable { path: path.to_owned(), source })?;
    let whole = Secret::new(text);
    let secret = whole.expose().trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(CredentialError::Empty { path: path.to_owned() });
    }
    Ok(Secret::new(secret.to_owned()))
}
