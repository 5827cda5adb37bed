//! Trust anchors: the system's, and those of a `ca_file` beside them.
//!
//! The system's come from where OpenSSL looks, or from `SSL_CERT_FILE` and `SSL_CERT_DIR`.

mod advice;
mod verifier;

pub(crate) use advice::advice;
pub(crate) use verifier::{Verifier, words};

use crate::environment::Environment;
use crate::files::{open_plain, read_small};
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
    /// Some of the system's anchors are not there any more.
    #[error("the system's trust anchors cannot be read now: {0}")]
    System(String),
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

/// Something of the system's trust anchors that could not be read.
struct Fault {
    what: String,
    /// There was no file or memory for it, which may pass.
    is_want: bool,
}

impl Fault {
    fn new(what: String, error: &io::Error) -> Self {
        let wants = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
        let is_want = Errno::from_io_error(error).is_some_and(|errno| wants.contains(&errno));
        Self { what, is_want }
    }
}

/// The system's trust anchors, and the first thing that could not be read.
fn read_now() -> (SystemAnchors, Option<Fault>) {
    // The library would wait for a pipe.
    let file = Environment::of_process().get("SSL_CERT_FILE").map(PathBuf::from);
    if let Some(Err(error)) = file.as_deref().map(open_plain) {
        let fault = Fault::new(error.to_string(), &error);
        return (SystemAnchors::of(Vec::new(), false), Some(fault));
    }
    let read = rustls_native_certs::load_native_certs();
    let fault = read.errors.iter().find_map(|error| match &error.kind {
        ErrorKind::Io { inner, .. } => Some(Fault::new(error.to_string(), inner)),
        _ => None,
    });
    let mut anchors = read.certs;
    anchors.extend(file.as_deref().map(joined).unwrap_or_default());
    (SystemAnchors::of(anchors, read.errors.is_empty()), fault)
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
        read_now().0
    }

    /// `is_whole` says whether all was read that there is.
    fn of(mut anchors: Vec<CertificateDer<'static>>, is_whole: bool) -> Self {
        anchors.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
        anchors.dedup();
        let all = anchors.len();
        anchors.retain(|anchor| RootCertStore::empty().add(anchor.clone()).is_ok());
        let is_sound = is_whole && anchors.len() == all;
        Self { anchors, is_sound }
    }

    /// As they are now, for a user that keeps them for long.
    ///
    /// # Errors
    /// None could be read for want of files or memory.
    pub(crate) fn at_hand() -> Result<Self, TrustError> {
        match read_now() {
            (now, Some(fault)) if now.is_empty() && fault.is_want => {
                Err(TrustError::System(fault.what))
            }
            (now, _) => Ok(now),
        }
    }

    /// As they are now, which may be in the middle of being replaced, or when the process can open no file.
    ///
    /// # Errors
    /// There is none any more, or one is missing and something could not be read.
    pub(crate) fn again(&self) -> Result<Self, TrustError> {
        let (now, fault) = read_now();
        self.judge(now, fault.map(|fault| fault.what))
    }

    fn judge(&self, now: Self, fault: Option<String>) -> Result<Self, TrustError> {
        let is_missing = |anchor: &CertificateDer<'_>| {
            now.anchors.binary_search_by(|known| known.as_ref().cmp(anchor.as_ref())).is_err()
        };
        if now.is_empty() && !self.is_empty() {
            let fault = fault.unwrap_or_else(|| "there is none".to_owned());
            return Err(TrustError::System(fault));
        }
        match fault.filter(|_| self.anchors.iter().any(is_missing)) {
            Some(fault) => Err(TrustError::System(fault)),
            None => Ok(now),
        }
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
        if file.path()?.is_none() && !self.is_sound {
            return Err(io::Error::other(
                "there is no /proc, and some of the system's trust anchors can't be read; mount /proc, or let SSL_CERT_FILE name a file of good ones",
            ));
        }
        Ok(file)
    }
}

/// Those of the file that `SSL_CERT_FILE` names. Where it was joined without line breaks, the library, which reads
/// lines, has lost every second one.
fn joined(file: &Path) -> Vec<CertificateDer<'static>> {
    let text = read_small(file).unwrap_or_default();
    let text = pem::normal(&text);
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes());
    certificates.filter_map(Result::ok).collect()
}

/// A file that is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct MemoryFile(File);

impl MemoryFile {
    /// Its path for this process, where the system has `/proc`.
    ///
    /// # Errors
    /// It can't be opened, for want of a descriptor.
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
        SystemAnchors { anchors: anchors.collect(), is_sound: true }
    }

    #[test]
    fn anchors_that_cannot_be_read_any_more_stay() {
        let before = anchors(&["a", "b"]);
        let fault = || Some("too many open files".to_owned());
        for (now, fault, is_taken) in [
            (&["a", "b", "c"][..], None, true),
            (&["a"], None, true),
            (&["c"], None, true),
            (&["a"], fault(), false),
            (&["a", "b", "c"], fault(), true),
            (&[], None, false),
            (&[], fault(), false),
        ] {
            let judged = before.judge(anchors(now), fault);
            assert_eq!(judged.is_ok(), is_taken, "{now:?}");
            if let Ok(taken) = judged {
                assert_eq!(taken, anchors(now));
            }
        }
        assert!(anchors(&[]).judge(anchors(&[]), None).is_ok(), "there were none before");
    }
}
