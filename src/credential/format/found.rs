//! An OAuth client as a document describes it.

use crate::secret::Secret;
use crate::secret_file::CertificateAndKey;
use url::Url;

/// An OAuth client, and where it was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The format's name: "BTP service key".
    pub format: &'static str,
    /// The location in the document: `xsuaa[0].credentials.uaa`.
    pub location: String,
    /// What the document says about the client.
    pub details: ClientDetails,
}

/// What a document says about an OAuth client.
#[derive(Clone, Debug)]
pub struct ClientDetails {
    /// The complete token endpoint, without `grant_type`.
    pub token_url: Url,
    /// The client's id.
    pub client_id: String,
    /// What proves the client.
    pub proof: FoundProof,
    /// The origin of the API, if the document names it.
    pub api_url: Option<Url>,
    /// The scope to ask for.
    pub scope: Option<String>,
    /// More parameters of the token request. Any of them may be a secret.
    pub token_params: Vec<(String, Secret)>,
    /// How the client proves itself, if the format says so.
    pub client_auth: Option<ClientAuth>,
    /// The keys that would change requests, but that bearerd does not follow.
    pub ignored: Vec<String>,
}

/// Proof of an OAuth client in a document.
#[derive(Clone, Debug)]
pub enum FoundProof {
    /// A client secret.
    Secret(Secret),
    /// An X.509 certificate (RFC 8705).
    Certificate(CertificateAndKey),
}

/// How a client proves itself at the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// Id and secret in the body.
    Body,
    /// Id and secret in an `Authorization: Basic` header.
    Basic,
    /// A certificate in the TLS handshake.
    Mtls,
}
