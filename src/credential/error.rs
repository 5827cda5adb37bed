//! Errors of reading a credential.

use super::folder::ReadError;
use super::format::FormatError;
use crate::blocking::BlockingError;
use crate::secret_file::SecretFileError;

/// A credential that can't be read. Messages name its location, never its content.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file with a secret, a certificate or a key can't be used.
    #[error(transparent)]
    SecretFile(#[from] SecretFileError),
    /// The credential was not read in time, or not at all.
    #[error("cannot read {location} now: {source}")]
    NotRead {
        /// The configured location.
        location: String,
        /// Why.
        source: BlockingError,
    },
    /// The key's file or folder can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The content is not a key that bearerd understands.
    #[error("{location}: {source}")]
    Format {
        /// The configured location.
        location: String,
        /// What is wrong with it.
        source: FormatError,
    },
    /// The key's token endpoint can't be used.
    #[error("{location}: the token URL {reason}")]
    TokenUrl {
        /// The configured location.
        location: String,
        /// What is wrong with it.
        reason: String,
    },
}
