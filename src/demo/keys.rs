//! The issuer's signing key: makes tokens (JWT, RS256), checks them, and publishes itself as a JWK set.
//!
//! Real issuers keep an old key for two hours after a planned rotation and drop it at once in a forced one. This one
//! always drops it at once: that is the case which hurts, a token refused long before its `exp`.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use getrandom::SysRng;
use rsa::pkcs1v15::{Signature, SigningKey, VerifyingKey};
use rsa::sha2::Sha256;
use rsa::signature::{Keypair, SignatureEncoding, Signer, Verifier};
use rsa::traits::PublicKeyParts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::DemoError;

const BITS: usize = 2048;

/// The current signing key, replaceable while requests are being served.
pub(super) struct Keys {
    current: RwLock<Arc<Key>>,
}

struct Key {
    /// Its name in the token's header (`kid`) and in the JWK set.
    id: String,
    signing: SigningKey<Sha256>,
    verifying: VerifyingKey<Sha256>,
}

/// What is read of a token's header.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

/// What is read of a token's payload. The tenant looks at the rest, too; a demo has one client with all rights.
#[derive(Deserialize)]
struct Claims {
    exp: u64,
    jti: String,
}

/// Why a token is refused, in the order in which it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenRefusal {
    #[error("the token is not an RS256 JSON Web Token")]
    Malformed,
    #[error("the token names a signing key that is not, or no longer, valid")]
    UnknownKey,
    #[error("the token's signature is wrong")]
    BadSignature,
    #[error("the token has expired")]
    Expired,
}

impl Keys {
    /// Makes the first key. Slow: see [`Keys::rotate`].
    pub(super) fn new() -> Result<Self, DemoError> {
        Ok(Self { current: RwLock::new(Arc::new(Key::generate()?)) })
    }

    /// Replaces the key and returns the new one's id. Slow, a good part of a second: two large primes must be found.
    pub(super) fn rotate(&self) -> Result<String, DemoError> {
        let key = Key::generate()?;
        let id = key.id.clone();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
        Ok(id)
    }

    fn current(&self) -> Arc<Key> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Signs the claims. `jku` tells verifiers where the JWK set is.
    pub(super) fn sign(&self, jku: &str, claims: &Value) -> Result<String, rsa::signature::Error> {
        let key = self.current();
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": key.id, "jku": jku });
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = key.signing.try_sign(signed.as_bytes())?;
        Ok(format!("{signed}.{}", encode(signature.to_bytes())))
    }

    /// Checks a token as the tenant does: a current key, its signature, then `exp` (no leeway: the issuer's clock is
    /// ours). Returns the token's id (`jti`).
    pub(super) fn verify(&self, token: &str, now: u64) -> Result<String, TokenRefusal> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenRefusal::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenRefusal::Malformed)?;
        let header: Header = decode_json(header)?;
        if header.alg != "RS256" {
            return Err(TokenRefusal::Malformed);
        }
        let key = self.current();
        if header.kid != key.id {
            return Err(TokenRefusal::UnknownKey);
        }
        let signature = Signature::try_from(decode(signature)?.as_slice())
            .map_err(|_| TokenRefusal::BadSignature)?;
        key.verifying
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| TokenRefusal::BadSignature)?;
        let claims: Claims = decode_json(claims)?;
        if claims.exp > now { Ok(claims.jti) } else { Err(TokenRefusal::Expired) }
    }

    /// The answer of `/token_keys`.
    pub(super) fn jwk_set(&self) -> Value {
        let key = self.current();
        let public: &rsa::PublicKey = key.verifying.as_ref();
        json!({ "keys": [{
            "kty": "RSA",
            "e": encode(public.e_bytes()),
            "n": encode(public.n_bytes()),
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

/// Seconds since 1970 by the wall clock: what `iat` and `exp` are counted in.
pub(super) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(part: &str) -> Result<Vec<u8>, TokenRefusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenRefusal::Malformed)
}

fn decode_json<T: DeserializeOwned>(part: &str) -> Result<T, TokenRefusal> {
    serde_json::from_slice(&decode(part)?).map_err(|_| TokenRefusal::Malformed)
}
