//! A private authority for the certificates of listeners: made for the names in `access.hosts`, and
//! constrained to them, so that its key can't be used to imitate any other server.

use crate::secret::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, pem};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};

/// The time by which a certificate is older than it is, for machines whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(3600);
/// A name that belongs to nobody (RFC 2606), for an authority of addresses alone.
const NO_NAME: &str = "invalid";

/// Why a certificate can't be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The library can't make it.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The authority's certificate can't be read.
    #[error("it is no certificate of an authority that `bearerd cert` made")]
    NotAnAuthority,
    /// The key is another authority's.
    #[error("ca.key belongs to another authority")]
    OtherKey,
    /// The authority may not sign for a name.
    #[error("it may not sign for {0}")]
    NotPermitted(String),
    /// The authority has ended, or will end before the certificate is worth having.
    #[error("it has expired")]
    Ended,
}

/// An authority with its key.
pub struct Authority {
    certificate: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, PEM.
pub struct Made {
    /// The certificate, and then the authority's.
    pub chain: String,
    /// The private key.
    pub key: Secret,
}

/// A host name without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

impl Authority {
    /// Makes an authority for these hosts.
    ///
    /// # Errors
    /// A name can't stand in a certificate.
    pub fn new(name: &str, hosts: &[String], valid: Duration) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = params(name, valid)?;
        // It signs certificates of servers, but of no other authorities.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = Some(constraints(hosts));
        let certificate = params.self_signed(&key)?;
        let (text, der) = (certificate.pem(), certificate.der().clone());
        Ok(Self { certificate: text, der, issuer: Issuer::new(params, key) })
    }

    /// Reads an authority that was made before.
    ///
    /// # Errors
    /// The texts are not its certificate and its key.
    pub fn read(certificate: &str, key: &Secret) -> Result<Self, AuthorityError> {
        let der = first(certificate).ok_or(AuthorityError::NotAnAuthority)?;
        let name = parsed(&der).and_then(|parsed| {
            let name = parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
            parsed.is_ca().then_some(name)
        });
        let name = name.ok_or(AuthorityError::NotAnAuthority)?;
        let key = KeyPair::from_pem(key.expose())?;
        let is_same = parsed(&der).is_some_and(|parsed| {
            parsed.public_key().subject_public_key.data.as_ref() == key.der_bytes()
        });
        if !is_same {
            return Err(AuthorityError::OtherKey);
        }
        // What it signs names it, and the id of its key.
        let params = params(&name, Duration::ZERO)?;
        Ok(Self { certificate: certificate.to_owned(), der, issuer: Issuer::new(params, key) })
    }

    /// Its certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The key, PEM.
    pub fn key(&self) -> Secret {
        Secret::new(self.issuer.key().serialize_pem())
    }

    /// Makes a server's certificate for these hosts, with this key or a new one. It ends with the
    /// authority at the latest.
    ///
    /// # Errors
    /// The authority may not sign for a host, or has ended.
    pub fn sign(
        &self,
        hosts: &[String],
        valid: Duration,
        key: Option<&Secret>,
    ) -> Result<Made, AuthorityError> {
        if let Some(host) = hosts.iter().find(|host| !permits(&self.der, host)) {
            return Err(AuthorityError::NotPermitted(host.clone()));
        }
        let end = validity(&self.der).map(|(_, end)| end).ok_or(AuthorityError::NotAnAuthority)?;
        let left = end.duration_since(SystemTime::now()).map_err(|_| AuthorityError::Ended)?;
        let key = match key {
            Some(key) => KeyPair::from_pem(key.expose())?,
            None => KeyPair::generate()?,
        };
        let mut params =
            params(hosts.first().map_or("server", |host| bare(host)), valid.min(left))?;
        let names = hosts.iter().map(|host| bare(host).to_owned());
        params.subject_alt_names =
            CertificateParams::new(names.collect::<Vec<_>>())?.subject_alt_names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Strict verifiers, for example Python 3.13's default, require this extension.
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Made {
            chain: format!("{}{}", certificate.pem(), self.certificate),
            key: Secret::new(key.serialize_pem()),
        })
    }
}

/// Whether a text is a private key, PEM.
pub fn is_private_key(text: &Secret) -> bool {
    KeyPair::from_pem(text.expose()).is_ok()
}

/// Whether a certificate is for exactly these hosts, and has more than a third of its life left.
/// Then it need not be renewed. Returns when it ends.
pub fn current_until(chain: &str, hosts: &[String], now: SystemTime) -> Option<SystemTime> {
    let der = first(chain)?;
    let certificate = parsed(&der)?;
    let names = certificate.subject_alternative_name().ok().flatten()?;
    let names = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    });
    let wanted: BTreeSet<String> = hosts.iter().map(|host| bare(host).to_owned()).collect();
    let (begin, end) = validity(&der)?;
    let life = end.duration_since(begin).ok()?;
    let left = end.duration_since(now).ok()?;
    (names.collect::<BTreeSet<_>>() == wanted && left > life / 3).then_some(end)
}

fn params(name: &str, valid: Duration) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = date_time_ymd(1970, 1, 1) + now;
    (params.not_before, params.not_after) = (now - BACKDATED, now + valid);
    Ok(params)
}

