//! The end of the OAuth client itself, or of its certificate: pure, but for the log.

use crate::credential::{Identity, Proof};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::time::{Duration, SystemTime};
use tracing::warn;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How many days before the end it is told, once each.
const WARNINGS: [u32; 4] = [1, 7, 14, 30];

/// Tells of an end that comes near.
#[derive(Debug, Default)]
pub struct Expiry {
    /// The end, and the latest of the warnings about it; 0 for the end itself.
    told: Option<(SystemTime, u32)>,
}

impl Expiry {
    /// Looks at the clock; to be called now and then.
    pub fn look(&mut self, client: &str, end: SystemTime, now: SystemTime) {
        let Some(days) = self.news(end, now) else {
            return;
        };
        if days == 0 {
            warn!(client, "The OAuth client or its certificate has expired; renew it.");
        } else {
            warn!(
                client,
                days, "The OAuth client or its certificate expires in less than {days} day(s)."
            );
        }
    }

    /// The warning that is due now.
    fn news(&mut self, end: SystemTime, now: SystemTime) -> Option<u32> {
        let left = end.duration_since(now).unwrap_or_default();
        let due = if left.is_zero() {
            0
        } else {
            WARNINGS.into_iter().find(|days| left <= DAY * *days)?
        };
        if self.told == Some((end, due)) {
            return None;
        }
        self.told = Some((end, due));
        Some(due)
    }
}

/// The earliest end: of the client, as far as the configuration tells, and of its certificates.
pub fn end_of(expires_on: Option<SystemTime>, identity: &Identity) -> Option<SystemTime> {
    let Proof::Certificate(chain, _) = &identity.proof else {
        return expires_on;
    };
    let certificates = CertificateDer::pem_slice_iter(chain.as_bytes()).filter_map(Result::ok);
    certificates.filter_map(|certificate| not_after(&certificate)).chain(expires_on).min()
}

/// When a certificate ends.
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
        let mut expiry = Expiry::default();
        let now = SystemTime::UNIX_EPOCH + DAY * 1000;
        let mut days_left = |days: u32| expiry.news(now + DAY * 100, now + DAY * (100 - days));
        assert_eq!(days_left(31), None);
        assert_eq!([days_left(30), days_left(30), days_left(20)], [Some(30), None, None]);
        assert_eq!([days_left(5), days_left(1), days_left(0)], [Some(7), Some(1), Some(0)]);
        assert_eq!(days_left(0), None);
        assert_eq!(expiry.news(now + DAY * 10, now), Some(14));
    }
}
