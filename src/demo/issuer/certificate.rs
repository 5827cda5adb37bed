//! Client authentication with a certificate (RFC 8705). The TLS handshake has checked that this
//! authority issued it, that it has not expired, and that the client has its key. This module
//! checks its owner.
//!
//! SAP has a separate host for it (a service key's `certurl`), which accepts nothing else.

use super::error::RefusedTokenRequest;
use super::parameters::Parameters;
use crate::demo::registered_client::AuthMethod;

/// Checks that the certificate was issued for the client that the parameters name. `chain` is from
/// the handshake, with the client's own certificate first.
pub(super) fn authenticate(
    client_id: &str,
    chain: &[Vec<u8>],
    parameters: &Parameters,
) -> Result<AuthMethod, RefusedTokenRequest> {
    let certificate = chain.first().ok_or(RefusedTokenRequest::NoCredentials)?;
    let named = parameters.get("client_id").ok_or(RefusedTokenRequest::NoCredentials)?;
    if named == client_id && is_issued_for(client_id, certificate) {
        Ok(AuthMethod::Certificate)
    } else {
        Err(RefusedTokenRequest::BadCredentials)
    }
}

/// Whether this is the common name of the certificate's subject.
fn is_issued_for(name: &str, certificate: &[u8]) -> bool {
    x509_parser::parse_x509_certificate(certificate).is_ok_and(|(_, parsed)| {
        let mut names = parsed.subject().iter_common_name();
        names.next().and_then(|common| common.as_str().ok()) == Some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::ca::CertificateAuthority;
    use std::time::Duration;

    #[test]
    fn a_certificate_of_this_authority_for_another_client_is_refused() {
        let authority = CertificateAuthority::new().unwrap();
        let authenticate_as = |name: &str| {
            let issued = authority.issue_client(name, Duration::from_secs(60)).unwrap();
            let chain: Vec<_> = issued.chain.iter().map(|one| one.to_vec()).collect();
            let parameters = Parameters::parse(&"/".parse().unwrap(), b"client_id=mine");
            authenticate("mine", &chain, &parameters)
        };
        assert!(matches!(authenticate_as("mine"), Ok(AuthMethod::Certificate)));
        assert!(matches!(authenticate_as("another"), Err(RefusedTokenRequest::BadCredentials)));
    }
}
