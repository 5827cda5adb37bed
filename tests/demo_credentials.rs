//! The demo tenant's client credentials: secrets that rotate, certificates, and signed assertions.

use crate::demo::{World, basic, claims, client_builder, json_of, text};
use reqwest::header::AUTHORIZATION;
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};

const USERS: &str = "/api/v1/scim2/Users";
const GRANT: (&str, &str) = ("grant_type", "client_credentials");

/// A 401: the error's kind and its description.
async fn refusal(response: Response) -> (String, String) {
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let answer = json_of(response).await;
    (text(&answer["error"]), text(&answer["error_description"]))
}

fn uaa(description: &str) -> (String, String) {
    ("unauthorized".to_owned(), description.to_owned())
}

mod secrets {
    use super::*;

    /// The status for this secret, which is the same in the form and as Basic.
    async fn status(world: &World, secret: &str) -> StatusCode {
        let id = world.tenant.client_id();
        let request = || world.http.post(world.tenant.token_url());
        let form = [GRANT, ("client_id", id), ("client_secret", secret)];
        let posted = request().form(&form).send().await.unwrap().status();
        let basic = request().header(AUTHORIZATION, basic(id, secret)).form(&[GRANT]);
        assert_eq!(basic.send().await.unwrap().status(), posted);
        posted
    }

    #[tokio::test]
    async fn a_new_one_joins_the_old_until_those_are_retired() {
        let world = World::start().await;
        let first = world.tenant.client_secret();
        let bearer = world.token().await;
        let second = world.tenant.rotate_client_secret();
        let third = world.tenant.rotate_client_secret();
        assert!(first != second && second != third);
        assert_eq!(world.tenant.client_secret(), third);
        for secret in [&first, &second, &third] {
            assert_eq!(status(&world, secret).await, StatusCode::OK);
        }
        world.tenant.retire_old_client_secrets();
        assert_eq!(status(&world, &first).await, StatusCode::UNAUTHORIZED);
        assert_eq!(status(&world, &second).await, StatusCode::UNAUTHORIZED);
        assert_eq!(status(&world, &third).await, StatusCode::OK);
        assert_eq!(world.tenant.client_secret(), third);
        assert_eq!(world.tenant.seen().issued_by_secret, 9);

        let users = world.with_bearer(Method::GET, USERS, &bearer).send().await.unwrap();
        assert_eq!(users.status(), StatusCode::OK, "a token outlives its secret");
    }

    #[tokio::test]
    async fn they_rotate_and_retire_by_http() {
        let world = World::start().await;
        let first = world.tenant.client_secret();
        let help = world.control(Method::GET, "/").send().await.unwrap().text().await.unwrap();
        let control = world.tenant.control_url();
        for line in ["-X POST {}/rotate-secret\n", "-X DELETE {}/old-secrets\n"] {
            assert!(help.contains(&line.replace("{}", &control)), "{help}");
        }
        let answer = world.control(Method::POST, "/rotate-secret").send().await.unwrap();
        let second = text(&json_of(answer).await["client_secret"]);
        assert_eq!(world.tenant.client_secret(), second);
        assert_eq!(status(&world, &first).await, StatusCode::OK);
        assert_eq!(status(&world, &second).await, StatusCode::OK);
        for retired in [1, 0] {
            let answer = world.control(Method::DELETE, "/old-secrets").send().await.unwrap();
            assert_eq!(json_of(answer).await, json!({ "retired": retired }));
        }
        assert_eq!(status(&world, &first).await, StatusCode::UNAUTHORIZED);
        assert_eq!(status(&world, &second).await, StatusCode::OK);
    }
}

mod certificates {
    use super::*;
    use std::error::Error;
    use std::time::Duration;

    const HOUR: Duration = Duration::from_secs(3600);
    const NOBODY: &str = "An Authentication object was not found in the SecurityContext";

    /// A client of this tenant that shows a certificate, on a new connection for each request.
    fn showing(world: &World, (chain, key): (String, String)) -> Client {
        let identity = reqwest::Identity::from_pem(format!("{key}{chain}").as_bytes()).unwrap();
        let builder = client_builder(&world.tenant).identity(identity);
        builder.pool_max_idle_per_host(0).build().unwrap()
    }