/// Only these names and addresses.
fn constraints(hosts: &[String]) -> NameConstraints {
    let addresses: Vec<IpAddr> = hosts.iter().filter_map(|host| bare(host).parse().ok()).collect();
    let names: Vec<_> = hosts.iter().filter(|host| bare(host).parse::<IpAddr>().is_err()).collect();
    let whole = |address: &IpAddr| {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(*address, prefix))
    };
    let mut permitted: Vec<_> = addresses.iter().map(whole).collect();
    permitted.extend(names.iter().map(|name| GeneralSubtree::DnsName((*name).clone())));
    // Where nothing of a kind is permitted, everything of it would be.
    if names.is_empty() {
        permitted.push(GeneralSubtree::DnsName(NO_NAME.to_owned()));
    }
    let mut excluded = Vec::new();
    if addresses.is_empty() {
        excluded.push(GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])));
        excluded.push(GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])));
    }
    NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded }
}

/// Whether an authority may sign for a host.
fn permits(authority: &CertificateDer<'_>, host: &str) -> bool {
    let Some(certificate) = parsed(authority) else { return false };
    let constraints =
        certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::NameConstraints(constraints) => Some(constraints),
            _ => None,
        });
    let permitted = constraints.and_then(|constraints| constraints.permitted_subtrees.as_ref());
    permitted.into_iter().flatten().any(|subtree| match &subtree.base {
        GeneralName::DNSName(name) => name.eq_ignore_ascii_case(host),
        GeneralName::IPAddress(bytes) => {
            let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
            address(half).is_some_and(|address| bare(host).parse() == Ok(address))
        }
        _ => false,
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn first(text: &str) -> Option<CertificateDer<'static>> {
    let mut all = CertificateDer::pem_slice_iter(text.as_bytes());
    all.next().and_then(Result::<_, pem::Error>::ok)
}

fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    x509_parser::parse_x509_certificate(certificate).ok().map(|(_, parsed)| parsed)
}

/// When a certificate begins and ends.
fn validity(certificate: &CertificateDer<'_>) -> Option<(SystemTime, SystemTime)> {
    let parsed = parsed(certificate)?;
    let time = |timestamp: i64| {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(timestamp.try_into().ok()?))
    };
    let validity = parsed.validity();
    Some((time(validity.not_before.timestamp())?, time(validity.not_after.timestamp())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::crypto::ring;
    use rustls::pki_types::{ServerName, UnixTime};
    use std::sync::Arc;

    const DAY: Duration = Duration::from_secs(86_400);

    fn hosts(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    /// Whether a client that trusts the authority accepts a certificate that its key has signed,
    /// whatever it has signed.
    fn is_accepted(authority: &Authority, signed_for: &[&str], name: &str) -> bool {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(hosts(signed_for)).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &authority.issuer).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.der.clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = verifier.build().unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let der = certificate.der();
        verifier.verify_server_cert(der, &[], &name, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn the_key_of_the_authority_imitates_no_other_server() {
        let made = |names: &[&str]| Authority::new("bearerd test", &hosts(names), DAY).unwrap();
        let both = made(&["localhost", "sidecar.corp", "127.0.0.1", "[::1]"]);
        for name in ["localhost", "sidecar.corp", "127.0.0.1", "::1"] {
            assert!(is_accepted(&both, &[name], name), "{name}");
        }
        let names = made(&["sidecar.corp"]);
        let addresses = made(&["10.0.0.7"]);
        for other in ["acme.eu10.hcs.cloud.sap", "corp", "127.0.0.2", "10.0.0.8", "::2"] {
            for authority in [&both, &names, &addresses] {
                assert!(!is_accepted(authority, &[other], other), "{other}");
            }
        }
        assert!(!is_accepted(&names, &["127.0.0.1"], "127.0.0.1"));
        assert!(!is_accepted(&addresses, &["localhost"], "localhost"));
    }

    #[test]
    fn an_authority_that_is_read_again_signs_what_clients_of_the_first_one_accept() {
        let wanted = hosts(&["localhost", "127.0.0.1"]);
        let first = Authority::new("bearerd test", &wanted, 30 * DAY).unwrap();
        let read = Authority::read(first.certificate(), &first.key()).unwrap();
        let made = read.sign(&wanted, 9 * DAY, None).unwrap();
        let now = SystemTime::now();
        assert!(current_until(&made.chain, &wanted, now + 5 * DAY).is_some());
        assert!(current_until(&made.chain, &wanted, now + 7 * DAY).is_none(), "a third is left");
        assert!(current_until(&made.chain, &hosts(&["localhost"]), now).is_none(), "another name");
        assert!(is_accepted(&read, &["localhost"], "localhost"));
        let again = read.sign(&wanted, 9 * DAY, Some(&made.key)).unwrap();
        assert_eq!(again.key, made.key);
        // It ends with the authority.
        let long = read.sign(&wanted, 900 * DAY, None).unwrap();
        let end = current_until(&long.chain, &wanted, now).unwrap();
        assert!(end <= now + 30 * DAY);
        let other = Authority::new("bearerd test", &wanted, DAY).unwrap();
        let mixed = Authority::read(first.certificate(), &other.key());
        assert!(matches!(mixed, Err(AuthorityError::OtherKey)));
        let denied = read.sign(&hosts(&["other.corp"]), DAY, None);
        assert!(matches!(denied, Err(AuthorityError::NotPermitted(name)) if name == "other.corp"));
        assert!(Authority::read(&made.chain, &made.key).is_err(), "a server's certificate");
    }
}
