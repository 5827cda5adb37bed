//! What proves an OAuth client to its issuer: where it is kept, and what was read there.
//!
//! A [`Source`] is the configuration's word for a place. Reading it gives an [`Identity`], whole or not
//! at all.

pub mod folder;
pub mod format;

use crate::blocking;
use crate::blocking::BlockingError;
use crate::endpoint;
use crate::files::open_plain;
use crate::pem;
use crate::secret::Secret;
use crate::text::{self, NotText};
use folder::ReadError;
use format::{Binding, FormatError, Tree};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;
use zeroize::Zeroizing;

/// How long reading may take: a network file system that hangs must not hold up anything else.
pub const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest file that holds one secret, in bytes.
const MAX_SECRET: u64 = 64 * 1024;

/// Where a client's identity is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The configuration names each part.
    Parts {
        /// The token endpoint.
        token_url: Url,
        /// The OAuth client id.
        client_id: String,
        /// What proves the client.
        proof: ProofSource,
    },
    /// A file, a folder or a variable that holds all of it, in one of the known formats.
    Key {
        /// Where it is.
        place: KeyPlace,
        /// Which one, where there are several.
        binding: Binding,
        /// Overrides what is found.
        token_url: Option<Url>,
        /// Overrides how a secret is sent.
        secret_auth: Option<SecretAuth>,
        /// Whether a token URL without TLS is taken.
        allow_cleartext: bool,
    },
}

/// Where a key is.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyPlace {
    /// A file or a folder.
    Path(PathBuf),
    /// The value of this variable; it can't change while the process runs.
    Variable(String, Secret),
}

/// Where a proof is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum ProofSource {
    /// A secret out of the configuration or the environment.
    Secret(SecretAuth, Secret),
    /// A secret in a file, and maybe its successor in another.
    SecretFile(SecretAuth, PathBuf, Option<PathBuf>),
    /// A certificate chain and its private key, PEM.
    Certificate(PathBuf, PathBuf),
    /// A private key, PEM, and the id under which the issuer knows its public half.
    SigningKey(PathBuf, Option<String>),
}

/// What a client is at its issuer.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// The token endpoint.
    pub token_url: Url,
    /// The OAuth client id.
    pub client_id: String,
    /// What proves it.
    pub proof: Proof,
    /// Scopes that the key asks for, unless the configuration does.
    pub scope: Option<String>,
    /// Parameters of the token request that the key asks for.
    pub token_params: Vec<(String, Secret)>,
    /// The API that the key names, if it does.
    pub api_url: Option<Url>,
    /// What was read, for people: "BTP service key at credentials.uaa".
    pub described: String,
}

/// What proves a client (RFC 6749 section 2.3, RFC 7523 section 2.2, RFC 8705 section 2).
#[derive(Clone, Debug, PartialEq)]
pub enum Proof {
    /// A secret, and maybe the one that comes after it.
    Secret(SecretAuth, Secret, Option<Secret>),
    /// A certificate in the TLS handshake: chain and key, PEM.
    Certificate(String, Secret),
    /// An assertion signed with this key, PEM, and the key's id.
    SigningKey(Secret, Option<String>),
}

/// How a secret is sent (RFC 6749 section 2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretAuth {
    /// Id and secret in the form body: what SAP's own libraries do.
    #[default]
    Post,
    /// HTTP Basic of the raw id and secret.
    Basic,
    /// HTTP Basic of the form-encoded id and secret, announced by `X-CF-ENCODED-CREDENTIALS: true`.
    BasicEncoded,
}

impl SecretAuth {
    const fn described(self) -> &'static str {
        match self {
            Self::Post => "in the form body",
            Self::Basic => "as raw HTTP Basic",
            Self::BasicEncoded => "as form-encoded HTTP Basic",
        }
    }
}

/// A folder that was put in another's place is a new one to the sandbox.
fn sandbox_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            " (with `sandbox: on`, folders that are new or were replaced need a restart)"
        }
        _ => "",
    }
}

