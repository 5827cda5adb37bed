//! Files that hold one secret, or a certificate with its private key.

use crate::files::{is_of_windows, read_wiped, unreadable};
use crate::pem;
use crate::secret::Secret;
use crate::text::{self, NotText};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// A file with a secret that can't be used. Messages name the file, never its content.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// The file can't be read.
    #[error("{}", unreadable(&shown(path), path, cause))]
    Unreadable {
        /// The configured path.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// The path does not name a regular file, or the file is larger than a secret.
    #[error("{} {}", shown(path), not_a_secret(path))]
    NotASecret {
        /// The configured path.
        path: PathBuf,
    },
    /// The encoding of the file is unknown.
    #[error("{} {reason}", shown(path))]
    NotText {
        /// The configured path.
        path: PathBuf,
        /// What is wrong.
        reason: NotText,
    },
    /// The file holds nothing but line breaks.
    #[error("{} is empty; write the secret into it", shown(path))]
    Empty {
        /// The configured path.
        path: PathBuf,
    },
    /// No application could send this secret.
    #[error("{} {reason}", shown(path))]
    CannotBeSent {
        /// The configured path.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: &'static str,
    },
    /// The file holds several private keys. Only one of them fits the certificate.
    #[error(
        "{} holds several private keys; keep only the one that belongs to the certificate",
        shown(path)
    )]
    SeveralKeys {
        /// The configured path.
        path: PathBuf,
    },
}

/// What a path names that is no file with a secret.
fn not_a_secret(path: &Path) -> &'static str {
    if path.is_dir() {
        "is a folder; give the path of a file in it"
    } else {
        "is not a file of at most 64 KiB; check the path"
    }
}

/// A certificate and its private key, for a TLS client (RFC 8705).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateAndKey {
    /// The chain as PEM text, the client's own certificate first.
    pub chain: String,
    /// The private key as PEM text: PKCS#1, PKCS#8 or SEC 1.
    pub key: Secret,
}

/// The files of a certificate and its private key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The file of the certificate chain.
    pub certificate: PathBuf,
    /// The file of the private key.
    pub key: PathBuf,
}

impl CertificateFiles {
    /// Reads both files.
    ///
    /// # Errors
    /// A file can't be read, or the second one holds several private keys.
    pub fn read(&self) -> Result<CertificateAndKey, SecretFileError> {
        let (chain, key) = (read_pem(&self.certificate)?, read_pem(&self.key)?);
        let begins_key =
            |line: &&str| line.starts_with("-----BEGIN ") && line.contains("PRIVATE KEY");
        if key.expose().lines().filter(begins_key).count() > 1 {
            return Err(SecretFileError::SeveralKeys { path: self.key.clone() });
        }
        Ok(CertificateAndKey { chain: chain.expose().to_owned(), key })
    }

    /// The paths of both files.
    pub fn paths(&self) -> [&Path; 2] {
        [&self.certificate, &self.key]
    }
}

/// A path for messages. A text that does not look like a path is not shown: it may be a secret in
/// the wrong place.
pub(crate) fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    if text.contains('/') || is_of_windows(&text) {
        text
    } else {
        "the file that is named there (not shown)".to_owned()
    }
}

/// Reads a file of certificates, or of a key. A text without PEM sections is returned as it is, so
/// that the TLS library reports it.
pub(crate) fn read_pem(path: &Path) -> Result<Secret, SecretFileError> {
    let text = read_secret(path)?;
    let normal = pem::normal(text.expose());
    Ok(if normal.is_empty() { text } else { Secret::new(normal.to_string()) })
}

/// Reads a file that holds one secret. Line breaks at its end are removed: editors and `echo` add
/// one. A byte order mark and UTF-16 are understood, because programs of Windows write them.
pub(crate) fn read_secret(path: &Path) -> Result<Secret, SecretFileError> {
    let bytes = read_wiped(path).map_err(|source| match source.kind() {
        ErrorKind::InvalidInput | ErrorKind::FileTooLarge => {
            SecretFileError::NotASecret { path: path.to_owned() }
        }
        _ => SecretFileError::Unreadable { path: path.to_owned(), cause: source },
    })?;
    let whole = text::decode(&bytes)
        .map_err(|reason| SecretFileError::NotText { path: path.to_owned(), reason })?;
    let whole = Secret::new(whole.into_owned());
    let secret = whole.expose().trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(SecretFileError::Empty { path: path.to_owned() });
    }
    Ok(Secret::new(secret.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_same_in_every_encoding_that_editors_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let marked = "\u{feff}7d3f$gr\u{fc}n\r\n";
        let utf16 = |unit: fn(u16) -> [u8; 2]| marked.encode_utf16().flat_map(unit).collect();
        let encodings: [Vec<u8>; 4] = [
            "7d3f$gr\u{fc}n\n".into(),
            marked.into(),
            utf16(u16::to_le_bytes),
            utf16(u16::to_be_bytes),
        ];
        for bytes in encodings {
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(read_secret(&path).unwrap().expose(), "7d3f$gr\u{fc}n", "{bytes:?}");
        }
        std::fs::write(&path, b"gr\xfcn").unwrap();
        let message = read_secret(&path).unwrap_err().to_string();
        assert!(message.contains("secret is not UTF-8 text"), "{message}");
        std::fs::write(&path, b"\xff\xfe\n\0").unwrap();
        assert!(matches!(read_secret(&path), Err(SecretFileError::Empty { .. })));
    }

    #[test]
    fn of_several_private_keys_none_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let files = CertificateFiles {
            certificate: folder.path().join("crt"),
            key: folder.path().join("key"),
        };
        std::fs::write(&files.certificate, "-----BEGIN CERTIFICATE-----").unwrap();
        let one = "-----BEGIN EC PARAMETERS-----\n-----END EC PARAMETERS-----\n-----BEGIN EC PRIVATE KEY-----\nx\n-----END EC PRIVATE KEY-----\n";
        std::fs::write(&files.key, one).unwrap();
        assert!(files.read().is_ok());
        std::fs::write(&files.key, format!("{one}-----BEGIN PRIVATE KEY-----\n")).unwrap();
        let message = files.read().unwrap_err().to_string();
        assert!(message.contains("several private keys"), "{message}");
    }
}
