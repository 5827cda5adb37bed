//! A certificate authority of our own, made at the start and gone at the end.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use super::DemoError;
use super::keys::unix_now;

const NAME: &str = "bearerd demo CA";
/// A name that the demo's servers have besides those of loopback, for who reaches them through a forward proxy
/// that knows it.
const OTHER_NAME: &str = "acme.test";

/// The longest that a client certificate is valid.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The authority that signs the certificates of the demo's servers and of its OAuth client.
pub(super) struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
    pem: String,
}

/// A certificate with its key, in both of the forms that are wanted.
pub(super) struct Issued {
    /// The certificate, then the authority's, PEM.
    pub(super) chain_pem: String,
    /// The private key, PKCS#8 PEM.
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
            // It signs servers and clients, and no further authorities.
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
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let mut params = CertificateParams::new(names.clone())?;
            params
                .distinguished_name
                .push(DnType::CommonName, names.first().map_or("server", String::as_str));
            self.sign(params, ExtendedKeyUsagePurpose::ServerAuth)
        };
        make().map_err(|reason| DemoError::Certificate { name: names.join(", "), reason })
    }

    /// A client certificate for this common name, valid for this long; zero makes one that has expired.
    pub(super) fn issue_client(&self, name: &str, valid: Duration) -> Result<Issued, DemoError> {
        let make = || {
            let mut params = CertificateParams::new(Vec::new())?;
            params.distinguished_name.push(DnType::CommonName, name);
            let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(unix_now());
            params.not_before = now - Duration::from_secs(60);
            // The last second is a valid one, too.
            params.not_after = now + valid.min(CENTURY) - Duration::from_secs(1);
            self.sign(params, ExtendedKeyUsagePurpose::ClientAuth)
        };
        make().map_err(|reason| DemoError::Certificate { name: name.to_owned(), reason })
    }

    /// Makes a key, and signs its certificate for this purpose.
    fn sign(
        &self,
        mut params: CertificateParams,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<Issued, rcgen::Error> {
        let key = KeyPair::generate()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        // Strict verifiers (Python 3.13's default, for one) insist on this extension.
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            chain_pem: format!("{}{}", certificate.pem(), self.pem),
            key_pem: key.serialize_pem(),
            chain: vec![certificate.der().clone(), self.certificate.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        })
    }

    /// TLS as the issuer and the tenant speak it.
    pub(super) fn server_config(&self, http2: bool) -> Result<ServerConfig, DemoError> {
        let mut config = self.config(WebPkiClientVerifier::no_client_auth())?;
        if http2 {
            config.alpn_protocols.insert(0, b"h2".to_vec());
        }
        Ok(config)
    }

    /// TLS as the issuer for client certificates speaks it: a client may show one, which then must be ours and must not
    /// have expired. Who shows none gets as far as the issuer.
    pub(super) fn mutual_config(&self) -> Result<ServerConfig, DemoError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).map_err(DemoError::Tls)?;
        let provider = ring::default_provider().into();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|reason| DemoError::Tls(rustls::Error::General(reason.to_string())))?;
        let mut config = self.config(verifier)?;
        // A resumed session would bring the old certificate along, even one that has expired meanwhile.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// The provider is named here, so the demo neither needs nor disturbs the process-wide one.
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

impl std::fmt::Debug for CertificateAuthority {
    /// Its name: the rest is a private key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CertificateAuthority").field(&NAME).finish()
    }
}
