//! Trust anchors: the system's, and those in a `ca_file` in addition.
//!
//! The system's anchors are read from OpenSSL's locations, or from `SSL_CERT_FILE` and
//! `SSL_CERT_DIR`.

mod advice;
mod pinned;
mod plain;
mod verifier;

pub(crate) use advice::advice;
pub(crate) use pinned::PinnedVerifier;
pub(crate) use plain::plain;
pub(crate) use verifier::{Verifier, explanation};

use crate::environment::Environment;
use crate::files::{open_regular, read_small};
use crate::pem;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_native_certs::ErrorKind;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Reason why trust anchors can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file can't be read, or is not PEM.
    #[error("cannot read the certificates of {}: {reason}; ca_file needs PEM certificates", path.display())]
    Unreadable {
        /// The configured path.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system has no trust anchor, and there is no `ca_file`.
    #[error(
        "the system has no trust anchors, and there is no ca_file; set ca_file, or set SSL_CERT_FILE to a file of certificates"
    )]
    NoAnchors,
    /// Some of the system's anchors can't be read at the moment.
    #[error("the system's trust anchors cannot be read now: {0}")]
    System(String),
    /// The file holds no certificate.
    #[error("{} holds no certificate; ca_file needs PEM certificates", path.display())]
    Empty {
        /// The configured path.
        path: PathBuf,
    },
}

/// Reads the certificates of a PEM file. There is at least one, and each is a valid trust anchor.
///
/// # Errors
/// The file can't be read, is not PEM, holds no certificate, or holds an invalid one.
pub fn read_pem(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let unreadable = |reason: String| TrustError::Unreadable { path: path.to_owned(), reason };
    let text = read_small(path).map_err(|error| unreadable(error.to_string()))?;
    let certificates = CertificateDer::pem_slice_iter(pem::normal(&text).as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unreadable(error.to_string()))?;
    if certificates.is_empty() {
        return Err(TrustError::Empty { path: path.to_owned() });
    }
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store.add(certificate.clone()).map_err(|error| unreadable(error.to_string()))?;
    }
    Ok(certificates)
}

/// Reason why some of the system's trust anchors could not be read.
struct ReadFault {
    reason: String,
    /// Whether file descriptors or memory were exhausted, which may be temporary.
    is_shortage: bool,
}

impl ReadFault {
    fn new(reason: String, error: &io::Error) -> Self {
        let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
        let errno = Errno::from_io_error(error);
        let is_shortage = errno.is_some_and(|errno| shortages.contains(&errno));
        Self { reason, is_shortage }
    }
}

/// Reads the system's trust anchors. Returns the first fault too.
fn read_system() -> (SystemAnchors, Option<ReadFault>) {
    // The library would block on a pipe, so the file is opened here first.
    let file = Environment::of_process().get("SSL_CERT_FILE").map(PathBuf::from);
    if let Some(Err(error)) = file.as_deref().map(open_regular) {
        let fault = ReadFault::new(error.to_string(), &error);
        return (SystemAnchors::new(Vec::new(), false), Some(fault));
    }
    let read = rustls_native_certs::load_native_certs();
    let fault = read.errors.iter().find_map(|error| match &error.kind {
        ErrorKind::Io { inner, .. } => Some(ReadFault::new(error.to_string(), inner)),
        _ => None,
    });
    let mut anchors = read.certs;
    anchors.extend(file.as_deref().map(read_joined).unwrap_or_default());
    (SystemAnchors::new(anchors, read.errors.is_empty()), fault)
}

/// The system's trust anchors at one point in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SystemAnchors {
    anchors: Vec<CertificateDer<'static>>,
    /// Whether every anchor of the system was read and is valid.
    is_complete: bool,
}

impl SystemAnchors {
    /// Reads the current anchors. Invalid ones are left out.
    pub(crate) fn load() -> Self {
        read_system().0
    }

    /// `is_all_read` says whether every certificate of the system was read.
    fn new(mut anchors: Vec<CertificateDer<'static>>, is_all_read: bool) -> Self {
        anchors.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
        anchors.dedup();
        let all = anchors.len();
        anchors.retain(|anchor| RootCertStore::empty().add(anchor.clone()).is_ok());
        let is_complete = is_all_read && anchors.len() == all;
        Self { anchors, is_complete }
    }

