//! The control API.

use super::setup::{Demo, claims, json_of, text};
use bearerd::demo::{CsrfRegime, DemoFaults, IssuerFault, TenantFault};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn faults_are_replaced_merged_and_reset_by_http() {
    let demo = Demo::start().await;
    let send = async |method: Method, body: &'static str| {
        json_of(demo.control(method, "/faults").body(body).send().await.unwrap()).await
    };
    let set = send(Method::PUT, r#"{"token_lifetime": 60, "issuer": "unavailable"}"#).await;
    assert_eq!((&set["token_lifetime"], &set["issuer"]), (&json!(60), &json!("unavailable")));
    send(Method::PATCH, r#"{"tenant": "login_page"}"#).await;
    let expected = DemoFaults {
        token_lifetime: 60,
        issuer: IssuerFault::Unavailable,
        tenant: TenantFault::LoginPage,
        ..DemoFaults::default()
    };
    assert_eq!(demo.tenant.faults(), expected);
    let read: DemoFaults = serde_json::from_value(send(Method::GET, "").await).unwrap();
    assert_eq!(read, expected);
    let csrf = send(Method::PATCH, r#"{"csrf": "session", "csrf_reject_next": 2}"#).await;
    assert_eq!((&csrf["csrf"], &csrf["csrf_reject_next"]), (&json!("session"), &json!(2)));
    let merged = DemoFaults { csrf: CsrfRegime::Session, csrf_reject_next: 2, ..expected };
    assert_eq!(demo.tenant.faults(), merged);
    send(Method::DELETE, "").await;
    // The life of tokens stays: it is no fault.
    let token_lifetime = merged.token_lifetime;
    assert_eq!(demo.tenant.faults(), DemoFaults { token_lifetime, ..DemoFaults::default() });
}

#[tokio::test]
async fn wrong_json_is_refused_with_the_reason() {
    let demo = Demo::start().await;
    for (method, body, reason) in [
        (Method::PUT, "{", "EOF"),
        (Method::PUT, r#"{"isuer": "hang"}"#, "unknown field `isuer`"),
        (Method::PATCH, r#"{"issuer": "bad_day"}"#, "unknown variant `bad_day`"),
        (Method::PATCH, r#"["hang"]"#, "invalid type"),
        (Method::PATCH, r#"{"issuer_retry_after": "1\n2"}"#, "control character"),
    ] {
        let response = demo.control(method, "/faults").body(body).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{body}");
        let description = text(&json_of(response).await["error_description"]);
        assert!(description.contains(reason), "{description}");
    }
    assert_eq!(demo.tenant.faults(), DemoFaults::default());
}

#[tokio::test]
async fn help_key_rotation_and_counters_are_available_by_http() {
    let demo = Demo::start().await;
    let help = demo.control(Method::GET, "/").send().await.unwrap().text().await.unwrap();
    assert!(
        help.contains(&format!("curl -X POST {}/rotate-keys", demo.tenant.control_url())),
        "{help}"
    );
    let old = demo.token().await;
    let rotated = json_of(demo.control(Method::POST, "/rotate-keys").send().await.unwrap()).await;
    assert_ne!(rotated["kid"], claims(&old).0["kid"]);
    assert_eq!(rotated["kid"], claims(&demo.token().await).0["kid"]);
    let seen = json_of(demo.control(Method::GET, "/seen").send().await.unwrap()).await;
    assert_eq!((&seen["tokens_issued"], &seen["last_request"]), (&json!(2), &Value::Null));
}
