//! A listener's certificate in words, before anything is served with it.

use super::{ListenerTls, ListenerTlsError};
use crate::config::TlsSettings;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use std::time::SystemTime;

/// What a listener's certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSummary {
    /// Its end, for people.
    pub until: String,
    /// Whether it has ended.
    pub has_ended: bool,
    /// Why it should be replaced, if it should.
    pub complaint: Option<String>,
    /// The host names that callers may use, and that are not in it.
    pub missing: Vec<String>,
}

/// Reads the certificate of a listener. `hosts` are the names that callers may use.
///
/// # Errors
/// A file can't be read or used.
pub fn summary(
    settings: &TlsSettings,
    hosts: &[String],
) -> Result<Option<CertificateSummary>, ListenerTlsError> {
    let tls = ListenerTls::new(settings)?;
    let (read, now) = (tls.read.load(), SystemTime::now());
    let Some((leaf, validity)) = read.chain.first().zip(tls.validity()) else { return Ok(None) };
    Ok(Some(CertificateSummary {
        until: humantime::format_rfc3339_seconds(validity.not_after).to_string(),
        has_ended: validity.not_after <= now,
        complaint: validity.complaint(now),
        missing: hosts.iter().filter(|host| !names(leaf, host)).cloned().collect(),
    }))
}

/// Whether a certificate is for a host. IPv6 addresses are in brackets.
fn names(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let Ok(parsed) = ParsedCertificate::try_from(certificate) else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    ServerName::try_from(host).is_ok_and(|host| verify_server_name(&parsed, &host).is_ok())
}
