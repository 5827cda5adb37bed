//! CSRF tokens.

use super::setup::{
    CSRF, DEMO_SPACE, Demo, EXPORT, JOBS, PACKAGE, RUN, SALES, SPACES, USERS, X_CSRF_TOKEN, header,
    json_of,
};
use bearerd::demo::{CsrfRegime, DemoFaults};
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use reqwest::{Method, Response, StatusCode};

fn faults_with(csrf: CsrfRegime) -> DemoFaults {
    DemoFaults { csrf, ..DemoFaults::default() }
}

async fn assert_required(response: Response, what: &str) {
    assert_eq!(response.status(), StatusCode::FORBIDDEN, "{what}");
    assert_eq!(header(&response, X_CSRF_TOKEN), "Required", "{what}");
    assert_eq!(json_of(response).await["error"], "csrf_token_required", "{what}");
}

#[tokio::test]
async fn a_write_without_a_valid_token_is_not_executed() {
    let demo = Demo::start().await;
    let bearer = demo.token().await;
    let valid = header(&demo.fetch_csrf(&bearer).await, X_CSRF_TOKEN);
    let user = format!("{USERS}/none");
    let writes = [
        ("POST", USERS),
        ("PUT", &user),
        ("PATCH", &user),
        ("DELETE", &user),
        ("MERGE", &user),
        ("POST", JOBS),
        ("DELETE", PACKAGE),
        ("POST", EXPORT),
        ("POST", RUN),
        ("POST", SPACES),
        ("PUT", DEMO_SPACE),
        ("POST", "/api/v1/spaces"),
        ("DELETE", "/api/v1/datasphere/configuration/security/certificates/1"),
    ];
    let tokens: [&[&str]; 5] = [&[], &["fetch"], &["wrong"], &["Required"], &[&valid, &valid]];
    let mut refused = 0;
    for (method, path) in writes {
        for tokens in tokens {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let mut request = demo.with_bearer(method.clone(), path, &bearer);
            for token in tokens {
                request = request.header(X_CSRF_TOKEN, *token);
            }
            let body = request.body(r#"{"DEMO": {}, "userName": "one"}"#);
            assert_required(body.send().await.unwrap(), &format!("{method} {path}")).await;
            refused += 1;
        }
    }
    let seen = demo.tenant.seen();
    assert_eq!((seen.csrf_refused, seen.refused), (refused, 0));
    // The only accepted request is the one that fetched the token.
    assert_eq!((seen.accepted, seen.csrf_fetches, seen.writes_executed), (1, 1, 0));
    assert_eq!(json_of(demo.get(USERS).await).await["totalResults"], 0);
    assert_eq!(demo.get("/api/v1/datasphere/tasks/logs/DEMO/1").await.status(), 404);
}

#[tokio::test]
async fn any_read_of_a_guarded_api_returns_a_token_on_request() {
    let demo = Demo::start().await;
    let bearer = demo.token().await;
    let mut given = 0;
    for (path, status) in [
        (CSRF, 200),
        (USERS, 200),
        ("/api/v1/scim2/Users/none", 404),
        (JOBS, 405),
        (EXPORT, 200),
        (RUN, 405),
        ("/api/v1/datasphere/spaces/DEMO/connections", 404),
        ("/dwaas-core/api/v1/discovery", 200),
        (DEMO_SPACE, 200),
    ] {
        for (method, word) in [(Method::GET, "Fetch"), (Method::HEAD, "fetch")] {
            let plain = demo.with_bearer(method.clone(), path, &bearer).send().await.unwrap();
            assert_eq!(plain.status(), status, "{path}");
            assert_eq!(plain.headers().get(X_CSRF_TOKEN), None, "{path}");
            let asking = demo.with_bearer(method, path, &bearer).header(X_CSRF_TOKEN, word);
            let response = asking.send().await.unwrap();
            assert_eq!(response.status(), status, "{path}");
            assert_eq!(response.headers().get("set-cookie"), None, "{path}");
            let token = header(&response, X_CSRF_TOKEN);
            assert_eq!(demo.write(&bearer, &token).await.status(), StatusCode::NO_CONTENT);
            given += 1;
        }
    }
    let seen = demo.tenant.seen();
    assert_eq!((seen.csrf_fetches, seen.csrf_refused, seen.writes_executed), (given, 0, given));
}

#[tokio::test]
async fn consumption_does_not_issue_or_require_tokens() {
    let demo = Demo::start().await;
    let bearer = demo.token().await;
    let request = demo.with_bearer(Method::GET, &format!("{SALES}/SALES"), &bearer);
    let response = request.header(X_CSRF_TOKEN, "fetch").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers().get(X_CSRF_TOKEN), None);
    let batch = demo.with_bearer(Method::POST, &format!("{SALES}/$batch"), &bearer);
    let response = batch.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(response.headers().get(X_CSRF_TOKEN), None);
    let seen = demo.tenant.seen();
    assert_eq!((seen.accepted, seen.csrf_fetches, seen.csrf_refused), (2, 0, 0));
}

