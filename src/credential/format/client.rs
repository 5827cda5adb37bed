//! A client with id, proof and token URL in one map: the base of every format.

use super::error::ClientFault;
use super::fields::{FieldNames, Fields, is_same_name};
use super::found::{ClientAuth, ClientDetails, FoundProof};
use super::{address, pem};
use crate::secret::Secret;
use crate::secret_file::CertificateAndKey;

/// Names of the keys of one format. An empty list means that the format has no key of this kind.
pub(super) struct KeyNames {
    pub(super) client_id: FieldNames,
    pub(super) client_secret: FieldNames,
    /// A complete token URL.
    pub(super) token_url: FieldNames,
    /// The issuer's base URL.
    pub(super) base_url: FieldNames,
    /// The issuer's base URL for certificates.
    pub(super) cert_url: FieldNames,
    /// The API's URL, which may be in a map around the client's.
    pub(super) api_url: FieldNames,
    pub(super) scope: FieldNames,
}

const CERTIFICATE: FieldNames = &["certificate"];
const KEY: FieldNames = &["key"];
const CREDENTIAL_TYPE: FieldNames = &["credential-type"];
/// Keys that only clients for people or for SAML have.
pub(super) const INTERACTIVE: FieldNames =
    &["authorization_url", "auth_authorize_url", "OAuth2SAML Token URL", "OAuth2SAML Audience"];

/// Kind of a client's proof.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ProofKind {
    Secret,
    Certificate,
}

/// Reads a client. All faults are returned, not only the first.
pub(super) fn read(
    fields: &Fields<'_>,
    keys: &KeyNames,
) -> Result<ClientDetails, Vec<ClientFault>> {
    let Some(kind) = proof_kind(fields, keys) else {
        return Err(without_proof(fields, keys));
    };
    let client_id = fields.required(keys.client_id).map(|text| text.trim().to_owned());
    let proof = proof(fields, keys, kind);
    let token_url = token_url(fields, keys, kind);
    match (client_id, proof, token_url) {
        (Ok(client_id), Ok(proof), Ok(token_url)) => Ok(ClientDetails {
            token_url,
            client_id,
            proof,
            api_url: api_url(fields, keys),
            scope: fields.optional(keys.scope).map(str::to_owned),
            token_params: Vec::new(),
            client_auth: (kind == ProofKind::Certificate).then_some(ClientAuth::Mtls),
            ignored: Vec::new(),
        }),
        (client_id, proof, token_url) => {
            let faults = client_id.err().into_iter().chain(proof.err().unwrap_or_default());
            Err(faults.chain(token_url.err()).collect())
        }
    }
}

/// The kind of proof. `credential-type` decides. Without it, a secret counts before a certificate,
/// and half a certificate is enough, so that the missing half is reported.
fn proof_kind(fields: &Fields<'_>, keys: &KeyNames) -> Option<ProofKind> {
    let named = fields.optional(CREDENTIAL_TYPE).unwrap_or_default().to_ascii_lowercase();
    if named.starts_with("x509") {
        return Some(ProofKind::Certificate);
    }
    if named.ends_with("secret") || is_given(fields, keys.client_secret) {
        return Some(ProofKind::Secret);
    }
    let of_certificates = [CERTIFICATE, KEY, keys.cert_url];
    of_certificates.iter().any(|names| is_given(fields, names)).then_some(ProofKind::Certificate)
}

fn is_given(fields: &Fields<'_>, names: FieldNames) -> bool {
    !matches!(fields.text(names), Ok(None))
}

/// The faults of a client without a proof.
fn without_proof(fields: &Fields<'_>, keys: &KeyNames) -> Vec<ClientFault> {
    if fields.has(INTERACTIVE) {
        return vec![ClientFault::Interactive];
    }
    let field = keys.client_secret.first().copied().unwrap_or_default();
    let id = fields.required(keys.client_id).err();
    let url = token_url(fields, keys, ProofKind::Secret).err();
    id.into_iter().chain([ClientFault::NoProof { field }]).chain(url).collect()
}

fn proof(
    fields: &Fields<'_>,
    keys: &KeyNames,
    kind: ProofKind,
) -> Result<FoundProof, Vec<ClientFault>> {
    if kind == ProofKind::Secret {
        let secret = fields.required(keys.client_secret).map_err(|fault| vec![fault])?;
        let secret = secret.trim_end_matches(['\r', '\n']);
        return Ok(FoundProof::Secret(Secret::new(secret.to_owned())));
    }
    let chain = fields.required(CERTIFICATE).and_then(|text| pem::chain(text, "certificate"));
    let key = fields.required(KEY).and_then(|text| pem::key(text, "key"));
    match (chain, key) {
        (Ok(chain), Ok(key)) => Ok(FoundProof::Certificate(CertificateAndKey { chain, key })),
        (chain, key) => Err(chain.err().into_iter().chain(key.err()).collect()),
    }
}

/// The token endpoint. A complete URL takes precedence over a base. Certificates have a host of
/// their own (`certurl`), except with SAP Cloud Identity Services.
fn token_url(
    fields: &Fields<'_>,
    keys: &KeyNames,
    kind: ProofKind,
) -> Result<url::Url, ClientFault> {
    let name = |names: FieldNames| names.first().copied().unwrap_or_default();
    if let Some(text) = fields.text(keys.token_url)? {
        return address::token(text, name(keys.token_url));
    }
    let base = fields.text(keys.base_url)?;
    let base = base.map(|text| address::token_of_base(text, name(keys.base_url)));
    if kind == ProofKind::Secret
        || matches!(&base, Some(Ok(url)) if address::is_identity_services(url))
    {
        let wanted = if keys.base_url.is_empty() { keys.token_url } else { keys.base_url };
        return base.unwrap_or_else(|| Err(ClientFault::Missing { field: name(wanted) }));
    }
    let wanted = if keys.cert_url.is_empty() { keys.token_url } else { keys.cert_url };
    match fields.text(keys.cert_url)? {
        Some(text) => address::token_of_base(text, name(wanted)),
        None => Err(ClientFault::Missing { field: name(wanted) }),
    }
}

/// The API of the key, as the innermost map names it. A value that is not a URL is ignored.
fn api_url(fields: &Fields<'_>, keys: &KeyNames) -> Option<url::Url> {
    fields.surroundings().find_map(|map| {
        let endpoints = map.nested("endpoints").filter(|_| !keys.base_url.is_empty());
        let endpoint = endpoints.and_then(|endpoints| endpoints.optional(&["Api"]));
        address::origin(map.optional(keys.api_url).or(endpoint)?)
    })
}

/// Whether a map has one of these keys, spelled like this but for the case.
pub(super) fn has_spelling(fields: &Fields<'_>, names: &[&str]) -> bool {
    let is_one = |key: &str| names.iter().any(|name| name.eq_ignore_ascii_case(key));
    fields.entries().iter().any(|(key, _)| is_one(key))
}

/// Whether this map may hold a client: it has a key that no other map has.
pub(super) fn is_client(fields: &Fields<'_>, keys: &KeyNames) -> bool {
    [keys.client_id, keys.client_secret, keys.token_url].iter().any(|names| fields.has(names))
}

/// The keys that begin with a prefix, each without the prefix and with its text.
pub(super) fn prefixed<'n>(
    fields: &Fields<'n>,
    prefix: &str,
) -> impl Iterator<Item = (&'n str, &'n str)> {
    fields.entries().iter().filter_map(move |(key, value)| {
        let (start, name) = key.split_at_checked(prefix.len())?;
        (is_same_name(start, prefix) && !name.is_empty()).then_some((name, value.text()?))
    })
}