    fn valid_for(world: &World, valid: Duration) -> Client {
        showing(world, world.tenant.issue_client_certificate(valid).unwrap())
    }

    async fn ask(
        world: &World,
        client: &Client,
        form: &[(&str, &str)],
    ) -> reqwest::Result<Response> {
        let url = format!("{}/oauth/token", world.tenant.cert_url());
        client.post(url).form(form).send().await
    }

    /// What TLS said when it refused to connect.
    async fn handshake_failure(world: &World, client: &Client) -> String {
        let form = [GRANT, ("client_id", world.tenant.client_id())];
        let error = ask(world, client, &form).await.unwrap_err();
        let mut causes = Vec::new();
        let mut next: Option<&dyn Error> = Some(&error);
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        causes.join(": ")
    }

    #[tokio::test]
    async fn one_of_its_own_gets_the_client_a_token() {
        let world = World::start().await;
        let client = valid_for(&world, HOUR);
        let form = [GRANT, ("client_id", world.tenant.client_id())];
        let response = ask(&world, &client, &form).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let bearer = text(&json_of(response).await["access_token"]);
        assert_eq!(claims(&bearer).1["iss"], world.tenant.token_url(), "one issuer, two hosts");
        let users = world.with_bearer(Method::GET, USERS, &bearer).send().await.unwrap();
        assert_eq!(users.status(), StatusCode::OK);
        let seen = world.tenant.seen();
        assert_eq!((seen.tokens_issued, seen.issued_by_certificate), (1, 1));
    }

    #[tokio::test]
    async fn without_one_nothing_else_helps() {
        let world = World::start().await;
        let secret = world.tenant.client_secret();
        let form =
            [GRANT, ("client_id", world.tenant.client_id()), ("client_secret", secret.as_str())];
        let response = ask(&world, &world.http, &form).await.unwrap();
        assert!(response.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic "));
        assert_eq!(refusal(response).await, uaa(NOBODY));
    }

    #[tokio::test]
    async fn it_must_be_that_of_the_client_that_asks() {
        let world = World::start().await;
        let client = valid_for(&world, HOUR);
        let unnamed = ask(&world, &client, &[GRANT]).await.unwrap();
        assert_eq!(refusal(unnamed).await, uaa(NOBODY));
        let another = ask(&world, &client, &[GRANT, ("client_id", "another")]).await.unwrap();
        assert_eq!(refusal(another).await, uaa("Bad credentials"));
    }

    #[tokio::test]
    async fn the_ordinary_host_does_not_look_at_it() {
        let world = World::start().await;
        let form = [GRANT, ("client_id", world.tenant.client_id())];
        let request = valid_for(&world, HOUR).post(world.tenant.token_url()).form(&form);
        assert_eq!(refusal(request.send().await.unwrap()).await, uaa("Bad credentials"));
    }

    #[tokio::test]
    async fn an_expired_one_fails_in_the_handshake() {
        let world = World::start().await;
        let failure = handshake_failure(&world, &valid_for(&world, Duration::ZERO)).await;
        assert!(failure.contains("CertificateExpired"), "{failure}");
        assert_eq!(world.tenant.seen().token_requests, 0);
    }

    #[tokio::test]
    async fn one_that_expires_in_use_fails_on_the_next_connection() {
        let world = World::start().await;
        let short = Duration::from_secs(4);
        let client = valid_for(&world, short);
        let form = [GRANT, ("client_id", world.tenant.client_id())];
        assert_eq!(ask(&world, &client, &form).await.unwrap().status(), StatusCode::OK);
        tokio::time::sleep(short).await;
        let failure = handshake_failure(&world, &client).await;
        assert!(failure.contains("CertificateExpired"), "{failure}");
    }

    #[tokio::test]
    async fn one_of_another_authority_or_of_a_server_fails_in_the_handshake() {
        let (world, other) = (World::start().await, World::start().await);
        let foreign = showing(&world, other.tenant.issue_client_certificate(HOUR).unwrap());
        let server = showing(&world, world.tenant.issue_certificate("localhost").unwrap());
        for client in [foreign, server] {
            let failure = handshake_failure(&world, &client).await;
            assert!(failure.contains("received fatal alert"), "{failure}");
        }
        assert_eq!(world.tenant.seen().token_requests, 0);
    }
}

mod assertions {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use bearerd::demo::DemoError;
    use rcgen::KeyPair;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    use rsa::pkcs1v15::SigningKey;
    use rsa::signature::{Keypair, SignatureEncoding, Signer};
    use rsa::traits::PublicKeyParts;
    use std::time::SystemTime;

