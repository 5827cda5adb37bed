//! Signed assertions (`private_key_jwt`).

use super::{GRANT, refusal};
use crate::demo::setup::{Demo, USERS, json_of, text};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bearerd::demo::DemoError;
use rcgen::KeyPair;
use reqwest::{Method, Response, StatusCode};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rsa::pkcs1v15::SigningKey;
use rsa::signature::{Keypair, SignatureEncoding, Signer};
use rsa::traits::PublicKeyParts;
use serde_json::{Value, json};
use std::time::SystemTime;

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// An assertion without its signature.
fn message(algorithm: &str, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(&json!({ "alg": algorithm, "typ": "JWT" })), part(claims))
}

fn es256(key: &KeyPair, message: &str) -> String {
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let key = EcdsaKeyPair::from_pkcs8(algorithm, key.serialized_der(), &random).unwrap();
    let signature = key.sign(&random, message.as_bytes()).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A demo tenant with one registered P-256 key.
async fn registered() -> (Demo, KeyPair) {
    let demo = Demo::start().await;
    let key = KeyPair::generate().unwrap();
    demo.tenant.register_client_key(&key.public_key_pem()).unwrap();
    (demo, key)
}

/// A complete set of valid claims.
fn valid_claims(demo: &Demo) -> Value {
    let id = demo.tenant.client_id();
    let jti = uuid::Uuid::new_v4().to_string();
    let aud = demo.tenant.token_url();
    json!({ "iss": id, "sub": id, "aud": aud, "exp": now() + 300, "jti": jti })
}

async fn ask(demo: &Demo, assertion: &str) -> Response {
    let form = [GRANT, ("client_assertion_type", TYPE), ("client_assertion", assertion)];
    demo.http.post(demo.tenant.token_url()).form(&form).send().await.unwrap()
}

/// The reason for which the assertion was refused.
async fn reason(response: Response) -> String {
    let (error, reason) = refusal(response).await;
    assert_eq!(error, "invalid_client", "{reason}");
    reason
}

#[tokio::test]
async fn an_assertion_signed_with_es256_gets_a_token() {
    let (demo, key) = registered().await;
    let assertion = es256(&key, &message("ES256", &valid_claims(&demo)));
    let response = ask(&demo, &assertion).await;
    assert_eq!(response.status(), StatusCode::OK);
    let bearer = text(&json_of(response).await["access_token"]);
    let users = demo.with_bearer(Method::GET, USERS, &bearer).send().await.unwrap();
    assert_eq!(users.status(), StatusCode::OK);
    assert_eq!(demo.ask().await.status(), StatusCode::OK, "the secret stays valid");
    let seen = demo.tenant.seen();
    assert_eq!((seen.issued_by_assertion, seen.issued_by_secret), (1, 1));
}

#[tokio::test]
async fn an_assertion_signed_with_rs256_gets_a_token_although_another_key_is_registered() {
    let (demo, p256) = registered().await;
    let rsa = SigningKey::<rsa::sha2::Sha256>::random(&mut getrandom::SysRng, 2048).unwrap();
    demo.tenant.register_client_key(&rsa_public_pem(&rsa)).unwrap();
    let unsigned = message("RS256", &valid_claims(&demo));
    let signature = URL_SAFE_NO_PAD.encode(rsa.sign(unsigned.as_bytes()).to_bytes());
    let assertion = format!("{unsigned}.{signature}");
    assert_eq!(ask(&demo, &assertion).await.status(), StatusCode::OK);
    let assertion = es256(&p256, &message("ES256", &valid_claims(&demo)));
    assert_eq!(ask(&demo, &assertion).await.status(), StatusCode::OK);
}

/// The public key as `openssl pkey -pubout` writes it.
fn rsa_public_pem(key: &SigningKey<rsa::sha2::Sha256>) -> String {
    const RSA_ENCRYPTION: [u8; 13] =
        [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, /* NULL */ 5, 0];
    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        let head = match length {
            [0, short @ ..128] => vec![tag, short],
            [0, byte] => vec![tag, 0x81, byte],
            [high, low] => vec![tag, 0x82, high, low],
        };
        [&head, content].concat()
    }
    // A leading zero byte keeps a DER integer positive.
    let number = |bytes: &[u8]| der(2, &[&[0; 1][usize::from(bytes[0] < 0x80)..], bytes].concat());
    let verifying = key.verifying_key();
    let public: &rsa::PublicKey = verifying.as_ref();
    let key = der(0x30, &[number(&public.n_bytes()), number(&public.e_bytes())].concat());
    let bits = der(3, &[&[0], key.as_slice()].concat());
    let info = der(0x30, &[der(0x30, &RSA_ENCRYPTION), bits].concat());
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(info))
}