/// An identity that can't be read. Messages name the place, never what is in it.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file can't be read.
    #[error(
        "cannot read {}: {source}; check the path and its permissions{}",
        shown(path),
        sandbox_hint(source)
    )]
    Unreadable {
        /// The configured path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It was not read in time, or not at all.
    #[error("cannot read {place} now: {source}")]
    NotRead {
        /// The configured place.
        place: String,
        /// Why.
        source: BlockingError,
    },
    /// The file is no file, or no small one.
    #[error("{} is not a file of at most 64 KiB; check the path", shown(path))]
    NotASecret {
        /// The configured path.
        path: PathBuf,
    },
    /// The file is in no encoding that says what it is.
    #[error("{} {reason}", shown(path))]
    NotText {
        /// The configured path.
        path: PathBuf,
        /// What is wrong.
        reason: NotText,
    },
    /// The file holds nothing but line breaks.
    #[error("{} is empty; write the secret into it", shown(path))]
    Empty {
        /// The configured path.
        path: PathBuf,
    },
    /// No caller could show it.
    #[error("{} {reason}", shown(path))]
    CannotBeShown {
        /// The configured path.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: &'static str,
    },
    /// Which of the private keys fits the certificate would be a guess.
    #[error("{} holds several private keys; leave the one that fits the certificate", shown(path))]
    SeveralKeys {
        /// The configured path.
        path: PathBuf,
    },
    /// The key's file or folder can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What is there is no key that bearerd understands.
    #[error("{place}: {source}")]
    Format {
        /// The configured place.
        place: String,
        /// What is wrong with it.
        source: FormatError,
    },
    /// The key's token endpoint can't be used.
    #[error("{place}: the token URL {reason}")]
    TokenUrl {
        /// The configured place.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Source {
    /// The identity as it stands now.
    ///
    /// # Errors
    /// Something is missing, unreadable or not understood.
    pub fn read(&self) -> Result<Identity, CredentialError> {
        match self {
            Self::Parts { token_url, client_id, proof } => Ok(Identity {
                token_url: token_url.clone(),
                client_id: client_id.clone(),
                proof: proof.read()?,
                scope: None,
                token_params: Vec::new(),
                api_url: None,
                described: proof.described(),
            }),
            Self::Key { place, binding, token_url, secret_auth, allow_cleartext } => {
                let found = place.recognise(binding)?;
                let described = described(&found, place);
                let token_url = token_url.clone().unwrap_or(found.token_url);
                let checked = endpoint::token_url(token_url.as_str(), *allow_cleartext);
                let token_url = checked.map_err(|reason| CredentialError::TokenUrl {
                    place: place.to_string(),
                    reason,
                })?;
                let proof = match found.proof {
                    format::Proof::Secret(secret) => {
                        let says = match found.client_auth {
                            Some(format::ClientAuth::Basic) => SecretAuth::Basic,
                            _ => SecretAuth::Post,
                        };
                        Proof::Secret(secret_auth.unwrap_or(says), secret, None)
                    }
                    format::Proof::Certificate { chain, key } => Proof::Certificate(chain, key),
                };
                Ok(Identity {
                    token_url,
                    client_id: found.client_id,
                    proof,
                    scope: found.scope,
                    token_params: found.token_params,
                    api_url: found.api_url,
                    described,
                })
            }
        }
    }

    /// Like [`Source::read`], beside the runtime and within [`READ_TIMEOUT`].
    ///
    /// # Errors
    /// Those of [`Source::read`], and the time-out.
    pub async fn read_in_time(&self) -> Result<Identity, CredentialError> {
        let source = self.clone();
        let read = blocking::within(READ_TIMEOUT, move || source.read()).await;
        read.map_err(|source| CredentialError::NotRead { place: self.described(), source })?
    }

    /// The files and folders that can change.
    pub fn paths(&self) -> Vec<&Path> {
        match self {
            Self::Parts { proof, .. } => proof.paths(),
            Self::Key { place: KeyPlace::Path(path), .. } => vec![path],
            Self::Key { place: KeyPlace::Variable(..), .. } => Vec::new(),
        }
    }

    /// The place, in words.
    pub fn described(&self) -> String {
        match self {
            Self::Parts { proof, .. } => proof.described(),
            Self::Key { place, .. } => format!("the key in {place}"),
        }
    }

    /// The URL of the API that the key names, if it does.
    ///
    /// # Errors
    /// The key can't be read.
    pub fn api_url(&self) -> Result<Option<Url>, CredentialError> {
        match self {
            Self::Parts { .. } => Ok(None),
            Self::Key { place, binding, .. } => Ok(place.recognise(binding)?.api_url),
        }
    }
}

impl std::fmt::Display for KeyPlace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(formatter),
            Self::Variable(name, _) => write!(formatter, "the variable {name}"),
        }
    }
}

impl KeyPlace {
    fn recognise(&self, binding: &Binding) -> Result<format::Found, CredentialError> {
        let tree = match self {
            Self::Path(path) => folder::read(path)?,
            Self::Variable(_, value) => Tree::file(value.expose()),
        };
        format::recognise(&tree, binding)
            .map_err(|source| CredentialError::Format { place: self.to_string(), source })
    }
}

impl ProofSource {
    fn read(&self) -> Result<Proof, CredentialError> {
        Ok(match self {
            Self::Secret(auth, secret) => Proof::Secret(*auth, secret.clone(), None),
            Self::SecretFile(auth, path, next) => {
                let next = match next.as_deref().filter(|next| next.exists()).map(read_secret) {
                    // A successor that is not there yet is none.
                    None | Some(Err(CredentialError::Empty { .. })) => None,
                    Some(next) => Some(next?),
                };
                Proof::Secret(*auth, read_secret(path)?, next)
            }
            Self::Certificate(chain, key) => {
                let (chain, key) = read_certificate(chain, key)?;
                Proof::Certificate(chain, key)
            }
            Self::SigningKey(key, id) => Proof::SigningKey(read_pem(key)?, id.clone()),
        })
    }

