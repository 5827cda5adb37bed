//! The demo tenant's own certificate authority. Every start of a tenant makes a new one.

use super::error::DemoError;
use super::time::unix_now;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use std::fmt::{Debug, Formatter, Result as FmtResult};
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "bearerd demo CA";
/// Another name of the demo's servers besides those of loopback, for clients that reach them
/// through a forward proxy.
const OTHER_NAME: &str = "acme.test";

/// Longest validity of a client certificate.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Signs the certificates of the demo's servers and of its OAuth client.
pub(super) struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
    pem: String,
}

/// A certificate with its key, in PEM and in DER.
pub(super) struct Issued {
    /// The certificate and then the authority's, in PEM.
    pub(super) chain_pem: String,
    /// The private key, PKCS#8 in PEM.
    pub(super) key_pem: String,
    pub(super) chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl CertificateAuthority {
    pub(super) fn new() -> Result<Self, DemoError> {
        let make = || {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::new(Vec::new())?;
            params.distinguished_name.push(DnType::CommonName, NAME);
            // It signs certificates of servers and clients, but of no other authorities.
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let certificate = params.self_signed(&key)?;
            let pem = certificate.pem();
            Ok(Self { issuer: Issuer::new(params, key), certificate, pem })
        };
        make().map_err(|reason| DemoError::Certificate { name: NAME.to_owned(), reason })
    }

    /// The authority's own certificate, in PEM.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// A server certificate for these names, which may be IP addresses.
    pub(super) fn issue(&self, names: &[&str]) -> Result<Issued, DemoError> {
        let make = || {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let mut params = CertificateParams::new(names.clone())?;
            params
                .distinguished_name
                .push(DnType::CommonName, names.first().map_or("server", String::as_str));
            self.sign(params, ExtendedKeyUsagePurpose::ServerAuth)
        };
        make().map_err(|reason| DemoError::Certificate { name: names.join(", "), reason })
    }

    /// A client certificate for this common name, valid from now on for `valid`. If `valid` is
    /// zero, it has already expired.
    pub(super) fn issue_client(&self, name: &str, valid: Duration) -> Result<Issued, DemoError> {
        let make = || {
            let mut params = CertificateParams::new(Vec::new())?;
            params.distinguished_name.push(DnType::CommonName, name);
            let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(unix_now());
            params.not_before = now - Duration::from_secs(60);
            // `not_after` itself is still valid.
            params.not_after = now + valid.min(CENTURY) - Duration::from_secs(1);
            self.sign(params, ExtendedKeyUsagePurpose::ClientAuth)
        };
        make().map_err(|reason| DemoError::Certificate { name: name.to_owned(), reason })
    }

    /// Makes a key and signs its certificate for this purpose.
    fn sign(
        &self,
        mut params: CertificateParams,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<Issued, rcgen::Error> {
        let key = KeyPair::generate()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        // Strict verifiers, for example Python 3.13's default, require this extension.
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            chain_pem: format!("{}{}", certificate.pem(), self.pem),
            key_pem: key.serialize_pem(),
            chain: vec![certificate.der().clone(), self.certificate.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        })
    }

    /// TLS settings of the issuer and of the tenant.
    pub(super) fn server_config(&self, http2: bool) -> Result<ServerConfig, DemoError> {
        let mut config = self.config(WebPkiClientVerifier::no_client_auth())?;
        if http2 {
            config.alpn_protocols.insert(0, b"h2".to_vec());
        }
        Ok(config)
    }

    /// TLS settings of the issuer for client certificates. A certificate must be from this
    /// authority and must not have expired. A client without one is refused later, by the issuer.
    pub(super) fn mutual_config(&self) -> Result<ServerConfig, DemoError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).map_err(DemoError::Tls)?;
        let provider = ring::default_provider().into();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|reason| DemoError::Tls(rustls::Error::General(reason.to_string())))?;
        let mut config = self.config(verifier)?;
        // A resumed session would accept its certificate even after it has expired.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// Names the cryptography provider, so that the demo does not depend on the process-wide one.
    fn config(&self, verifier: Arc<dyn ClientCertVerifier>) -> Result<ServerConfig, DemoError> {
        let issued = self.issue(&["localhost", OTHER_NAME, "127.0.0.1", "::1"])?;
        let mut config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(DemoError::Tls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(issued.chain, issued.key)
            .map_err(DemoError::Tls)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl Debug for CertificateAuthority {
    /// Shows the name only, since the other fields hold a private key.
    fn fmt(&self, formatter: &mut Formatter<'_>) -> FmtResult {
        formatter.debug_tuple("CertificateAuthority").field(&NAME).finish()
    }
}