#[tokio::test]
async fn a_token_is_valid_only_with_the_bearer_token_that_fetched_it() {
    let demo = Demo::start().await;
    let (old, new) = (demo.token().await, demo.token().await);
    let token = header(&demo.fetch_csrf(&old).await, X_CSRF_TOKEN);
    assert_required(demo.write(&new, &token).await, "a token of another bearer token").await;
    let own = header(&demo.fetch_csrf(&new).await, X_CSRF_TOKEN);
    for (bearer, token) in [(&old, &token), (&new, &own), (&old, &token)] {
        assert_eq!(demo.write(bearer, token).await.status(), StatusCode::NO_CONTENT);
    }
}

#[tokio::test]
async fn the_bearer_token_is_checked_first() {
    let demo = Demo::start().await;
    let bearer = demo.token().await;
    let response = demo.fetch_csrf("dummy").await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.headers().get(X_CSRF_TOKEN), None);
    let token = header(&demo.fetch_csrf(&bearer).await, X_CSRF_TOKEN);
    let no_custom_auth = demo.raw(Method::DELETE, PACKAGE).bearer_auth(&bearer);
    for response in [
        demo.write("dummy", &token).await,
        demo.write("dummy", "wrong").await,
        no_custom_auth.header(X_CSRF_TOKEN, &token).send().await.unwrap(),
    ] {
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers().get(X_CSRF_TOKEN), None);
    }
    let seen = demo.tenant.seen();
    assert_eq!((seen.refused, seen.csrf_refused, seen.writes_executed), (4, 0, 0));
}

#[tokio::test]
async fn a_token_of_a_session_needs_the_cookies_of_the_session() {
    let demo = Demo::with(faults_with(CsrfRegime::Session)).await;
    let bearer = demo.token().await;
    let fetch = async || {
        let response = demo.fetch_csrf(&bearer).await;
        let lines = response.headers().get_all("set-cookie").iter();
        let cookies: Vec<String> = lines.map(|line| line.to_str().unwrap().to_owned()).collect();
        (header(&response, X_CSRF_TOKEN), cookies)
    };
    let (token, lines) = fetch().await;
    let [session, instance] = lines.as_slice() else { panic!("{lines:?}") };
    let session = session.strip_suffix("; Path=/; HttpOnly; Secure").unwrap();
    let instance = instance.strip_suffix("; Path=/; Secure").unwrap();
    assert!(session.starts_with("JSESSIONID=") && instance.starts_with("__VCAP_ID__="));
    let (_, others) = fetch().await;
    let other = others[0].split(';').next().unwrap();

    let write = async |cookies: Option<String>| {
        let mut request = demo.with_bearer(Method::DELETE, PACKAGE, &bearer);
        if let Some(cookies) = cookies {
            request = request.header("cookie", cookies);
        }
        request.header(X_CSRF_TOKEN, &token).send().await.unwrap()
    };
    for cookies in [
        None,
        Some(session.to_owned()),
        Some(format!("{other}; {instance}")),
        Some(format!("{session}; {other}; {instance}")),
        Some(format!("{session}x; {instance}")),
    ] {
        assert_required(write(cookies.clone()).await, &format!("{cookies:?}")).await;
    }
    assert_eq!(demo.tenant.seen().writes_executed, 0);
    for cookies in [format!("{session}; {instance}"), format!("a=b; {instance};{session}")] {
        assert_eq!(write(Some(cookies)).await.status(), StatusCode::NO_CONTENT);
    }
    // Without sessions, the token is sufficient. With sessions, a token without one is refused.
    demo.tenant.set_faults(DemoFaults::default());
    assert_eq!(write(None).await.status(), StatusCode::NO_CONTENT);
    let stateless = header(&demo.fetch_csrf(&bearer).await, X_CSRF_TOKEN);
    demo.tenant.set_faults(faults_with(CsrfRegime::Session));
    assert_required(demo.write(&bearer, &stateless).await, "a token without a session").await;
}

