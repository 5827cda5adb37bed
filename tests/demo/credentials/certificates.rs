//! Client certificates.

use super::{GRANT, refusal, uaa};
use crate::demo::setup::{Demo, USERS, claims, client_builder, json_of, text};
use reqwest::{Client, Method, Response, StatusCode};
use std::error::Error;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
const NO_CREDENTIALS: &str = "An Authentication object was not found in the SecurityContext";

/// An HTTP client that presents this certificate, on a new connection for each request.
fn client_with(demo: &Demo, (chain, key): (String, String)) -> Client {
    let identity = reqwest::Identity::from_pem(format!("{key}{chain}").as_bytes()).unwrap();
    let builder = client_builder(&demo.tenant).identity(identity);
    builder.pool_max_idle_per_host(0).build().unwrap()
}

fn valid_for(demo: &Demo, valid: Duration) -> Client {
    client_with(demo, demo.tenant.issue_client_certificate(valid).unwrap())
}

async fn ask(demo: &Demo, client: &Client, form: &[(&str, &str)]) -> reqwest::Result<Response> {
    let url = format!("{}/oauth/token", demo.tenant.cert_url());
    client.post(url).form(form).send().await
}

/// The error of a failed TLS handshake, with its causes.
async fn handshake_failure(demo: &Demo, client: &Client) -> String {
    let form = [GRANT, ("client_id", demo.tenant.client_id())];
    let error = ask(demo, client, &form).await.unwrap_err();
    let mut causes = Vec::new();
    let mut next: Option<&dyn Error> = Some(&error);
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes.join(": ")
}

#[tokio::test]
async fn a_client_gets_a_token_for_its_certificate() {
    let demo = Demo::start().await;
    let client = valid_for(&demo, HOUR);
    let form = [GRANT, ("client_id", demo.tenant.client_id())];
    let response = ask(&demo, &client, &form).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let bearer = text(&json_of(response).await["access_token"]);
    assert_eq!(
        claims(&bearer).1["iss"],
        demo.tenant.token_url(),
        "both hosts belong to one issuer"
    );
    let users = demo.with_bearer(Method::GET, USERS, &bearer).send().await.unwrap();
    assert_eq!(users.status(), StatusCode::OK);
    let seen = demo.tenant.seen();
    assert_eq!((seen.tokens_issued, seen.issued_by_certificate), (1, 1));
}

#[tokio::test]
async fn without_a_certificate_a_secret_is_refused() {
    let demo = Demo::start().await;
    let secret = demo.tenant.client_secret();
    let form = [GRANT, ("client_id", demo.tenant.client_id()), ("client_secret", secret.as_str())];
    let response = ask(&demo, &demo.http, &form).await.unwrap();
    assert!(response.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic "));
    assert_eq!(refusal(response).await, uaa(NO_CREDENTIALS));
}

#[tokio::test]
async fn a_certificate_must_belong_to_the_client_that_the_request_names() {
    let demo = Demo::start().await;
    let client = valid_for(&demo, HOUR);
    let unnamed = ask(&demo, &client, &[GRANT]).await.unwrap();
    assert_eq!(refusal(unnamed).await, uaa(NO_CREDENTIALS));
    let another = ask(&demo, &client, &[GRANT, ("client_id", "another")]).await.unwrap();
    assert_eq!(refusal(another).await, uaa("Bad credentials"));
}

#[tokio::test]
async fn the_host_for_secrets_ignores_a_certificate() {
    let demo = Demo::start().await;
    let form = [GRANT, ("client_id", demo.tenant.client_id())];
    let request = valid_for(&demo, HOUR).post(demo.tenant.token_url()).form(&form);
    assert_eq!(refusal(request.send().await.unwrap()).await, uaa("Bad credentials"));
}

#[tokio::test]
async fn an_expired_certificate_fails_in_the_handshake() {
    let demo = Demo::start().await;
    let failure = handshake_failure(&demo, &valid_for(&demo, Duration::ZERO)).await;
    assert!(failure.contains("CertificateExpired"), "{failure}");
    assert_eq!(demo.tenant.seen().token_requests, 0);
}

#[tokio::test]
async fn a_certificate_that_expires_in_use_fails_on_the_next_connection() {
    let demo = Demo::start().await;
    let short = Duration::from_secs(4);
    let client = valid_for(&demo, short);
    let form = [GRANT, ("client_id", demo.tenant.client_id())];
    assert_eq!(ask(&demo, &client, &form).await.unwrap().status(), StatusCode::OK);
    tokio::time::sleep(short).await;
    let failure = handshake_failure(&demo, &client).await;
    assert!(failure.contains("CertificateExpired"), "{failure}");
}

#[tokio::test]
async fn a_certificate_of_another_authority_or_of_a_server_fails_in_the_handshake() {
    let (demo, other) = (Demo::start().await, Demo::start().await);
    let foreign = client_with(&demo, other.tenant.issue_client_certificate(HOUR).unwrap());
    let server = client_with(&demo, demo.tenant.issue_certificate("localhost").unwrap());
    for client in [foreign, server] {
        let failure = handshake_failure(&demo, &client).await;
        assert!(failure.contains("received fatal alert"), "{failure}");
    }
    assert_eq!(demo.tenant.seen().token_requests, 0);
}
