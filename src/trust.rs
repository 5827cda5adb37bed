//! Trust anchors: the system's, and those of a `ca_file` beside them.
//!
//! The system's come from where OpenSSL looks, or from `SSL_CERT_FILE` and `SSL_CERT_DIR`.

mod advice;
mod verifier;

pub(crate) use advice::advice;
pub(crate) use verifier::{Verifier, words};

use crate::files::read_small;
use crate::pem;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{MemfdFlags, memfd_create};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Trust anchors that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file can't be read, or is no PEM.
    #[error("cannot read the certificates of {}: {reason}; ca_file needs PEM certificates", path.display())]
    Unreadable {
        /// The configured path.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is nobody to trust.
    #[error(
        "the system has no trust anchors, and there is no ca_file; give that, or let SSL_CERT_FILE name a file of certificates"
    )]
    Nobody,
    /// The file holds no certificate at all.
    #[error("{} holds no certificate; ca_file needs PEM certificates", path.display())]
    Empty {
        /// The configured path.
        path: PathBuf,
    },
}

/// The certificates of a PEM file, each of which can be a trust anchor; at least one.
///
/// # Errors
/// The file is unreadable, is no PEM, or holds something else than certificates.
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

/// The system's trust anchors as they were at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SystemAnchors {
    anchors: Vec<CertificateDer<'static>>,
    /// Whether all that the system has could be read and can be one.
    is_sound: bool,
}

impl SystemAnchors {
    /// As they are now. What can't be an anchor is left out.
    pub(crate) fn load() -> Self {
        let loaded = rustls_native_certs::load_native_certs();
        let mut anchors = loaded.certs;
        anchors.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
        anchors.dedup();
        let all = anchors.len();
        anchors.retain(|anchor| RootCertStore::empty().add(anchor.clone()).is_ok());
        let is_sound = loaded.errors.is_empty() && anchors.len() == all;
        Self { anchors, is_sound }
    }

    /// Whether there is none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// All of them.
    pub(crate) fn store(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(self.anchors.iter().cloned());
        store
    }

    /// As PEM in a file of which only this process knows: pingora takes files only, and of its own reading of
    /// the system's one broken anchor would be the end.
    ///
    /// # Errors
    /// There is no such file. Without `/proc` it has no path, and pingora has to read the system's anchors itself: that
    /// is refused where one of them is broken.
    pub(crate) fn to_file(&self) -> io::Result<MemoryFile> {
        let mut file = File::from(memfd_create("trust anchors", MemfdFlags::CLOEXEC)?);
        for anchor in &self.anchors {
            let text = STANDARD.encode(anchor);
            writeln!(file, "-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----")?;
        }
        let file = MemoryFile(file);
        if file.path().is_none() && !self.is_sound {
            return Err(io::Error::other(
                "there is no /proc, and some of the system's trust anchors can't be read; mount /proc, or let SSL_CERT_FILE name a file of good ones",
            ));
        }
        Ok(file)
    }
}

/// A file that is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct MemoryFile(File);

impl MemoryFile {
    /// Its path for this process, where the system has `/proc`.
    pub(crate) fn path(&self) -> Option<String> {
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        File::open(&path).is_ok().then_some(path)
    }
}
