//! The OAuth client as it is registered at the issuer: its id and its credentials.
//!
//! A credential is replaced in steps, so that the client always has a valid one: the new one is
//! added, programs start to use it, then the old one is removed.

use super::error::DemoError;
use parking_lot::Mutex;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use std::collections::HashMap;
use uuid::Uuid;
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

/// How the client authenticated to the token endpoint.
#[derive(Clone, Copy)]
pub(super) enum AuthMethod {
    Secret,
    Certificate,
    Assertion,
}

/// The OAuth client that the issuer knows.
pub(super) struct RegisteredClient {
    /// The client id.
    pub(super) id: String,
    secrets: Mutex<Secrets>,
    keys: Mutex<Vec<PublicKey>>,
    /// The ids of the assertions that were used, with the time of their expiry.
    used_assertions: Mutex<HashMap<String, u64>>,
}

struct Secrets {
    current: String,
    /// Older secrets, which stay valid until they are retired.
    old: Vec<String>,
}

/// A key that verifies assertions of the client.
struct PublicKey {
    /// The algorithm's name in the header of a JWT (`alg`).
    algorithm: &'static str,
    key: UnparsedPublicKey<Vec<u8>>,
}

impl RegisteredClient {
    pub(super) fn new(id: String, secret: String) -> Self {
        Self {
            id,
            secrets: Mutex::new(Secrets { current: secret, old: Vec::new() }),
            keys: Mutex::default(),
            used_assertions: Mutex::default(),
        }
    }

    pub(super) fn secret(&self) -> String {
        self.secrets.lock().current.clone()
    }

    pub(super) fn has_secret(&self, secret: &str) -> bool {
        let secrets = self.secrets.lock();
        secrets.current == secret || secrets.old.iter().any(|old| old == secret)
    }

    /// Makes a new secret the current one, and returns it.
    pub(super) fn rotate_secret(&self) -> String {
        // Like the first secret, it has characters that break careless encoding.
        let (front, back) = (Uuid::new_v4(), Uuid::new_v4().simple());
        let secret = format!("{front}$aV+/{back}=");
        let mut secrets = self.secrets.lock();
        let old = std::mem::replace(&mut secrets.current, secret.clone());
        secrets.old.push(old);
        secret
    }

    /// Removes all secrets but the current one. Returns the number of removed secrets.
    pub(super) fn retire_old_secrets(&self) -> usize {
        self.secrets.lock().old.drain(..).count()
    }

    pub(super) fn register_key(&self, pem: &str) -> Result<(), DemoError> {
        self.keys.lock().push(PublicKey::parse(pem).ok_or(DemoError::ClientKey)?);
        Ok(())
    }

    /// Whether one of the registered keys made this signature with this algorithm.
    pub(super) fn has_signed(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        self.keys
            .lock()
            .iter()
            .filter(|registered| registered.algorithm == algorithm)
            .any(|registered| registered.key.verify(message, signature).is_ok())
    }

    /// Records the use of an assertion. Returns false if it was used before.
    pub(super) fn use_assertion(&self, id: String, expires: u64, now: u64) -> bool {
        let mut used = self.used_assertions.lock();
        used.retain(|_, expires| *expires > now);
        used.insert(id, expires).is_none()
    }
}

impl PublicKey {
    fn parse(pem: &str) -> Option<Self> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).ok()?;
        let (_, info) = SubjectPublicKeyInfo::from_der(&der).ok()?;
        let kind = &info.algorithm.algorithm;
        let curve =
            info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        let (algorithm, verification): (_, &'static dyn VerificationAlgorithm) =
            if *kind == OID_PKCS1_RSAENCRYPTION {
                ("RS256", &RSA_PKCS1_2048_8192_SHA256)
            } else if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY && curve == Some(OID_EC_P256) {
                ("ES256", &ECDSA_P256_SHA256_FIXED)
            } else {
                return None;
            };
        let key = UnparsedPublicKey::new(verification, info.subject_public_key.data.to_vec());
        Some(Self { algorithm, key })
    }
}
