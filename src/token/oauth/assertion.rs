//! Signed assertion that authenticates a client by a private key (RFC 7523 section 2.2).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use std::time::{Duration, SystemTime};
use url::Url;
use uuid::Uuid;

/// Value of `client_assertion_type`.
pub(super) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Validity of an assertion, with the time before its creation. It is used at once; the rest is for
/// clocks that differ.
const LIFETIME: Duration = Duration::from_secs(300);
/// Time before its creation from which an assertion is valid. An issuer whose clock is a second
/// behind would refuse one that is issued in its future.
pub(super) const BACKDATED: Duration = Duration::from_secs(60);

/// Why a private key cannot sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is not PEM, or holds no private key.
    #[error("is not a private key in PEM (`-----BEGIN PRIVATE KEY-----`)")]
    NotAKey,
    /// The key is of a kind that issuers do not accept.
    #[error("cannot sign; use an RSA key of at least 2048 bits, or a P-256 key in PKCS#8")]
    Unsupported,
}

/// Signer of assertions. The key decides the algorithm.
pub(super) struct Signer {
    pair: Pair,
    key_id: Option<String>,
    random: SystemRandom,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ecdsa(Box<EcdsaKeyPair>),
}

impl Signer {
    /// Creates a signer from a private key in PEM: PKCS#8, or PKCS#1 for RSA.
    pub(super) fn new(pem: &str, key_id: Option<String>) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::NotAKey)?;
        let rsa = match &key {
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()).ok(),
            _ => RsaKeyPair::from_pkcs8(key.secret_der()).ok(),
        };
        let pair = match rsa {
            Some(rsa) => Pair::Rsa(Box::new(rsa)),
            None => {
                let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.secret_der(), &random);
                Pair::Ecdsa(Box::new(pair.map_err(|_| KeyError::Unsupported)?))
            }
        };
        Ok(Self { pair, key_id, random })
    }

    /// Returns an assertion of this client for this token endpoint, created at `now`.
    pub(super) fn assertion(&self, client_id: &str, token_url: &Url, now: SystemTime) -> String {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let issued = now.saturating_sub(BACKDATED);
        let header = match &self.key_id {
            Some(key_id) => json!({ "typ": "JWT", "alg": self.algorithm(), "kid": key_id }),
            None => json!({ "typ": "JWT", "alg": self.algorithm() }),
        };
        let claims = json!({
            "iss": client_id,
            "sub": client_id,
            "aud": token_url.as_str(),
            "jti": Uuid::new_v4().to_string(),
            "iat": issued.as_secs(),
            "exp": (issued + LIFETIME).as_secs(),
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(&claims));
        // Fails only if the random generator is broken. The issuer then refuses the empty
        // signature.
        let signature = self.sign(message.as_bytes()).unwrap_or_default();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    const fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::Ecdsa(_) => "ES256",
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, ring::error::Unspecified> {
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &self.random, message, &mut signature)?;
                Ok(signature)
            }
            Pair::Ecdsa(pair) => Ok(pair.sign(&self.random, message)?.as_ref().to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use serde_json::Value;

    #[test]
    fn an_assertion_names_client_and_endpoint_and_is_signed() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let signer = Signer::new(&key.serialize_pem(), Some("k1".into())).unwrap();
        let url: Url = "https://issuer.example/oauth/token".parse().unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let assertion = signer.assertion("sb-1!b2|c!b3", &url, now);
        let (message, signature) = assertion.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.der_bytes());
        assert!(public.verify(message.as_bytes(), &signature).is_ok());
        let part = |text: &str| -> Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
        };
        let (header, claims) = message.split_once('.').unwrap();
        assert_eq!(part(header), json!({"typ": "JWT", "alg": "ES256", "kid": "k1"}));
        let claims = part(claims);
        assert_eq!((&claims["iss"], &claims["sub"]), (&json!("sb-1!b2|c!b3"), &claims["iss"]));
        assert_eq!(claims["aud"], url.as_str());
        assert_eq!((&claims["iat"], &claims["exp"]), (&json!(940), &json!(1240)));
        assert_ne!(signer.assertion("c", &url, now), signer.assertion("c", &url, now), "`jti`");
    }

    #[test]
    fn a_key_that_cannot_sign_is_refused() {
        assert_eq!(Signer::new("secret", None).err(), Some(KeyError::NotAKey));
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert_eq!(Signer::new(&p384.serialize_pem(), None).err(), Some(KeyError::Unsupported));
    }
}
