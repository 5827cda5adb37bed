//! The issuer's signing key. It signs tokens (JWT, RS256) and verifies them. Its public half is
//! published as a JWK set.
//!
//! Real issuers keep an old key for two hours after a planned rotation, and drop it at once in a
//! forced one. This issuer always drops it at once, because that is the harder case for clients: a
//! token is refused long before its `exp`.

use super::error::DemoError;
use super::jwt;
use getrandom::SysRng;
use parking_lot::RwLock;
use rsa::pkcs1v15::{Signature, SigningKey, VerifyingKey};
use rsa::sha2::Sha256;
use rsa::signature::{Keypair, SignatureEncoding, Signer, Verifier};
use rsa::traits::PublicKeyParts;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Time limit for the generation of a key. It takes seconds without optimisation, and longer on a
/// busy machine.
pub(super) const GENERATION_TIMEOUT: Duration = Duration::from_secs(60);

const BITS: usize = 2048;

/// The current signing key, replaceable while requests are being served.
pub(super) struct SigningKeys {
    current: RwLock<Arc<Key>>,
}

struct Key {
    /// The key's name in the header of a token (`kid`) and in the JWK set.
    id: String,
    signing: SigningKey<Sha256>,
    verifying: VerifyingKey<Sha256>,
}

/// The fields of a token's header that are checked.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

/// The claims that are checked. The real tenant checks more. The demo's only client has all
/// rights.
#[derive(Deserialize)]
struct Claims {
    exp: u64,
    jti: String,
}

/// Why a token is refused, in the order of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidToken {
    #[error("the token is not an RS256 JSON Web Token")]
    Malformed,
    #[error("the token names a signing key that is not, or no longer, valid")]
    UnknownKey,
    #[error("the token's signature is wrong")]
    BadSignature,
    #[error("the token has expired")]
    Expired,
}

impl SigningKeys {
    /// Makes the first key. Slow: see [`SigningKeys::rotate`].
    pub(super) fn new() -> Result<Self, DemoError> {
        Ok(Self { current: RwLock::new(Arc::new(Key::generate()?)) })
    }

    /// Replaces the key and returns the id of the new one. Finding two large primes takes most of a
    /// second.
    pub(super) fn rotate(&self) -> Result<String, DemoError> {
        let key = Key::generate()?;
        let id = key.id.clone();
        *self.current.write() = Arc::new(key);
        Ok(id)
    }

    fn current(&self) -> Arc<Key> {
        Arc::clone(&self.current.read())
    }

    /// Signs the claims. `jku` is the URL of the JWK set.
    pub(super) fn sign(&self, jku: &str, claims: &Value) -> Result<String, rsa::signature::Error> {
        let key = self.current();
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": key.id, "jku": jku });
        let signed =
            format!("{}.{}", jwt::encode(header.to_string()), jwt::encode(claims.to_string()));
        let signature = key.signing.try_sign(signed.as_bytes())?;
        Ok(format!("{signed}.{}", jwt::encode(signature.to_bytes())))
    }

    /// Verifies a token as the tenant does: its key must be the current one, then its signature and
    /// `exp` must be valid. There is no leeway, because issuer and tenant have the same clock.
    /// Returns the token's id (`jti`).
    pub(super) fn verify(&self, token: &str, now: u64) -> Result<String, InvalidToken> {
        let parts = jwt::split(token).ok_or(InvalidToken::Malformed)?;
        let header: Header = jwt::decode_json(parts.header).ok_or(InvalidToken::Malformed)?;
        if header.alg != "RS256" {
            return Err(InvalidToken::Malformed);
        }
        let key = self.current();
        if header.kid != key.id {
            return Err(InvalidToken::UnknownKey);
        }
        let signature = jwt::decode(parts.signature).ok_or(InvalidToken::Malformed)?;
        let signature =
            Signature::try_from(signature.as_slice()).map_err(|_| InvalidToken::BadSignature)?;
        key.verifying
            .verify(parts.signed.as_bytes(), &signature)
            .map_err(|_| InvalidToken::BadSignature)?;
        let claims: Claims = jwt::decode_json(parts.claims).ok_or(InvalidToken::Malformed)?;
        if claims.exp > now { Ok(claims.jti) } else { Err(InvalidToken::Expired) }
    }

    /// The response of `/token_keys`.
    pub(super) fn jwk_set(&self) -> Value {
        let key = self.current();
        let public: &rsa::PublicKey = key.verifying.as_ref();
        json!({ "keys": [{
            "kty": "RSA",
            "e": jwt::encode(public.e_bytes()),
            "n": jwt::encode(public.n_bytes()),
            "kid": key.id,
            "alg": "RS256",
            "use": "sig",
        }] })
    }
}

impl Key {
    fn generate() -> Result<Self, DemoError> {
        let signing = SigningKey::random(&mut SysRng, BITS).map_err(DemoError::SigningKey)?;
        let id = format!("demo-key--{}", uuid::Uuid::new_v4().simple());
        Ok(Self { id, verifying: signing.verifying_key(), signing })
    }
}
