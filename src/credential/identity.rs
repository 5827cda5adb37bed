//! Identity of an OAuth client at its issuer.

use crate::secret::Secret;
use crate::secret_file::CertificateAndKey;
use url::Url;

/// An OAuth client at its issuer: id, proof, token endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// The token endpoint.
    pub token_url: Url,
    /// The OAuth client id.
    pub client_id: String,
    /// What proves the client.
    pub proof: Proof,
    /// The scope that the key names. The configuration's scope takes precedence.
    pub scope: Option<String>,
    /// Parameters of the token request that the key names. The configuration's take precedence.
    pub token_params: Vec<(String, Secret)>,
    /// The API that the key names.
    pub api_url: Option<Url>,
    /// What was read, for messages: "BTP service key at credentials.uaa".
    pub description: String,
}

/// Proof of a client (RFC 6749 section 2.3, RFC 7523 section 2.2, RFC 8705 section 2).
#[derive(Clone, Debug, PartialEq)]
pub enum Proof {
    /// A client secret.
    Secret {
        /// How it is sent.
        auth: SecretAuth,
        /// The secret in use.
        current: Secret,
        /// Its successor, once there is one.
        next: Option<Secret>,
    },
    /// A certificate in the TLS handshake.
    Certificate(CertificateAndKey),
    /// A key that signs assertions.
    SigningKey {
        /// The private key as PEM text.
        key: Secret,
        /// The id of the key at the issuer (`kid`).
        id: Option<String>,
    },
}

/// How a client secret is sent (RFC 6749 section 2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretAuth {
    /// Id and secret in the form body, as SAP's own libraries send them.
    #[default]
    Post,
    /// HTTP Basic of the raw id and secret.
    Basic,
    /// HTTP Basic of the form-encoded id and secret, with `X-CF-ENCODED-CREDENTIALS: true`.
    BasicEncoded,
}

impl SecretAuth {
    /// The method in words.
    pub(super) const fn description(self) -> &'static str {
        match self {
            Self::Post => "in the form body",
            Self::Basic => "as raw HTTP Basic",
            Self::BasicEncoded => "as form-encoded HTTP Basic",
        }
    }
}
