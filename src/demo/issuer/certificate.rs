//! How a client proves itself with a certificate (RFC 8705): the handshake has checked who issued it, that it has not
//! expired, and that the client has its key; what is left is whose it is.
//!
//! Worth knowing: SAP does this on a host of its own (a service key's `certurl`), which takes nothing else.

use super::{Parameters, Proof, Refusal};

/// Checks that the client named in the parameters is the one that the certificate was issued for. `shown` is what the
/// client showed in the handshake, its own certificate first.
pub(super) fn check(
    client_id: &str,
    shown: &[Vec<u8>],
    parameters: &Parameters,
) -> Result<Proof, Refusal> {
    let certificate = shown.first().ok_or(Refusal::NoCredentials)?;
    let named = parameters.get("client_id").ok_or(Refusal::NoCredentials)?;
    if named == client_id && is_issued_for(client_id, certificate) {
        Ok(Proof::Certificate)
    } else {
        Err(Refusal::BadCredentials)
    }
}

/// Whether the subject's common name is this one.
fn is_issued_for(name: &str, certificate: &[u8]) -> bool {
    x509_parser::parse_x509_certificate(certificate).is_ok_and(|(_, parsed)| {
        let mut names = parsed.subject().iter_common_name();
        names.next().and_then(|common| common.as_str().ok()) == Some(name)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::demo::ca::CertificateAuthority;

    #[test]
    fn a_certificate_of_our_own_for_somebody_else_is_refused() {
        let authority = CertificateAuthority::new().unwrap();
        let check_for = |name: &str| {
            let issued = authority.issue_client(name, Duration::from_secs(60)).unwrap();
            let shown: Vec<_> = issued.chain.iter().map(|shown| shown.to_vec()).collect();
            check("mine", &shown, &Parameters::read(&"/".parse().unwrap(), b"client_id=mine"))
        };
        assert!(matches!(check_for("mine"), Ok(Proof::Certificate)));
        assert!(matches!(check_for("another"), Err(Refusal::BadCredentials)));
    }
}
