//! A certificate authority of our own, made at the start and gone at the end.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::DemoError;

const NAME: &str = "bearerd demo CA";

/// The authority that signs the demo's server certificates.
pub(super) struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
    pem: String,
}

/// A certificate with its key, in both of the forms that servers want.
pub(super) struct Issued {
    /// The certificate, then the authority's, PEM.
    pub(super) chain_pem: String,
    /// The private key, PKCS#8 PEM.
    pub(super) key_pem: String,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl CertificateAuthority {
    pub(super) fn new() -> Result<Self, DemoError> {
        let make = || {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::new(Vec::new())?;
            params.distinguished_name.push(DnType::CommonName, NAME);
            // It signs servers, and no further authorities.
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let certificate = params.self_signed(&key)?;
            let pem = certificate.pem();
            Ok(Self { issuer: Issuer::new(params, key), certificate, pem })
        };
        make().map_err(|reason| DemoError::Certificate { name: NAME.to_owned(), reason })
    }

    /// The authority's own certificate, PEM.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// A server certificate for these names; IP addresses are recognised as such.
    pub(super) fn issue(&self, names: &[&str]) -> Result<Issued, DemoError> {
        let make = || {
            let key = KeyPair::generate()?;
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let mut params = CertificateParams::new(names.clone())?;
            params
                .distinguished_name
                .push(DnType::CommonName, names.first().map_or("server", String::as_str));
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            // Strict verifiers (Python 3.13's default, for one) insist on this extension.
            params.use_authority_key_identifier_extension = true;
            let certificate = params.signed_by(&key, &self.issuer)?;
            Ok(Issued {
                chain_pem: format!("{}{}", certificate.pem(), self.pem),
                key_pem: key.serialize_pem(),
                chain: vec![certificate.der().clone(), self.certificate.der().clone()],
                key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            })
        };
        make().map_err(|reason| DemoError::Certificate { name: names.join(", "), reason })
    }

    /// TLS as the issuer and the tenant speak it. The provider is named here, so the demo neither needs nor disturbs
    /// the process-wide one.
    pub(super) fn server_config(&self) -> Result<ServerConfig, DemoError> {
        let issued = self.issue(&["localhost", "127.0.0.1", "::1"])?;
        let mut config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(DemoError::Tls)?
            .with_no_client_auth()
            .with_single_cert(issued.chain, issued.key)
            .map_err(DemoError::Tls)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl std::fmt::Debug for CertificateAuthority {
    /// Its name: the rest is a private key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CertificateAuthority").field(&NAME).finish()
    }
}
