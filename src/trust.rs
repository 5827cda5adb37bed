//! Trust anchors: the system's, and those of a `ca_file` beside them.
//!
//! The system's come from where OpenSSL looks, or from `SSL_CERT_FILE` and `SSL_CERT_DIR`.

use crate::files::read_small;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
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
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes())
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

/// The system's trust anchors. Those that can't be parsed are left out.
pub(crate) fn system() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}
