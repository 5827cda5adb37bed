//! Set-up of TLS as a client.

use super::error::HttpClientError;
use crate::config::{TlsVersion, Transport};
use crate::secret_file::CertificateAndKey;
use crate::trust::{self, PinnedVerifier, SystemAnchors, TrustError, Verifier};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, SupportedProtocolVersion};
use std::sync::Arc;

/// Installs the crypto provider of the process. Call it before anything uses TLS.
pub fn set_up_tls() {
    pingora::tls::install_default_crypto_provider();
}

/// TLS settings of a client: it trusts the system's anchors and those in `ca_file`, and presents
/// the certificate, if there is one.
///
/// # Errors
/// The trust anchors, the certificate or its key can't be used.
pub(crate) fn client_config(
    transport: &Transport,
    certificate: Option<&CertificateAndKey>,
) -> Result<ClientConfig, HttpClientError> {
    let mut roots = SystemAnchors::load_for_client()?.store();
    if let Some(path) = &transport.ca_file {
        roots.add_parsable_certificates(trust::read_pem(path)?);
    }
    // The only error is that there is no trust anchor.
    let verifier = Verifier::new(roots).map_err(|_| TrustError::NoAnchors)?;
    let builder = ClientConfig::builder_with_protocol_versions(versions(transport.min_tls))
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let Some(certificate) = certificate else {
        return Ok(builder.with_no_client_auth());
    };
    let (chain, key) = parse_certificate(certificate)
        .map_err(|error| HttpClientError::Certificate(error.to_string()))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| HttpClientError::Certificate(error.to_string()))
}

/// This version of TLS and newer ones, in the TLS library's form.
pub(crate) fn versions(lowest: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static NEWEST: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
    match lowest {
        TlsVersion::V1_2 => rustls::ALL_VERSIONS,
        TlsVersion::V1_3 => &NEWEST,
    }
}

/// TLS settings of a client that accepts exactly this certificate of the server.
pub(super) fn pinned_config(certificate: CertificateDer<'static>) -> ClientConfig {
    ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedVerifier::new(certificate)))
        .with_no_client_auth()
}

/// Parses a certificate chain and its key.
///
/// # Errors
/// One of them is not PEM.
pub(crate) fn parse_certificate(
    CertificateAndKey { chain, key }: &CertificateAndKey,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), pem::Error> {
    let chain: Result<_, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
    Ok((chain?, PrivateKeyDer::from_pem_slice(key.expose().as_bytes())?))
}
