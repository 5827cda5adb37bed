//! DemoFaults of the issuer and of the tenant.

use super::setup::{Demo, SALES, USERS, X_CSRF_TOKEN, header, json_of};
use bearerd::demo::{DemoFaults, IssuerFault, TenantFault};
use reqwest::header::{HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode};

fn issuer(issuer: IssuerFault) -> DemoFaults {
    DemoFaults { issuer, ..DemoFaults::default() }
}

fn tenant_fault(tenant: TenantFault) -> DemoFaults {
    DemoFaults { tenant, ..DemoFaults::default() }
}

#[tokio::test]
async fn the_issuer_can_be_overloaded_with_or_without_retry_after() {
    for (fault, status) in [
        (IssuerFault::TooManyRequests, StatusCode::TOO_MANY_REQUESTS),
        (IssuerFault::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let demo = Demo::with(issuer(fault)).await;
        let response = demo.ask().await;
        assert_eq!((response.status(), response.headers().get(RETRY_AFTER)), (status, None));
        let date = "Wed, 21 Oct 2065 07:28:00 GMT";
        demo.tenant
            .set_faults(DemoFaults { issuer_retry_after: Some(date.to_owned()), ..issuer(fault) });
        let response = demo.ask().await;
        assert_eq!(response.headers().get(RETRY_AFTER), Some(&HeaderValue::from_static(date)));
    }
}

#[tokio::test]
async fn the_issuer_can_fail_in_other_ways() {
    let demo = Demo::with(issuer(IssuerFault::InternalError)).await;
    assert_eq!(demo.ask().await.status(), StatusCode::INTERNAL_SERVER_ERROR);
    demo.tenant.set_faults(issuer(IssuerFault::RefuseClient));
    assert_eq!(demo.ask().await.status(), StatusCode::UNAUTHORIZED);
    demo.tenant.set_faults(issuer(IssuerFault::Html));
    let response = demo.ask().await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(header(&response, "content-type").starts_with("text/html"));
    demo.tenant.set_faults(issuer(IssuerFault::EmptyToken));
    let response = demo.ask().await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(json_of(response).await["access_token"], "");
    assert_eq!(demo.tenant.seen().tokens_issued, 0);
    demo.tenant.set_faults(DemoFaults {
        issuer_delay_ms: 1,
        token_lifetime: 60,
        ..DemoFaults::default()
    });
    assert_eq!(json_of(demo.ask().await).await["expires_in"], 60);
}

#[tokio::test]
async fn a_hanging_issuer_hangs_until_the_tenant_stops() {
    let Demo { tenant, http } = Demo::with(issuer(IssuerFault::Hang)).await;
    let request = http.post(tenant.token_url()).send();
    let stop = async {
        while tenant.seen().token_requests == 0 {
            tokio::task::yield_now().await;
        }
        tenant.stop().await;
    };
    let (answer, ()) = tokio::join!(request, stop);
    assert!(!answer.unwrap_err().is_timeout());
}

#[tokio::test]
async fn a_hanging_tenant_hangs_until_it_stops() {
    let Demo { tenant, http } = Demo::with(tenant_fault(TenantFault::Hang)).await;
    let request = http.get(tenant.url()).send();
    let stop = async {
        while tenant.seen().tenant_requests == 0 {
            tokio::task::yield_now().await;
        }
        tenant.stop().await;
    };
    let (answer, ()) = tokio::join!(request, stop);
    assert!(!answer.unwrap_err().is_timeout());
}

#[tokio::test]
async fn a_get_gets_the_login_page_with_200_and_other_methods_get_401() {
    let demo = Demo::with(tenant_fault(TenantFault::LoginPage)).await;
    let response = demo.get(&format!("{SALES}/SALES")).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(header(&response, "content-type").starts_with("text/html"));
    let cookies: Vec<String> = response
        .headers()
        .get_all("set-cookie")
        .iter()
        .map(|value| value.to_str().unwrap().split('=').next().unwrap().to_owned())
        .collect();
    assert_eq!(cookies, ["fragmentAfterLogin", "locationAfterLogin"]);
    assert!(response.text().await.unwrap().contains("/oauth/authorize?"));

    let post = demo.raw(Method::POST, USERS).bearer_auth(demo.token().await);
    assert_eq!(post.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let script = demo.api(Method::GET, SALES).await.header("x-requested-with", "XMLHttpRequest");
    assert_eq!(script.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!((demo.tenant.seen().accepted, demo.tenant.seen().refused), (0, 3));
}

#[tokio::test]
async fn the_body_of_the_login_page_can_come_long_after_its_header() {
    let slow = |login_page_delay_ms| DemoFaults {
        login_page_delay_ms,
        ..tenant_fault(TenantFault::LoginPage)
    };
    let demo = Demo::with(slow(u64::MAX)).await;
    let response = demo.get(SALES).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(header(&response, "content-type").starts_with("text/html"));
    assert_eq!(response.content_length(), None);
    drop(response);

    demo.tenant.set_faults(slow(1));
    let page = demo.get(SALES).await.text().await.unwrap();
    assert!(page.contains("/oauth/authorize?"), "{page}");
}

#[tokio::test]
async fn after_changed_scopes_only_earlier_tokens_are_refused() {
    let demo = Demo::start().await;
    let before = demo.token().await;
    let csrf = header(&demo.fetch_csrf(&before).await, X_CSRF_TOKEN);
    demo.tenant.set_faults(tenant_fault(TenantFault::ScopesChanged));

    let response = demo.write(&before, &csrf).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(response.headers().get(X_CSRF_TOKEN), None);
    assert_eq!(json_of(response).await["error"], "insufficient_scope");
    assert_eq!((demo.tenant.seen().refused, demo.tenant.seen().writes_executed), (1, 0));

    let after = demo.token().await;
    let status = async |bearer: &str| {
        demo.with_bearer(Method::GET, SALES, bearer).send().await.unwrap().status()
    };
    assert_eq!(status(&after).await, StatusCode::OK);
    // The fault continues: setting another field does not restart it.
    demo.tenant
        .set_faults(DemoFaults { tenant_delay_ms: 1, ..tenant_fault(TenantFault::ScopesChanged) });
    assert_eq!(status(&after).await, StatusCode::OK);
    assert_eq!(status(&before).await, StatusCode::FORBIDDEN);
    // Setting it again after another fault restarts it.
    demo.tenant.set_faults(DemoFaults::default());
    assert_eq!(status(&before).await, StatusCode::OK);
    demo.tenant.set_faults(tenant_fault(TenantFault::ScopesChanged));
    assert_eq!(status(&after).await, StatusCode::FORBIDDEN);
    assert_eq!(status("dummy").await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_tenant_that_always_refuses_also_refuses_new_tokens() {
    let demo = Demo::start().await;
    let old = demo.token().await;
    let csrf = header(&demo.fetch_csrf(&old).await, X_CSRF_TOKEN);
    demo.tenant.set_faults(tenant_fault(TenantFault::RefuseAlways));
    let response = demo.write(&old, &csrf).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
    assert_eq!(demo.get(SALES).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!((demo.tenant.seen().refused, demo.tenant.seen().writes_executed), (2, 0));
}

#[tokio::test]
async fn the_tenant_can_fail_in_other_ways() {
    let demo = Demo::with(tenant_fault(TenantFault::LoginRedirect)).await;
    let response = demo.get(SALES).await;
    assert_eq!(response.status(), StatusCode::FOUND);
    let location = response.headers()[LOCATION].to_str().unwrap().to_owned();
    assert!(
        location.starts_with(&demo.tenant.token_url().replace("token", "authorize")),
        "{location}"
    );
    assert_eq!(demo.http.get(location).send().await.unwrap().status(), StatusCode::OK);

    demo.tenant.set_faults(tenant_fault(TenantFault::Unauthorized));
    assert_eq!(demo.get(SALES).await.status(), StatusCode::UNAUTHORIZED);
    demo.tenant.set_faults(tenant_fault(TenantFault::InternalError));
    assert_eq!(demo.get(SALES).await.status(), StatusCode::INTERNAL_SERVER_ERROR);
    demo.tenant.set_faults(DemoFaults { tenant_delay_ms: 1, ..DemoFaults::default() });
    assert_eq!(demo.get(SALES).await.status(), StatusCode::OK);
}