    const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

    fn now() -> u64 {
        SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
    }

    /// A token without its signature.
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

    /// A world that knows one P-256 key.
    async fn registered() -> (World, KeyPair) {
        let world = World::start().await;
        let key = KeyPair::generate().unwrap();
        world.tenant.register_client_key(&key.public_key_pem()).unwrap();
        (world, key)
    }

    /// Claims that lack nothing.
    fn good(world: &World) -> Value {
        let id = world.tenant.client_id();
        let jti = uuid::Uuid::new_v4().to_string();
        let aud = world.tenant.token_url();
        json!({ "iss": id, "sub": id, "aud": aud, "exp": now() + 300, "jti": jti })
    }

    async fn ask(world: &World, assertion: &str) -> Response {
        let form = [GRANT, ("client_assertion_type", TYPE), ("client_assertion", assertion)];
        world.http.post(world.tenant.token_url()).form(&form).send().await.unwrap()
    }

    /// Why the assertion was refused.
    async fn reason(response: Response) -> String {
        let (error, reason) = refusal(response).await;
        assert_eq!(error, "invalid_client", "{reason}");
        reason
    }

    #[tokio::test]
    async fn one_signed_with_es256_gets_a_token() {
        let (world, key) = registered().await;
        let assertion = es256(&key, &message("ES256", &good(&world)));
        let response = ask(&world, &assertion).await;
        assert_eq!(response.status(), StatusCode::OK);
        let bearer = text(&json_of(response).await["access_token"]);
        let users = world.with_bearer(Method::GET, USERS, &bearer).send().await.unwrap();
        assert_eq!(users.status(), StatusCode::OK);
        assert_eq!(world.ask().await.status(), StatusCode::OK, "the secret is as good as before");
        let seen = world.tenant.seen();
        assert_eq!((seen.issued_by_assertion, seen.issued_by_secret), (1, 1));
    }

    #[tokio::test]
    async fn one_signed_with_rs256_gets_a_token_beside_other_keys() {
        let (world, p256) = registered().await;
        let rsa = SigningKey::<rsa::sha2::Sha256>::random(&mut getrandom::SysRng, 2048).unwrap();
        world.tenant.register_client_key(&rsa_public_pem(&rsa)).unwrap();
        let unsigned = message("RS256", &good(&world));
        let signature = URL_SAFE_NO_PAD.encode(rsa.sign(unsigned.as_bytes()).to_bytes());
        let assertion = format!("{unsigned}.{signature}");
        assert_eq!(ask(&world, &assertion).await.status(), StatusCode::OK);
        let assertion = es256(&p256, &message("ES256", &good(&world)));
        assert_eq!(ask(&world, &assertion).await.status(), StatusCode::OK);
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
        // A leading zero keeps a number positive.
        let number =
            |bytes: &[u8]| der(2, &[&[0; 1][usize::from(bytes[0] < 0x80)..], bytes].concat());
        let verifying = key.verifying_key();
        let public: &rsa::PublicKey = verifying.as_ref();
        let key = der(0x30, &[number(&public.n_bytes()), number(&public.e_bytes())].concat());
        let bits = der(3, &[&[0], key.as_slice()].concat());
        let info = der(0x30, &[der(0x30, &RSA_ENCRYPTION), bits].concat());
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(info))
    }

