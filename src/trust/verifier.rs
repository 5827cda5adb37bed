//! Verification of servers' certificates by the TLS library, with messages that say what is wrong.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::VerifierBuilderError;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use std::fmt;
use std::io;
use std::sync::Arc;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Name;

/// The smallest RSA key that the TLS library accepts.
const MIN_RSA_BITS: usize = 2048;

/// The TLS library's own verifier, with bearerd's messages.
#[derive(Debug)]
pub(crate) struct Verifier(Arc<WebPkiServerVerifier>);

impl Verifier {
    /// Creates a verifier that trusts these anchors.
    ///
    /// # Errors
    /// There is no anchor.
    pub(crate) fn new(roots: RootCertStore) -> Result<Self, VerifierBuilderError> {
        WebPkiServerVerifier::builder(roots.into()).build().map(Self)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).collect();
        match verified {
            // The handshake would fail later at its signature, without the reason.
            Ok(_) if weak_key(&[end_entity]).is_some() => {
                Err(explained(CertificateError::BadSignature, &[end_entity]))
            }
            Err(Error::InvalidCertificate(kind)) => Err(explained(kind, &chain)),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.0.root_hint_subjects()
    }
}

/// A certificate that is not trusted, and why.
struct Distrust(String);

impl fmt::Display for Distrust {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "invalid peer certificate: {}", self.0)
    }
}

/// The library puts this form into its own message.
impl fmt::Debug for Distrust {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Distrust {}

/// Returns bearerd's message for a failed handshake, if there is one.
pub(crate) fn explanation(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut error = error;
    // An I/O error may hold another error, which is not its source.
    while let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        error = inner;
    }
    let error = error.downcast_ref::<Error>()?;
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else {
        return None;
    };
    other.0.downcast_ref::<Distrust>().map(Distrust::to_string)
}

