//! The check of the bearer token.

use super::setup::{Demo, SALES, basic, header, json_of};
use bearerd::demo::DemoFaults;
use reqwest::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode};

#[tokio::test]
async fn a_request_with_a_valid_token_is_accepted_and_recorded() {
    let demo = Demo::start().await;
    let path = format!("{SALES}/SALES?$top=1&$select=ID,Region");
    let response = demo.get(&path).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!header(&response, "x-correlationid").is_empty());
    assert!(!header(&response, "x-vcap-request-id").is_empty());

    let seen = demo.tenant.seen();
    assert_eq!((seen.tenant_requests, seen.accepted, seen.refused), (1, 1, 0));
    let last = seen.last_request.unwrap();
    assert_eq!((last.method.as_str(), last.path_and_query), ("GET", path));
    assert!(last.headers.contains(&("authorization".to_owned(), "[redacted]".to_owned())));
    assert!(last.headers.contains(&("x-sap-sac-custom-auth".to_owned(), "true".to_owned())));
}

#[tokio::test]
async fn the_callers_correlation_id_is_kept() {
    let demo = Demo::start().await;
    let request = demo.raw(Method::GET, "/").header("x-correlationid", "mine");
    assert_eq!(header(&request.send().await.unwrap(), "x-correlationid"), "mine");
}

#[tokio::test]
async fn a_request_without_a_valid_token_is_refused() {
    let demo = Demo::start().await;
    let valid = demo.token().await;
    let (signed, signature) = valid.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { "B" } else { "A" };
    let tampered = format!("{signed}.{first}{}", &signature[1..]);
    demo.tenant.set_faults(DemoFaults { token_lifetime: 0, ..DemoFaults::default() });
    let expired = demo.token().await;

    for authorization in [
        None,
        Some("Bearer dummy".to_owned()),
        Some(basic("a", "b")),
        Some(format!("Bearer {tampered}")),
        Some(format!("Bearer {expired}")),
    ] {
        let mut request = demo.raw(Method::GET, &format!("{SALES}/SALES"));
        if let Some(value) = &authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{authorization:?}");
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
        assert_eq!(json_of(response).await["error"], "unauthorized");
    }
    assert_eq!(demo.tenant.seen().refused, 5);
}

#[tokio::test]
async fn two_authorization_headers_are_a_bad_request() {
    let demo = Demo::start().await;
    let token = demo.token().await;
    let request = demo.raw(Method::GET, SALES).bearer_auth(&token).bearer_auth(&token);
    assert_eq!(request.send().await.unwrap().status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn after_a_key_rotation_earlier_tokens_are_refused() {
    let demo = Demo::start().await;
    let old = demo.token().await;
    let status = async |token: &str| {
        demo.raw(Method::GET, SALES).bearer_auth(token).send().await.unwrap().status()
    };
    assert_eq!(status(&old).await, StatusCode::OK);
    demo.tenant.rotate_keys();
    assert_eq!(status(&old).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&demo.token().await).await, StatusCode::OK);
}

#[tokio::test]
async fn unknown_paths_and_methods_get_json_errors() {
    let demo = Demo::start().await;
    let response = demo.get("/api/v1/nothing").await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(json_of(response).await["error"], "not_found");
    let response = demo.api(Method::DELETE, SALES).await.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(json_of(response).await["error"], "method_not_allowed");
}