    #[tokio::test]
    async fn its_claims_must_fit() {
        let (world, key) = registered().await;
        let url = world.tenant.token_url();
        let says = "iss, sub and client_id must all be";
        for (claim, value, expected) in [
            ("iss", json!("another"), says),
            ("sub", json!("another"), says),
            ("aud", json!(world.tenant.url()), url.as_str()),
            ("aud", json!([world.tenant.url()]), url.as_str()),
            ("exp", json!(now()), "has expired"),
            ("exp", json!(now() + 660), "more than 600 s"),
            ("exp", Value::Null, "not a JSON Web Token"),
            ("jti", Value::Null, "not a JSON Web Token"),
        ] {
            let mut claims = good(&world);
            claims[claim] = value;
            let reason = reason(ask(&world, &es256(&key, &message("ES256", &claims))).await).await;
            assert!(reason.contains(expected), "{claim}: {reason}");
        }
        assert_eq!(world.tenant.seen().tokens_issued, 0);
        for (claim, value) in
            [("aud", json!([world.tenant.url(), url.as_str()])), ("exp", json!(now() + 590))]
        {
            let mut claims = good(&world);
            claims[claim] = value;
            let response = ask(&world, &es256(&key, &message("ES256", &claims))).await;
            assert_eq!(response.status(), StatusCode::OK, "{claim}");
        }
    }

    #[tokio::test]
    async fn the_form_must_fit_it() {
        let (world, key) = registered().await;
        let assertion = es256(&key, &message("ES256", &good(&world)));
        let send = async |kind: &str, id: &str| {
            let form = [
                GRANT,
                ("client_id", id),
                ("client_assertion_type", kind),
                ("client_assertion", &assertion),
            ];
            world.http.post(world.tenant.token_url()).form(&form).send().await.unwrap()
        };
        let id = world.tenant.client_id();
        assert!(reason(send("saml2-bearer", id).await).await.contains(TYPE));
        assert!(reason(send(TYPE, "another").await).await.contains("client_id"));
        assert_eq!(send(TYPE, id).await.status(), StatusCode::OK, "refusals do not use it up");
    }

    #[tokio::test]
    async fn each_is_good_for_one_token() {
        let (world, key) = registered().await;
        let claims = good(&world);
        let assertion = es256(&key, &message("ES256", &claims));
        assert_eq!(ask(&world, &assertion).await.status(), StatusCode::OK);
        assert!(reason(ask(&world, &assertion).await).await.contains("used before"));
        let mut again = good(&world);
        again["jti"] = claims["jti"].clone();
        let signed_anew = es256(&key, &message("ES256", &again));
        assert!(reason(ask(&world, &signed_anew).await).await.contains("used before"));
    }

    #[tokio::test]
    async fn only_a_registered_key_may_sign() {
        let (world, key) = registered().await;
        let unsigned = message("ES256", &good(&world));
        let by_another = es256(&KeyPair::generate().unwrap(), &unsigned);
        let misnamed = es256(&key, &message("RS256", &good(&world)));
        let none = format!("{}.", message("none", &good(&world)));
        let good_one = es256(&key, &unsigned);
        let signature = good_one.rsplit_once('.').unwrap().1;
        let tampered = format!("{}.{signature}", message("ES256", &good(&world)));
        for assertion in [&by_another, &misnamed, &none, &tampered] {
            let reason = reason(ask(&world, assertion).await).await;
            assert!(reason.contains("not by a key registered"), "{reason}");
        }
        for nonsense in ["", "a.b", "a.b.c", &unsigned] {
            let reason = reason(ask(&world, nonsense).await).await;
            assert!(reason.contains("not a JSON Web Token"), "{nonsense}: {reason}");
        }
    }

    #[tokio::test]
    async fn a_key_that_verifies_nothing_is_not_registered() {
        let world = World::start().await;
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        for pem in ["secret", world.tenant.ca_pem(), &p384.public_key_pem()] {
            let refused = world.tenant.register_client_key(pem);
            assert!(matches!(refused, Err(DemoError::ClientKey)), "{pem}");
        }
    }
}
