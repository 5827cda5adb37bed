//! Configured location of a client's identity.

use super::error::CredentialError;
use super::folder;
use super::format::{self, Binding, ClientAuth, Found, FoundProof, Tree};
use super::identity::{Identity, Proof, SecretAuth};
use super::proof_source::ProofSource;
use crate::blocking;
use crate::endpoint;
use crate::secret::Secret;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;

/// How long reading a credential may take, so that a network file system that hangs blocks nothing
/// else.
pub const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the identity of a client is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum CredentialSource {
    /// The configuration names each part.
    Parts {
        /// The token endpoint.
        token_url: Url,
        /// The OAuth client id.
        client_id: String,
        /// Where the proof is kept.
        proof: ProofSource,
    },
    /// A file, a folder or a variable holds the whole identity, in one of the known formats.
    Key {
        /// Where it is.
        location: KeyLocation,
        /// The choice among several identities.
        binding: Binding,
        /// The token endpoint, if the configuration overrides the key's.
        token_url: Option<Url>,
        /// How the secret is sent, if the configuration overrides the key.
        secret_auth: Option<SecretAuth>,
        /// Whether a token URL without TLS is accepted.
        allow_cleartext: bool,
    },
}

/// Where a key is.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyLocation {
    /// A file or a folder.
    Path(PathBuf),
    /// A variable's name and value. It can't change while the process runs.
    Variable(String, Secret),
}

impl CredentialSource {
    /// Reads the identity as it is now.
    ///
    /// # Errors
    /// A part is missing, unreadable or not understood.
    pub fn read(&self) -> Result<Identity, CredentialError> {
        match self {
            Self::Parts { token_url, client_id, proof } => Ok(Identity {
                token_url: token_url.clone(),
                client_id: client_id.clone(),
                proof: proof.read()?,
                scope: None,
                token_params: Vec::new(),
                api_url: None,
                description: proof.description(),
            }),
            Self::Key { location, binding, token_url, secret_auth, allow_cleartext } => {
                let found = location.recognise(binding)?;
                let description = found_in(&found, location);
                let details = found.details;
                let token_url = token_url.as_ref().unwrap_or(&details.token_url);
                let token_url = endpoint::token_url(token_url.as_str(), *allow_cleartext);
                Ok(Identity {
                    token_url: token_url.map_err(|reason| CredentialError::TokenUrl {
                        location: location.to_string(),
                        reason,
                    })?,
                    client_id: details.client_id,
                    proof: proof(details.proof, details.client_auth, *secret_auth),
                    scope: details.scope,
                    token_params: details.token_params,
                    api_url: details.api_url,
                    description,
                })
            }
        }
    }

    /// Like [`CredentialSource::read`], on a thread for blocking work and within [`READ_TIMEOUT`].
    ///
    /// # Errors
    /// Those of [`CredentialSource::read`], and the timeout.
    pub async fn read_in_time(&self) -> Result<Identity, CredentialError> {
        let source = self.clone();
        let read = blocking::within(READ_TIMEOUT, move || source.read()).await;
        read.map_err(|source| CredentialError::NotRead { location: self.description(), source })?
    }

    /// The files and folders that can change.
    pub fn paths(&self) -> Vec<&Path> {
        match self {
            Self::Parts { proof, .. } => proof.paths(),
            Self::Key { location: KeyLocation::Path(path), .. } => vec![path],
            Self::Key { location: KeyLocation::Variable(..), .. } => Vec::new(),
        }
    }

    /// The location in words.
    pub fn description(&self) -> String {
        match self {
            Self::Parts { proof, .. } => proof.description(),
            Self::Key { location, .. } => format!("the key in {location}"),
        }
    }

    /// The URL of the API, if the key names one.
    ///
    /// # Errors
    /// The key can't be read.
    pub fn api_url(&self) -> Result<Option<Url>, CredentialError> {
        match self {
            Self::Parts { .. } => Ok(None),
            Self::Key { location, binding, .. } => Ok(location.recognise(binding)?.details.api_url),
        }
    }
}

impl fmt::Display for KeyLocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(formatter),
            Self::Variable(name, _) => write!(formatter, "the variable {name}"),
        }
    }
}

impl KeyLocation {
    fn recognise(&self, binding: &Binding) -> Result<Found, CredentialError> {
        let tree = match self {
            Self::Path(path) => folder::read(path)?,
            Self::Variable(_, value) => Tree::file(value.expose()),
        };
        format::recognise(&tree, binding)
            .map_err(|source| CredentialError::Format { location: self.to_string(), source })
    }
}

/// The proof of a key. `configured` takes precedence over what the key says about sending a secret.
fn proof(found: FoundProof, says: Option<ClientAuth>, configured: Option<SecretAuth>) -> Proof {
    match found {
        FoundProof::Secret(current) => {
            let auth = configured.unwrap_or(match says {
                Some(ClientAuth::Basic) => SecretAuth::Basic,
                Some(ClientAuth::Body | ClientAuth::Mtls) | None => SecretAuth::Post,
            });
            Proof::Secret { auth, current, next: None }
        }
        FoundProof::Certificate(certificate) => Proof::Certificate(certificate),
    }
}

/// What was found at a location, and the keys of it that have no effect.
fn found_in(found: &Found, location: &KeyLocation) -> String {
    let at =
        if found.location.is_empty() { String::new() } else { format!(" at {}", found.location) };
    let ignored = match &found.details.ignored[..] {
        [] => String::new(),
        names => format!(" (without {}, which bearerd does not follow)", names.join(", ")),
    };
    format!("{} in {location}{at}{ignored}", found.format)
}