    /// Reads the current anchors for a client that keeps them.
    ///
    /// # Errors
    /// None could be read because file descriptors or memory are exhausted.
    pub(crate) fn load_for_client() -> Result<Self, TrustError> {
        match read_system() {
            (current, Some(fault)) if current.is_empty() && fault.is_shortage => {
                Err(TrustError::System(fault.reason))
            }
            (current, _) => Ok(current),
        }
    }

    /// Reads the anchors again. They may be in the middle of a replacement, or the process may be
    /// out of file descriptors.
    ///
    /// # Errors
    /// There are no anchors any more, or one is missing and something could not be read.
    pub(crate) fn reload(&self) -> Result<Self, TrustError> {
        let (current, fault) = read_system();
        self.accept_reload(current, fault.map(|fault| fault.reason))
    }

    fn accept_reload(&self, current: Self, fault: Option<String>) -> Result<Self, TrustError> {
        let is_missing = |anchor: &CertificateDer<'_>| {
            current.anchors.binary_search_by(|known| known.as_ref().cmp(anchor.as_ref())).is_err()
        };
        if current.is_empty() && !self.is_empty() {
            let fault = fault.unwrap_or_else(|| "none was found".to_owned());
            return Err(TrustError::System(fault));
        }
        match fault.filter(|_| self.anchors.iter().any(is_missing)) {
            Some(fault) => Err(TrustError::System(fault)),
            None => Ok(current),
        }
    }

    /// Whether there is no anchor.
    pub(crate) const fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// Returns all anchors in the TLS library's form.
    pub(crate) fn store(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(self.anchors.iter().cloned());
        store
    }

    /// Writes the anchors as PEM to a file in memory. pingora takes only files, and panics if it
    /// reads the system's anchors itself and one of them is invalid.
    ///
    /// # Errors
    /// The file can't be created. Without `/proc` it has no path, and pingora has to read the
    /// system's anchors itself. That is an error if one of them is invalid.
    pub(crate) fn to_file(&self) -> io::Result<MemoryFile> {
        let mut file = File::from(memfd_create("trust anchors", MemfdFlags::CLOEXEC)?);
        for anchor in &self.anchors {
            let text = STANDARD.encode(anchor);
            writeln!(file, "-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----")?;
        }
        let file = MemoryFile(file);
        if file.path()?.is_none() && !self.is_complete {
            return Err(io::Error::other(
                "there is no /proc, and some of the system's trust anchors can't be read; mount /proc, or set SSL_CERT_FILE to a file of valid ones",
            ));
        }
        Ok(file)
    }
}

/// Reads the certificates of the file in `SSL_CERT_FILE`. The library parses by lines. If the
/// certificates were joined without line breaks, it ignores every second one.
fn read_joined(file: &Path) -> Vec<CertificateDer<'static>> {
    let text = read_small(file).unwrap_or_default();
    let text = pem::normal(&text);
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes());
    certificates.filter_map(Result::ok).collect()
}

/// A file in memory, which ends when this value is dropped.
#[derive(Debug)]
pub(crate) struct MemoryFile(File);

impl MemoryFile {
    /// Returns the file's path for this process. `None` if the system has no `/proc`.
    ///
    /// # Errors
    /// The file can't be opened because file descriptors are exhausted.
    pub(crate) fn path(&self) -> io::Result<Option<String>> {
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        match File::open(&path) {
            Ok(_) => Ok(Some(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchors(names: &[&str]) -> SystemAnchors {
        let anchors = names.iter().map(|name| CertificateDer::from(name.as_bytes().to_vec()));
        SystemAnchors { anchors: anchors.collect(), is_complete: true }
    }

    #[test]
    fn anchors_that_cannot_be_read_any_more_are_kept() {
        let before = anchors(&["a", "b"]);
        let fault = || Some("too many open files".to_owned());
        for (current, fault, is_accepted) in [
            (&["a", "b", "c"][..], None, true),
            (&["a"], None, true),
            (&["c"], None, true),
            (&["a"], fault(), false),
            (&["a", "b", "c"], fault(), true),
            (&[], None, false),
            (&[], fault(), false),
        ] {
            let reloaded = before.accept_reload(anchors(current), fault);
            assert_eq!(reloaded.is_ok(), is_accepted, "{current:?}");
            if let Ok(reloaded) = reloaded {
                assert_eq!(reloaded, anchors(current));
            }
        }
        assert!(anchors(&[]).accept_reload(anchors(&[]), None).is_ok(), "there were none before");
    }
}
