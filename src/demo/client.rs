//! The OAuth client as it is registered: its id, and with what it may prove itself.
//!
//! A credential is replaced in steps, so that the client never stands without one: the new one joins the old, programs
//! change over, then the old one goes.

use std::collections::HashMap;
use std::sync::Mutex;

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use uuid::Uuid;
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::DemoError;
use super::state::lock;

/// The OAuth client that the issuer knows.
pub(super) struct Client {
    /// The client id.
    pub(super) id: String,
    secrets: Mutex<Secrets>,
    keys: Mutex<Vec<PublicKey>>,
    /// The ids of the assertions that were taken, and when they expire.
    assertions: Mutex<HashMap<String, u64>>,
}

struct Secrets {
    current: String,
    /// Valid, too, until they are retired.
    old: Vec<String>,
}

/// A key that verifies the client's assertions.
struct PublicKey {
    /// As a JWT's header names it (`alg`).
    algorithm: &'static str,
    key: UnparsedPublicKey<Vec<u8>>,
}

impl Client {
    pub(super) fn new(id: String, secret: String) -> Self {
        Self {
            id,
            secrets: Mutex::new(Secrets { current: secret, old: Vec::new() }),
            keys: Mutex::default(),
            assertions: Mutex::default(),
        }
    }

    pub(super) fn secret(&self) -> String {
        lock(&self.secrets).current.clone()
    }

    pub(super) fn has_secret(&self, secret: &str) -> bool {
        let secrets = lock(&self.secrets);
        secrets.current == secret || secrets.old.iter().any(|old| old == secret)
    }

    /// Makes a new secret the current one, and returns it.
    pub(super) fn rotate_secret(&self) -> String {
        // It breaks careless encoding, as the first one does.
        let (front, back) = (Uuid::new_v4(), Uuid::new_v4().simple());
        let secret = format!("{front}$aV+/{back}=");
        let mut secrets = lock(&self.secrets);
        let old = std::mem::replace(&mut secrets.current, secret.clone());
        secrets.old.push(old);
        secret
    }

    /// Forgets all secrets but the current one. Returns how many they were.
    pub(super) fn retire_old_secrets(&self) -> usize {
        lock(&self.secrets).old.drain(..).count()
    }

    pub(super) fn register_key(&self, pem: &str) -> Result<(), DemoError> {
        lock(&self.keys).push(PublicKey::read(pem).ok_or(DemoError::ClientKey)?);
        Ok(())
    }

    /// Whether one of the registered keys made this signature by this algorithm.
    pub(super) fn has_signed(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        lock(&self.keys)
            .iter()
            .filter(|registered| registered.algorithm == algorithm)
            .any(|registered| registered.key.verify(message, signature).is_ok())
    }

    /// Notes an assertion as taken; false if it was before.
    pub(super) fn take_assertion(&self, id: String, expires: u64, now: u64) -> bool {
        let mut taken = lock(&self.assertions);
        taken.retain(|_, expires| *expires > now);
        taken.insert(id, expires).is_none()
    }
}

impl PublicKey {
    fn read(pem: &str) -> Option<Self> {
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
