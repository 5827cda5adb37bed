//! Listeners: their TLS, and the one of probes and metrics.

use super::value::TlsVersion;
use crate::secret_file::CertificateFiles;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The listener of probes and metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminListener {
    /// The address.
    pub address: SocketAddr,
    /// TLS, if it has it.
    pub tls: Option<TlsSettings>,
}

impl AdminListener {
    /// A listener without TLS.
    pub const fn cleartext(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }

    /// The scheme of its URLs.
    pub const fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsSettings {
    /// The certificate with its chain, and its key.
    pub certificate: CertificateFiles,
    /// The authorities of callers' certificates. `None` if callers need no certificate.
    pub client_ca: Option<PathBuf>,
    /// Whether a caller may present no certificate although there is a `client_ca`.
    pub is_certificate_optional: bool,
    /// The lowest version.
    pub min_tls: TlsVersion,
}

impl TlsSettings {
    /// The files that TLS reads.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.certificate.paths().into_iter().chain(self.client_ca.as_deref())
    }
}
