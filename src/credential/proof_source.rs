//! Configured location of a client's proof, where each part of an identity has a key of its own.

use super::identity::{Proof, SecretAuth};
use crate::secret::Secret;
use crate::secret_file::{CertificateFiles, SecretFileError, read_pem, read_secret, shown};
use std::path::{Path, PathBuf};

/// Where the proof of a client is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum ProofSource {
    /// A secret in the configuration itself, or in the environment.
    Secret(SecretAuth, Secret),
    /// A secret in a file.
    SecretFile {
        /// How it is sent.
        auth: SecretAuth,
        /// The file with the secret in use.
        current: PathBuf,
        /// The file with its successor, which need not exist yet.
        next: Option<PathBuf>,
    },
    /// A certificate chain and its private key.
    Certificate(CertificateFiles),
    /// A key that signs assertions.
    SigningKey {
        /// The file of the private key, PEM.
        file: PathBuf,
        /// The id of the key at the issuer (`kid`).
        id: Option<String>,
    },
}

impl ProofSource {
    /// Reads the proof.
    pub(super) fn read(&self) -> Result<Proof, SecretFileError> {
        Ok(match self {
            Self::Secret(auth, secret) => {
                Proof::Secret { auth: *auth, current: secret.clone(), next: None }
            }
            Self::SecretFile { auth, current, next } => {
                let next = next.as_deref().map(read_next).transpose()?.flatten();
                Proof::Secret { auth: *auth, current: read_secret(current)?, next }
            }
            Self::Certificate(files) => Proof::Certificate(files.read()?),
            Self::SigningKey { file, id } => {
                Proof::SigningKey { key: read_pem(file)?, id: id.clone() }
            }
        })
    }

    /// The files that can change.
    pub(super) fn paths(&self) -> Vec<&Path> {
        match self {
            Self::Secret(..) => Vec::new(),
            Self::SecretFile { current, next, .. } => {
                std::iter::once(current).chain(next).map(PathBuf::as_path).collect()
            }
            Self::Certificate(files) => files.paths().into(),
            Self::SigningKey { file, .. } => vec![file],
        }
    }

    /// The proof and its location in words.
    pub(super) fn description(&self) -> String {
        match self {
            Self::Secret(auth, _) => {
                format!("a secret from the configuration or environment, {}", auth.description())
            }
            Self::SecretFile { auth, current, .. } => {
                format!("the secret in {}, {}", shown(current), auth.description())
            }
            Self::Certificate(files) => {
                format!("the certificate in {}", files.certificate.display())
            }
            Self::SigningKey { file, .. } => format!("assertions signed with {}", file.display()),
        }
    }
}

/// Reads the successor of a secret. A file that is missing or empty holds none yet.
fn read_next(path: &Path) -> Result<Option<Secret>, SecretFileError> {
    if !path.exists() {
        return Ok(None);
    }
    match read_secret(path) {
        Err(SecretFileError::Empty { .. }) => Ok(None),
        read => read.map(Some),
    }
}