    fn paths(&self) -> Vec<&Path> {
        match self {
            Self::Secret(..) => Vec::new(),
            Self::SecretFile(_, path, next) => {
                std::iter::once(path).chain(next).map(PathBuf::as_path).collect()
            }
            Self::Certificate(chain, key) => vec![chain, key],
            Self::SigningKey(key, _) => vec![key],
        }
    }

    fn described(&self) -> String {
        match self {
            Self::Secret(auth, _) => {
                format!("a secret from the configuration or environment, {}", auth.described())
            }
            Self::SecretFile(auth, path, _) => {
                format!("the secret in {}, {}", shown(path), auth.described())
            }
            Self::Certificate(chain, _) => format!("the certificate in {}", chain.display()),
            Self::SigningKey(key, _) => format!("assertions signed with {}", key.display()),
        }
    }
}

/// A path for messages. One without a slash may be a secret in the wrong place.
pub(crate) fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    if text.contains('/') { text } else { "the file that is named there (not shown)".to_owned() }
}

/// What was found, and what of it has no effect here.
fn described(found: &format::Found, place: &KeyPlace) -> String {
    let at = if found.place.is_empty() { String::new() } else { format!(" at {}", found.place) };
    let ignored = match &found.ignored[..] {
        [] => String::new(),
        names => format!(" (without {}, which bearerd does not follow)", names.join(", ")),
    };
    format!("{} in {place}{at}{ignored}", found.format)
}

/// Reads a certificate chain and its private key, PEM.
pub(crate) fn read_certificate(
    chain: &Path,
    key: &Path,
) -> Result<(String, Secret), CredentialError> {
    let (chain, secret) = (read_pem(chain)?, read_pem(key)?);
    let begins = |line: &&str| line.starts_with("-----BEGIN ") && line.contains("PRIVATE KEY");
    if secret.expose().lines().filter(begins).count() > 1 {
        return Err(CredentialError::SeveralKeys { path: key.to_owned() });
    }
    Ok((chain.expose().to_owned(), secret))
}

/// Reads a file of certificates or a key. One without PEM is left as it is, for its reader to complain of.
fn read_pem(path: &Path) -> Result<Secret, CredentialError> {
    let text = read_secret(path)?;
    let normal = pem::normal(text.expose());
    Ok(if normal.is_empty() { text } else { Secret::new(normal.to_string()) })
}

/// Reads a file that holds one secret. Editors and `echo` end it with a line break; no secret does. Windows'
/// programs may begin it with a byte order mark, or write UTF-16.
pub(crate) fn read_secret(path: &Path) -> Result<Secret, CredentialError> {
    let unreadable = |source| CredentialError::Unreadable { path: path.to_owned(), source };
    let not_a_secret = || CredentialError::NotASecret { path: path.to_owned() };
    let file = open_plain(path).map_err(|source| match source.kind() {
        ErrorKind::InvalidInput => not_a_secret(),
        _ => unreadable(source),
    })?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_SECRET + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    // What is large is something else.
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_SECRET) {
        return Err(not_a_secret());
    }
    let whole = text::decode(&bytes)
        .map_err(|reason| CredentialError::NotText { path: path.to_owned(), reason })?;
    let whole = Secret::new(whole.into_owned());
    let secret = whole.expose().trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(CredentialError::Empty { path: path.to_owned() });
    }
    Ok(Secret::new(secret.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_same_in_every_encoding_that_editors_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let marked = "\u{feff}7d3f$gr\u{fc}n\r\n";
        let utf16 = |unit: fn(u16) -> [u8; 2]| marked.encode_utf16().flat_map(unit).collect();
        let encodings: [Vec<u8>; 4] = [
            "7d3f$gr\u{fc}n\n".into(),
            marked.into(),
            utf16(u16::to_le_bytes),
            utf16(u16::to_be_bytes),
        ];
        for bytes in encodings {
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(read_secret(&path).unwrap().expose(), "7d3f$gr\u{fc}n", "{bytes:?}");
        }
        std::fs::write(&path, b"gr\xfcn").unwrap();
        let told = read_secret(&path).unwrap_err().to_string();
        assert!(told.contains("secret is not UTF-8 text"), "{told}");
        std::fs::write(&path, b"\xff\xfe\n\0").unwrap();
        assert!(matches!(read_secret(&path), Err(CredentialError::Empty { .. })));
    }

    #[test]
    fn of_several_private_keys_none_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (chain, key) = (folder.path().join("crt"), folder.path().join("key"));
        std::fs::write(&chain, "-----BEGIN CERTIFICATE-----").unwrap();
        let one = "-----BEGIN EC PARAMETERS-----\n-----END EC PARAMETERS-----\n-----BEGIN EC PRIVATE KEY-----\nx\n-----END EC PRIVATE KEY-----\n";
        std::fs::write(&key, one).unwrap();
        assert!(read_certificate(&chain, &key).is_ok());
        std::fs::write(&key, format!("{one}-----BEGIN PRIVATE KEY-----\n")).unwrap();
        let told = read_certificate(&chain, &key).unwrap_err().to_string();
        assert!(told.contains("several private keys"), "{told}");
    }
}
