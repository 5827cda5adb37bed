//! Expiry of the OAuth client itself, or of its certificate.

use crate::credential::{Identity, Proof};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::time::{Duration, SystemTime};
use tracing::warn;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Days before the expiry at which a warning is logged, once each.
const WARNINGS: [u32; 4] = [1, 7, 14, 30];

/// Warnings about an expiry that comes near.
#[derive(Debug, Default)]
pub struct ExpiryWarnings {
    /// The expiry, and the latest warning about it in days; 0 for the expiry itself.
    logged: Option<(SystemTime, u32)>,
}

impl ExpiryWarnings {
    /// Logs the warning that is due at `now`, if there is one. Callers repeat this now and then.
    pub fn log_if_due(&mut self, client: &str, expiry: SystemTime, now: SystemTime) {
        let Some(days) = self.take_due(expiry, now) else {
            return;
        };
        if days == 0 {
            warn!(client, "The OAuth client or its certificate has expired; renew it.");
        } else {
            warn!(
                client,
                days,
                "The OAuth client or its certificate expires in less than {days} day(s); renew it."
            );
        }
    }

    /// Returns the warning that is due at `now`, once.
    fn take_due(&mut self, expiry: SystemTime, now: SystemTime) -> Option<u32> {
        let left = expiry.duration_since(now).unwrap_or_default();
        let due = if left.is_zero() {
            0
        } else {
            WARNINGS.into_iter().find(|days| left <= DAY * *days)?
        };
        if self.logged == Some((expiry, due)) {
            return None;
        }
        self.logged = Some((expiry, due));
        Some(due)
    }
}

/// Returns the earliest expiry: that of the client, if the configuration says it, and those of its
/// certificates.
pub fn client_expiry(expires_on: Option<SystemTime>, identity: &Identity) -> Option<SystemTime> {
    let Proof::Certificate(certificate) = &identity.proof else {
        return expires_on;
    };
    let certificates =
        CertificateDer::pem_slice_iter(certificate.chain.as_bytes()).filter_map(Result::ok);
    certificates.filter_map(|certificate| not_after(&certificate)).chain(expires_on).min()
}

/// Returns when a certificate expires.
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_warning_comes_once_and_a_new_end_begins_anew() {
        let mut warnings = ExpiryWarnings::default();
        let now = SystemTime::UNIX_EPOCH + DAY * 1000;
        let mut days_left =
            |days: u32| warnings.take_due(now + DAY * 100, now + DAY * (100 - days));
        assert_eq!(days_left(31), None);
        assert_eq!([days_left(30), days_left(30), days_left(20)], [Some(30), None, None]);
        assert_eq!([days_left(5), days_left(1), days_left(0)], [Some(7), Some(1), Some(0)]);
        assert_eq!(days_left(0), None);
        assert_eq!(warnings.take_due(now + DAY * 10, now), Some(14));
    }
}
