//! A client whose id, proof and token URL stand beside each other: what every format comes down to.

use super::error::Problem;
use super::section::{Names, Section, is_same};
use super::{ClientAuth, Details, Proof, address, pem};
use crate::secret::Secret;

/// How one format names what makes a client. An empty list: the format has no such key.
pub(super) struct Keys {
    pub(super) client_id: Names,
    pub(super) client_secret: Names,
    /// A complete token URL.
    pub(super) token_url: Names,
    /// The issuer's base URL, and the one for certificates.
    pub(super) base_url: Names,
    pub(super) cert_url: Names,
    /// The API, also looked for in the maps around.
    pub(super) api_url: Names,
    pub(super) scope: Names,
}

const CERTIFICATE: Names = &["certificate"];
const KEY: Names = &["key"];
const CREDENTIAL_TYPE: Names = &["credential-type"];
/// What only clients for people, or for SAML, come with.
pub(super) const INTERACTIVE: Names =
    &["authorization_url", "auth_authorize_url", "OAuth2SAML Token URL", "OAuth2SAML Audience"];

/// What is to prove the client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Secret,
    Certificate,
}

/// Reads a client. Every problem is told, not only the first.
pub(super) fn read(section: &Section<'_>, keys: &Keys) -> Result<Details, Vec<Problem>> {
    let Some(kind) = kind(section, keys) else {
        return Err(without_proof(section, keys));
    };
    let client_id = section.required(keys.client_id).map(|text| text.trim().to_owned());
    let proof = proof(section, keys, kind);
    let token_url = token_url(section, keys, kind);
    match (client_id, proof, token_url) {
        (Ok(client_id), Ok(proof), Ok(token_url)) => Ok(Details {
            token_url,
            client_id,
            proof,
            api_url: api_url(section, keys),
            scope: section.optional(keys.scope).map(str::to_owned),
            token_params: Vec::new(),
            client_auth: (kind == Kind::Certificate).then_some(ClientAuth::Mtls),
            ignored: Vec::new(),
        }),
        (client_id, proof, token_url) => {
            let problems = client_id.err().into_iter().chain(proof.err().unwrap_or_default());
            Err(problems.chain(token_url.err()).collect())
        }
    }
}

/// `credential-type` decides; without one a secret does, and then whatever is left of a
/// certificate, so that its missing half is named.
fn kind(section: &Section<'_>, keys: &Keys) -> Option<Kind> {
    let told = section.optional(CREDENTIAL_TYPE).unwrap_or_default().to_ascii_lowercase();
    if told.starts_with("x509") {
        return Some(Kind::Certificate);
    }
    if told.ends_with("secret") || is_given(section, keys.client_secret) {
        return Some(Kind::Secret);
    }
    let of_certificates = [CERTIFICATE, KEY, keys.cert_url];
    of_certificates.iter().any(|names| is_given(section, names)).then_some(Kind::Certificate)
}

fn is_given(section: &Section<'_>, names: Names) -> bool {
    !matches!(section.text(names), Ok(None))
}

fn without_proof(section: &Section<'_>, keys: &Keys) -> Vec<Problem> {
    if section.has(INTERACTIVE) {
        return vec![Problem::Interactive];
    }
    let field = keys.client_secret.first().copied().unwrap_or_default();
    let id = section.required(keys.client_id).err();
    let url = token_url(section, keys, Kind::Secret).err();
    id.into_iter().chain([Problem::NoProof { field }]).chain(url).collect()
}

fn proof(section: &Section<'_>, keys: &Keys, kind: Kind) -> Result<Proof, Vec<Problem>> {
    if kind == Kind::Secret {
        let secret = section.required(keys.client_secret).map_err(|problem| vec![problem])?;
        let secret = secret.trim_end_matches(['\r', '\n']);
        return Ok(Proof::Secret(Secret::new(secret.to_owned())));
    }
    let chain = section.required(CERTIFICATE).and_then(|text| pem::chain(text, "certificate"));
    let key = section.required(KEY).and_then(|text| pem::key(text, "key"));
    match (chain, key) {
        (Ok(chain), Ok(key)) => Ok(Proof::Certificate { chain, key }),
        (chain, key) => Err(chain.err().into_iter().chain(key.err()).collect()),
    }
}

/// A complete URL counts before a base. Certificates have a host of their own (`certurl`), but
/// for SAP Cloud Identity Services, which takes them where it takes secrets.
fn token_url(section: &Section<'_>, keys: &Keys, kind: Kind) -> Result<url::Url, Problem> {
    let name = |names: Names| names.first().copied().unwrap_or_default();
    if let Some(text) = section.text(keys.token_url)? {
        return address::token(text, name(keys.token_url));
    }
    let base = section.text(keys.base_url)?;
    let base = base.map(|text| address::token_of_base(text, name(keys.base_url)));
    if kind == Kind::Secret || matches!(&base, Some(Ok(url)) if address::is_identity_services(url))
    {
        let wanted = if keys.base_url.is_empty() { keys.token_url } else { keys.base_url };
        return base.unwrap_or_else(|| Err(Problem::Missing { field: name(wanted) }));
    }
    let wanted = if keys.cert_url.is_empty() { keys.token_url } else { keys.cert_url };
    match section.text(keys.cert_url)? {
        Some(text) => address::token_of_base(text, name(wanted)),
        None => Err(Problem::Missing { field: name(wanted) }),
    }
}

/// The API that the key is for, from the innermost map that names it; what is no URL is no API.
fn api_url(section: &Section<'_>, keys: &Keys) -> Option<url::Url> {
    section.surroundings().find_map(|map| {
        let endpoints = map.nested("endpoints").filter(|_| !keys.base_url.is_empty());
        let endpoint = endpoints.and_then(|endpoints| endpoints.optional(&["Api"]));
        address::origin(map.optional(keys.api_url).or(endpoint)?)
    })
}

/// Whether a map has one of these keys, spelled exactly so.
pub(super) fn has_spelling(section: &Section<'_>, names: &[&str]) -> bool {
    let is_one = |key: &str| names.iter().any(|name| name.eq_ignore_ascii_case(key));
    section.entries().iter().any(|(key, _)| is_one(key))
}

/// Whether a client may stand in this map: it has a key that other things have not.
pub(super) fn is_client(section: &Section<'_>, keys: &Keys) -> bool {
    [keys.client_id, keys.client_secret, keys.token_url].iter().any(|names| section.has(names))
}

/// The keys that begin with a prefix, without it, and their texts.
pub(super) fn prefixed<'n>(
    section: &Section<'n>,
    prefix: &str,
) -> impl Iterator<Item = (&'n str, &'n str)> {
    section.entries().iter().filter_map(move |(key, value)| {
        let (start, name) = key.split_at_checked(prefix.len())?;
        (is_same(start, prefix) && !name.is_empty()).then_some((name, value.text()?))
    })
}
