//! What proves an OAuth client to its issuer, and how it is read.

use crate::secret::Secret;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// How long reading a secret may take.
pub const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest secret file, in bytes.
const MAX_SECRET: u64 = 64 * 1024;

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
    /// Reading takes too long.
    #[error("reading the client secret from {} takes too long; does its file system hang?", path.display())]
    Timeout {
        /// The configured path.
        path: PathBuf,
    },
    /// The file is no file, or no small one.
    #[error("the client secret file {} is not a file of at most 64 KiB; check the path", path.display())]
    NotASecret {
        /// The configured path.
        path: PathBuf,
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

    /// Like [`Credential::read`], beside the runtime and within [`READ_TIMEOUT`]: a network file
    /// system that hangs must not hold up anything else.
    ///
    /// # Errors
    /// Those of [`Credential::read`], and the time-out.
    pub async fn read_in_time(&self) -> Result<Secret, CredentialError> {
        let Self::SecretFile(path) = self else {
            return self.read();
        };
        let read = spawn_blocking({
            let credential = self.clone();
            move || credential.read()
        });
        match timeout(READ_TIMEOUT, read).await {
            Ok(Ok(read)) => read,
            Ok(Err(_)) | Err(_) => Err(CredentialError::Timeout { path: path.clone() }),
        }
    }
}

/// Reads a file that holds one secret. Editors and `echo` end it with a line break; no secret does.
fn read_file(path: &Path) -> Result<Secret, CredentialError> {
    let unreadable = |source| CredentialError::Unreadable { path: path.to_owned(), source };
    // A pipe would block; what is large is something else.
    let file = std::fs::metadata(path).map_err(unreadable)?;
    if !file.is_file() || file.len() > MAX_SECRET {
        return Err(CredentialError::NotASecret { path: path.to_owned() });
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let whole = Secret::new(text);
    let secret = whole.expose().trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(CredentialError::Empty { path: path.to_owned() });
    }
    Ok(Secret::new(secret.to_owned()))
}