/// Returns the library's error, with bearerd's message if there is one.
fn explained(kind: CertificateError, chain: &[&CertificateDer<'_>]) -> Error {
    match reason(&kind, chain) {
        Some(reason) => distrust(reason),
        None => kind.into(),
    }
}

/// Returns an error of the library with these words about a certificate.
pub(super) fn distrust(reason: String) -> Error {
    CertificateError::Other(OtherError(Arc::new(Distrust(reason)))).into()
}

/// Returns what is wrong with a chain, which begins with the server's own certificate. The message
/// begins with the library's name for the error.
fn reason(kind: &CertificateError, chain: &[&CertificateDer<'_>]) -> Option<String> {
    let name = format!("{kind:?}");
    if name.contains("CaUsedAsEndEntity") {
        return Some("CaUsedAsEndEntity: it is an authority's (CA:TRUE), not a server's".into());
    }
    let (name, reason) = match kind {
        CertificateError::UnknownIssuer => ("UnknownIssuer", missing_issuer(chain)),
        CertificateError::BadSignature => ("BadSignature", weak_key(chain)),
        _ if name.starts_with("UnsupportedSignatureAlgorithm") => {
            let reason = weak_key(chain).or_else(|| weak_signature(chain));
            let unknown = || "it is signed with an unknown algorithm".to_owned();
            ("UnsupportedSignatureAlgorithm", Some(reason.unwrap_or_else(unknown)))
        }
        _ => return None,
    };
    reason.map(|reason| format!("{name}: {reason}"))
}

fn parsed<'c>(chain: &[&'c CertificateDer<'_>]) -> Vec<X509Certificate<'c>> {
    let parse = |der: &&'c CertificateDer<'_>| x509_parser::parse_x509_certificate(der).ok();
    chain.iter().filter_map(parse).map(|(_, certificate)| certificate).collect()
}

/// The common name, or the whole name without one.
fn common_name(name: &X509Name<'_>) -> String {
    let common = name.iter_common_name().next().and_then(|name| name.as_str().ok());
    common.map_or_else(|| name.to_string(), str::to_owned)
}

/// Describes where the chain from the server's certificate to an authority ends.
fn missing_issuer(chain: &[&CertificateDer<'_>]) -> Option<String> {
    let chain = parsed(chain);
    let leaf = chain.first()?;
    let is_self_signed = |one: &X509Certificate<'_>| one.subject() == one.issuer();
    let mut top = leaf;
    // The number of steps is bounded, because issuers may form a ring.
    for _ in 0..chain.len() {
        let above = chain.iter().find(|above| above.subject() == top.issuer());
        match above.filter(|_| !is_self_signed(top)) {
            Some(above) => top = above,
            None => break,
        }
    }
    let (subject, issuer) = (common_name(top.subject()), common_name(top.issuer()));
    Some(if is_self_signed(leaf) {
        format!("it is self-signed (`{subject}`), and is not trusted here")
    } else if is_self_signed(top) {
        format!("its authority `{subject}` is not trusted here")
    } else {
        let sent = match chain.len() {
            1 => "the server sends only its own certificate".to_owned(),
            _ => format!("the certificates that the server sends end at `{subject}`"),
        };
        let kind = match has_issuer_url(top) {
            true => "an intermediate certificate is missing",
            false => "either an intermediate certificate is missing, or the authority is private",
        };
        format!("{sent}, signed by `{issuer}`, which is not trusted here: {kind}")
    })
}

/// Whether a certificate holds the URL of its issuer's certificate (RFC 5280 section 4.2.2.1).
/// Certificates of public intermediate authorities do.
fn has_issuer_url(certificate: &X509Certificate<'_>) -> bool {
    const CA_ISSUERS: &str = "1.3.6.1.5.5.7.48.2";
    certificate.extensions().iter().any(|extension| {
        matches!(extension.parsed_extension(), ParsedExtension::AuthorityInfoAccess(access)
            if access.accessdescs.iter().any(|one| one.access_method.to_id_string() == CA_ISSUERS))
    })
}

fn weak_key(chain: &[&CertificateDer<'_>]) -> Option<String> {
    parsed(chain).iter().find_map(|certificate| match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) if key.key_size() < MIN_RSA_BITS => Some(format!(
            "the RSA key of `{}` has {} bits and is too weak; the minimum is {MIN_RSA_BITS}",
            common_name(certificate.subject()),
            key.key_size()
        )),
        _ => None,
    })
}

fn weak_signature(chain: &[&CertificateDer<'_>]) -> Option<String> {
    parsed(chain).iter().find_map(|certificate| {
        // Object identifiers for RSA (RFC 8017 appendix A.2.4) and ECDSA (RFC 3279 section 2.2.3).
        let hash = match &*certificate.signature_algorithm.algorithm.to_id_string() {
            "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" => "SHA-1",
            "1.2.840.113549.1.1.4" => "MD5",
            _ => return None,
        };
        let name = common_name(certificate.subject());
        Some(format!("the certificate of `{name}` is signed with {hash}, which is too weak"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::advice;
    use rcgen::{
        BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair,
        PKCS_RSA_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey,
    };

    /// An RSA key with invalid signatures. They are not checked if the key or the algorithm is
    /// refused.
    struct Rsa(Vec<u8>);

    impl Rsa {
        /// `RSAPublicKey` (RFC 8017 appendix A.1.1).
        fn new(bytes: usize) -> Self {
            let mut modulus = vec![0, 0x81];
            modulus.resize(bytes, 0x5b);
            modulus.push(0x01);
            let integer = |bytes: &[u8]| {
                let mut der = vec![0x02, 0x82];
                der.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
                der.extend_from_slice(bytes);
                der
            };
            let both = [integer(&modulus), vec![0x02, 0x03, 0x01, 0x00, 0x01]].concat();
            let mut der = vec![0x30, 0x82];
            der.extend(u16::try_from(both.len()).unwrap().to_be_bytes());
            Self([der, both].concat())
        }
    }

    impl PublicKeyData for Rsa {
        fn der_bytes(&self) -> &[u8] {
            &self.0
        }

        fn algorithm(&self) -> &'static SignatureAlgorithm {
            &PKCS_RSA_SHA256
        }
    }

    impl SigningKey for Rsa {
        fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
            Ok(vec![0x17; 256])
        }
    }

    fn params(name: &str, is_authority: bool) -> CertificateParams {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        if is_authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params
    }

    fn authority(name: &str) -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
        let key = KeyPair::generate().unwrap();
        let params = params(name, true);
        let certificate = params.self_signed(&key).unwrap();
        (certificate.der().clone(), Issuer::new(params, key))
    }

    /// Verifies a chain. The error is the message.
    fn verified(
        root: &CertificateDer<'static>,
        chain: &[CertificateDer<'static>],
    ) -> Result<(), String> {
        crate::http_client::set_up_tls();
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let result = Verifier::new(roots).unwrap().verify_server_cert(
            &chain[0],
            &chain[1..],
            &name,
            &[],
            UnixTime::now(),
        );
        result.map(drop).map_err(|error| {
            let library = error.to_string();
            // Nested as a connection returns it.
            let nested = io::Error::other(io::Error::other(error));
            let message = explanation(&nested).unwrap_or(library);
            assert!(
                message.starts_with("invalid peer certificate: ") && advice(&message).is_some(),
                "{message}"
            );
            message
        })
    }

    #[test]
    fn a_missing_intermediate_and_an_unknown_authority_are_named() {
        let (root, signer) = authority("Root");
        let (other, _) = authority("Other Root");
        let key = KeyPair::generate().unwrap();
        let mut middle = params("Middle", true);
        let middle_certificate = middle.signed_by(&key, &signer).unwrap().der().clone();
        let middle = Issuer::new(std::mem::take(&mut middle), key);
        let leaf_key = KeyPair::generate().unwrap();
        let leaf = params("leaf", false).signed_by(&leaf_key, &middle).unwrap().der().clone();
        let access = b"\x30\x13\x30\x11\x06\x08\x2b\x06\x01\x05\x05\x07\x30\x02\x86\x05http:";
        let mut public = params("leaf", false);
        let access =
            CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], access.to_vec());
        public.custom_extensions.push(access);
        let public = public.signed_by(&leaf_key, &middle).unwrap().der().clone();
        let own = params("own", false).self_signed(&leaf_key).unwrap().der().clone();

        let whole = [leaf.clone(), middle_certificate.clone()];
        assert_eq!(verified(&root, &whole), Ok(()));
        for (chain, part) in [
            (
                &[leaf][..],
                "only its own certificate, signed by `Middle`, which is not trusted here: either an",
            ),
            (&[public], "which is not trusted here: an intermediate certificate is missing"),
            (&whole, "end at `Middle`, signed by `Root`"),
            (
                &[&whole[..], std::slice::from_ref(&root)].concat(),
                "its authority `Root` is not trusted here",
            ),
            (&[own], "self-signed (`own`)"),
        ] {
            let root = if chain.len() == 1 { &root } else { &other };
            let message = verified(root, chain).unwrap_err();
            assert!(message.contains("UnknownIssuer: ") && message.contains(part), "{message}");
        }
    }

    #[test]
    fn weak_keys_and_weak_signatures_are_named() {
        let (root, signer) = authority("Root");
        let weak = params("leaf", false).signed_by(&Rsa::new(128), &signer).unwrap();
        let of_leaf = verified(&root, &[weak.der().clone()]).unwrap_err();
        assert!(of_leaf.contains("the RSA key of `leaf` has 1024 bits"), "{of_leaf}");

        let weak_root = params("Weak Root", true);
        let weak_root_certificate = weak_root.self_signed(&Rsa::new(128)).unwrap().der().clone();
        let weak_signer = Issuer::new(weak_root, Rsa::new(128));
        let leaf = params("leaf", false);
        let leaf =
            leaf.signed_by(&KeyPair::generate().unwrap(), &weak_signer).unwrap().der().clone();
        let chain = [leaf, weak_root_certificate.clone()];
        let of_root = verified(&weak_root_certificate, &chain).unwrap_err();
        assert!(of_root.contains("of `Weak Root` has 1024 bits"), "{of_root}");

        let strong = params("Old Root", true);
        let strong_certificate = strong.self_signed(&Rsa::new(256)).unwrap().der().clone();
        let signer = Issuer::new(strong, Rsa::new(256));
        let leaf = params("leaf", false).signed_by(&KeyPair::generate().unwrap(), &signer).unwrap();
        // Replaces sha256WithRSAEncryption by sha1WithRSAEncryption, which has the same length.
        let mut sha1 = leaf.der().to_vec();
        let oid = *b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b";
        let windows = sha1.windows(oid.len()).enumerate();
        let places = windows.filter(|(_, at)| **at == oid).map(|(place, _)| place + oid.len() - 1);
        let places: Vec<_> = places.collect();
        assert_eq!(places.len(), 2);
        for place in places {
            sha1[place] = 0x05;
        }
        let of_hash = verified(&strong_certificate, &[sha1.into()]).unwrap_err();
        assert!(of_hash.contains("`leaf` is signed with SHA-1"), "{of_hash}");
    }

    #[test]
    fn an_authoritys_certificate_in_place_of_a_servers_is_named() {
        let (root, _) = authority("Root");
        let message = verified(&root, std::slice::from_ref(&root)).unwrap_err();
        assert!(message.contains("an authority's (CA:TRUE)"), "{message}");
        assert!(advice(&message).unwrap().contains("basicConstraints=critical,CA:FALSE"));
    }
}