#[tokio::test]
async fn the_claims_of_an_assertion_must_match_the_request() {
    let (demo, key) = registered().await;
    let url = demo.tenant.token_url();
    let says = "iss, sub and client_id must all be";
    for (claim, value, expected) in [
        ("iss", json!("another"), says),
        ("sub", json!("another"), says),
        ("aud", json!(demo.tenant.url()), url.as_str()),
        ("aud", json!([demo.tenant.url()]), url.as_str()),
        ("exp", json!(now()), "has expired"),
        ("exp", json!(now() + 660), "more than 600 s"),
        ("exp", Value::Null, "not a JSON Web Token"),
        ("jti", Value::Null, "not a JSON Web Token"),
    ] {
        let mut claims = valid_claims(&demo);
        claims[claim] = value;
        let reason = reason(ask(&demo, &es256(&key, &message("ES256", &claims))).await).await;
        assert!(reason.contains(expected), "{claim}: {reason}");
    }
    assert_eq!(demo.tenant.seen().tokens_issued, 0);
    for (claim, value) in
        [("aud", json!([demo.tenant.url(), url.as_str()])), ("exp", json!(now() + 590))]
    {
        let mut claims = valid_claims(&demo);
        claims[claim] = value;
        let response = ask(&demo, &es256(&key, &message("ES256", &claims))).await;
        assert_eq!(response.status(), StatusCode::OK, "{claim}");
    }
}

#[tokio::test]
async fn the_form_must_match_the_assertion() {
    let (demo, key) = registered().await;
    let assertion = es256(&key, &message("ES256", &valid_claims(&demo)));
    let send = async |kind: &str, id: &str| {
        let form = [
            GRANT,
            ("client_id", id),
            ("client_assertion_type", kind),
            ("client_assertion", &assertion),
        ];
        demo.http.post(demo.tenant.token_url()).form(&form).send().await.unwrap()
    };
    let id = demo.tenant.client_id();
    assert!(reason(send("saml2-bearer", id).await).await.contains(TYPE));
    assert!(reason(send(TYPE, "another").await).await.contains("client_id"));
    assert_eq!(
        send(TYPE, id).await.status(),
        StatusCode::OK,
        "a refused assertion does not count as used"
    );
}

#[tokio::test]
async fn an_assertion_is_valid_for_one_token_only() {
    let (demo, key) = registered().await;
    let claims = valid_claims(&demo);
    let assertion = es256(&key, &message("ES256", &claims));
    assert_eq!(ask(&demo, &assertion).await.status(), StatusCode::OK);
    assert!(reason(ask(&demo, &assertion).await).await.contains("used before"));
    let mut again = valid_claims(&demo);
    again["jti"] = claims["jti"].clone();
    let signed_anew = es256(&key, &message("ES256", &again));
    assert!(reason(ask(&demo, &signed_anew).await).await.contains("used before"));
}

#[tokio::test]
async fn only_a_registered_key_may_sign_an_assertion() {
    let (demo, key) = registered().await;
    let unsigned = message("ES256", &valid_claims(&demo));
    let by_another = es256(&KeyPair::generate().unwrap(), &unsigned);
    let misnamed = es256(&key, &message("RS256", &valid_claims(&demo)));
    let none = format!("{}.", message("none", &valid_claims(&demo)));
    let valid = es256(&key, &unsigned);
    let signature = valid.rsplit_once('.').unwrap().1;
    let tampered = format!("{}.{signature}", message("ES256", &valid_claims(&demo)));
    for assertion in [&by_another, &misnamed, &none, &tampered] {
        let reason = reason(ask(&demo, assertion).await).await;
        assert!(reason.contains("not by a key registered"), "{reason}");
    }
    for nonsense in ["", "a.b", "a.b.c", &unsigned] {
        let reason = reason(ask(&demo, nonsense).await).await;
        assert!(reason.contains("not a JSON Web Token"), "{nonsense}: {reason}");
    }
}

#[tokio::test]
async fn a_key_of_an_unsupported_type_is_not_registered() {
    let demo = Demo::start().await;
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    for pem in ["secret", demo.tenant.ca_pem(), &p384.public_key_pem()] {
        let refused = demo.tenant.register_client_key(pem);
        assert!(matches!(refused, Err(DemoError::ClientKey)), "{pem}");
    }
}
