//! The token endpoint.

use super::setup::{Demo, basic, claims, encode, header, json_of, text};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::StatusCode;
use reqwest::header::AUTHORIZATION;
use rsa::pkcs1v15::{Signature, VerifyingKey};
use rsa::signature::Verifier;
use serde_json::json;

#[tokio::test]
async fn issues_a_token_for_credentials_in_the_form() {
    let demo = Demo::start().await;
    let response = demo.ask().await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header(&response, "cache-control"), "no-store");
    let answer = json_of(response).await;
    assert_eq!(answer["token_type"], "bearer");
    assert_eq!(answer["expires_in"], 43_200);
    assert_eq!(answer.get("refresh_token"), None);

    let (head, payload) = claims(&text(&answer["access_token"]));
    assert_eq!(head["jku"], demo.tenant.token_url().replace("/oauth/token", "/token_keys"));
    assert_eq!(payload["iss"], demo.tenant.token_url());
    assert_eq!(payload["jti"], answer["jti"]);
    assert_eq!(payload["sub"], demo.tenant.client_id());
    assert_eq!(payload["exp"].as_u64().unwrap() - payload["iat"].as_u64().unwrap(), 43_200);
    assert_eq!(payload["scope"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn issues_a_token_for_credentials_in_the_query() {
    let demo = Demo::start().await;
    let (id, secret) = (encode(demo.tenant.client_id()), encode(&demo.tenant.client_secret()));
    let url = format!(
        "{}?grant_type=client_credentials&client_id={id}&client_secret={secret}",
        demo.tenant.token_url()
    );
    assert_eq!(demo.http.get(&url).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(demo.http.post(&url).send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn issues_a_token_for_raw_basic_with_the_grant_in_the_form() {
    let demo = Demo::start().await;
    let request = demo
        .http
        .post(demo.tenant.token_url())
        .header(AUTHORIZATION, basic(demo.tenant.client_id(), &demo.tenant.client_secret()))
        .form(&[("grant_type", "client_credentials"), ("response_type", " token")]);
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn issues_a_token_for_raw_basic_with_the_grant_in_the_query_and_another_in_the_body() {
    let demo = Demo::start().await;
    let request = demo
        .http
        .post(format!(
            "{}/?grant_type=client_credentials&response_type=token",
            demo.tenant.token_url()
        ))
        .header(AUTHORIZATION, basic(demo.tenant.client_id(), &demo.tenant.client_secret()))
        .body("grant_type=password&username=left&password=over");
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn decodes_basic_only_if_a_header_says_that_it_is_encoded() {
    let demo = Demo::start().await;
    let (id, secret) = (demo.tenant.client_id(), &demo.tenant.client_secret());
    let request = |authorization: String| {
        let request = demo.http.post(demo.tenant.token_url()).header(AUTHORIZATION, authorization);
        request.form(&[("grant_type", "client_credentials")])
    };
    let encoded = || request(basic(&encode(id), &encode(secret)));
    let marker = ("X-CF-ENCODED-CREDENTIALS", "true");
    assert_eq!(encoded().header(marker.0, marker.1).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(encoded().send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    // The secret has a plus sign, which decoding turns into a space.
    let raw = request(basic(id, secret)).header(marker.0, marker.1);
    assert_eq!(raw.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn refuses_a_wrong_secret_with_the_error_of_uaa() {
    let demo = Demo::start().await;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", demo.tenant.client_id()),
        ("client_secret", "wrong"),
    ];
    let response = demo.http.post(demo.tenant.token_url()).form(&form).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(header(&response, "www-authenticate").starts_with("Basic realm="));
    assert_eq!(
        json_of(response).await,
        json!({ "error": "unauthorized", "error_description": "Bad credentials" })
    );
    assert_eq!(demo.tenant.seen().tokens_issued, 0);
    assert_eq!(demo.tenant.seen().token_requests, 1);
}

#[tokio::test]
async fn refuses_unsupported_grants_and_scopes() {
    let demo = Demo::start().await;
    let refused = async |parameters: &[(&str, &str)]| {
        let authorization = basic(demo.tenant.client_id(), &demo.tenant.client_secret());
        let request = demo.http.post(demo.tenant.token_url()).header(AUTHORIZATION, authorization);
        let response = request.form(parameters).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        text(&json_of(response).await["error"])
    };
    assert_eq!(refused(&[]).await, "invalid_request");
    assert_eq!(refused(&[("grant_type", "password")]).await, "unsupported_grant_type");
    assert_eq!(
        refused(&[("grant_type", "client_credentials"), ("scope", "all")]).await,
        "invalid_scope"
    );
}

#[tokio::test]
async fn issues_only_the_requested_scope() {
    let demo = Demo::start().await;
    let authorization = basic(demo.tenant.client_id(), &demo.tenant.client_secret());
    let request = demo.http.post(demo.tenant.token_url()).header(AUTHORIZATION, authorization);
    let form = [("grant_type", "client_credentials"), ("scope", "uaa.resource")];
    let answer = json_of(request.form(&form).send().await.unwrap()).await;
    assert_eq!(answer["scope"], "uaa.resource");
    assert_eq!(claims(&text(&answer["access_token"])).1["scope"], json!(["uaa.resource"]));
}

#[tokio::test]
async fn signs_tokens_that_its_published_key_verifies() {
    let demo = Demo::start().await;
    let token = demo.token().await;
    let url = demo.tenant.token_url().replace("/oauth/token", "/token_keys");
    let jwk = json_of(demo.http.get(url).send().await.unwrap()).await["keys"][0].clone();
    assert_eq!(jwk["kid"], claims(&token).0["kid"]);
    let number = |name: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
        rsa::BoxedUint::from_be_slice_vartime(&bytes)
    };
    let key = rsa::PublicKey::new(number("n"), number("e")).unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature =
        Signature::try_from(URL_SAFE_NO_PAD.decode(signature).unwrap().as_slice()).unwrap();
    VerifyingKey::<rsa::sha2::Sha256>::new(key).verify(signed.as_bytes(), &signature).unwrap();
}