#[tokio::test]
async fn without_csrf_protection_no_tokens_are_issued() {
    let demo = Demo::with(faults_with(CsrfRegime::Off)).await;
    let bearer = demo.token().await;
    let response = demo.fetch_csrf(&bearer).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers().get(X_CSRF_TOKEN), None);
    let write = demo.with_bearer(Method::DELETE, PACKAGE, &bearer).send().await.unwrap();
    assert_eq!(write.status(), StatusCode::NO_CONTENT);
    let seen = demo.tenant.seen();
    assert_eq!((seen.csrf_fetches, seen.writes_executed), (0, 1));
}

#[tokio::test]
async fn a_token_that_a_fault_rejects_becomes_invalid() {
    let demo = Demo::with(DemoFaults { csrf_reject_next: 1, ..DemoFaults::default() }).await;
    let bearer = demo.token().await;
    let token = header(&demo.fetch_csrf(&bearer).await, X_CSRF_TOKEN);
    assert_required(
        demo.write(&bearer, "wrong").await,
        "an invalid token, which does not count down",
    )
    .await;
    assert_eq!(demo.tenant.faults().csrf_reject_next, 1);
    assert_required(demo.write(&bearer, &token).await, "the first write with the token").await;
    assert_eq!(demo.tenant.faults().csrf_reject_next, 0);
    assert_required(demo.write(&bearer, &token).await, "the second write with the token").await;
    let fresh = header(&demo.fetch_csrf(&bearer).await, X_CSRF_TOKEN);
    assert_eq!(demo.write(&bearer, &fresh).await.status(), StatusCode::NO_CONTENT);
    let seen = demo.tenant.seen();
    assert_eq!((seen.csrf_refused, seen.writes_executed), (3, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_concurrent_writes_are_rejected_as_the_fault_says() {
    let demo = Demo::start().await;
    let bearer = demo.token().await;
    let fetches = join_all((0..20).map(|_| demo.fetch_csrf(&bearer))).await;
    let tokens: Vec<String> = fetches.iter().map(|one| header(one, X_CSRF_TOKEN)).collect();
    demo.tenant.set_faults(DemoFaults { csrf_reject_next: 7, ..DemoFaults::default() });
    let answers = join_all(tokens.iter().map(|token| demo.write(&bearer, token))).await;
    let refused = answers.iter().filter(|one| one.status() == StatusCode::FORBIDDEN).count();
    assert_eq!((refused, demo.tenant.faults().csrf_reject_next), (7, 0));
    assert_eq!(demo.tenant.seen().writes_executed, 13);
}

#[tokio::test]
async fn a_refused_upload_gets_a_response_and_not_a_reset() {
    let demo = Demo::start().await;
    let chunks =
        stream::iter(std::iter::repeat_n(vec![0_u8; 65_536], 320)).map(Ok::<_, std::io::Error>);
    let request = demo.with_bearer(Method::POST, JOBS, &demo.token().await);
    let body = reqwest::Body::wrap_stream(chunks);
    assert_required(request.body(body).send().await.unwrap(), "upload").await;
    assert_eq!(demo.tenant.seen().writes_executed, 0);
}
