//! Client secrets that rotate.

use super::GRANT;
use crate::demo::setup::{Demo, USERS, basic, json_of, text};
use reqwest::header::AUTHORIZATION;
use reqwest::{Method, StatusCode};
use serde_json::json;

/// The status for this secret. It must be the same in the form and in HTTP Basic.
async fn status(demo: &Demo, secret: &str) -> StatusCode {
    let id = demo.tenant.client_id();
    let request = || demo.http.post(demo.tenant.token_url());
    let form = [GRANT, ("client_id", id), ("client_secret", secret)];
    let posted = request().form(&form).send().await.unwrap().status();
    let basic = request().header(AUTHORIZATION, basic(id, secret)).form(&[GRANT]);
    assert_eq!(basic.send().await.unwrap().status(), posted);
    posted
}

#[tokio::test]
async fn old_secrets_stay_valid_until_they_are_retired() {
    let demo = Demo::start().await;
    let first = demo.tenant.client_secret();
    let bearer = demo.token().await;
    let second = demo.tenant.rotate_client_secret();
    let third = demo.tenant.rotate_client_secret();
    assert!(first != second && second != third);
    assert_eq!(demo.tenant.client_secret(), third);
    for secret in [&first, &second, &third] {
        assert_eq!(status(&demo, secret).await, StatusCode::OK);
    }
    demo.tenant.retire_old_client_secrets();
    assert_eq!(status(&demo, &first).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&demo, &second).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&demo, &third).await, StatusCode::OK);
    assert_eq!(demo.tenant.client_secret(), third);
    assert_eq!(demo.tenant.seen().issued_by_secret, 9);

    let users = demo.with_bearer(Method::GET, USERS, &bearer).send().await.unwrap();
    assert_eq!(users.status(), StatusCode::OK, "a token stays valid after its secret is retired");
}

#[tokio::test]
async fn secrets_are_rotated_and_retired_by_http() {
    let demo = Demo::start().await;
    let first = demo.tenant.client_secret();
    let help = demo.control(Method::GET, "/").send().await.unwrap().text().await.unwrap();
    let control = demo.tenant.control_url();
    for line in ["-X POST {}/rotate-secret\n", "-X DELETE {}/old-secrets\n"] {
        assert!(help.contains(&line.replace("{}", &control)), "{help}");
    }
    let answer = demo.control(Method::POST, "/rotate-secret").send().await.unwrap();
    let second = text(&json_of(answer).await["client_secret"]);
    assert_eq!(demo.tenant.client_secret(), second);
    assert_eq!(status(&demo, &first).await, StatusCode::OK);
    assert_eq!(status(&demo, &second).await, StatusCode::OK);
    for retired in [1, 0] {
        let answer = demo.control(Method::DELETE, "/old-secrets").send().await.unwrap();
        assert_eq!(json_of(answer).await, json!({ "retired": retired }));
    }
    assert_eq!(status(&demo, &first).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&demo, &second).await, StatusCode::OK);
}
