//! The life of an access token: its first request, refreshes, failures of the issuer, and its end.

use crate::support::issuer::{self, token};
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{Fixture, SALES, eventually, http};
use bearerd::demo::{DemoFaults, IssuerFault};
use futures_util::future::join_all;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[tokio::test]
async fn a_thousand_requests_at_cold_start_cause_one_token_request() {
    let fixture = Fixture::start().await;
    fixture.tenant.set_faults(DemoFaults { issuer_delay_ms: 1000, ..DemoFaults::default() });
    let sidecar = Sidecar::start(&fixture.configuration().client("wait", "30s"));
    let http = http();
    let requests = (0..1000).map(|_| http.get(format!("{}{SALES}", sidecar.url)).send());
    for answer in join_all(requests).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_eq!(fixture.tenant.seen().token_requests, 1);
    assert_eq!(fixture.tenant.seen().accepted, 1000);
    let waited = r#"bearerd_token_waits_total{client="technical-user",outcome="served"}"#;
    assert!(sidecar.metric(waited).await > 0.0, "at least one waited");
}

#[tokio::test]
async fn a_refresh_under_load_costs_no_request_an_error() {
    let fixture = Fixture::start().await;
    // A JWT expires on a whole second: one of four seconds lives at least three.
    fixture.tenant.set_faults(DemoFaults { token_lifetime: 4, ..DemoFaults::default() });
    let sidecar = Sidecar::ready(&fixture.configuration()).await;
    let (stop, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let http = http();
    let load = join_all((0..16).map(|_| async {
        while !stop.load(Ordering::Relaxed) {
            let answer = http.get(format!("{}{SALES}", sidecar.url)).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            sent.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let refreshes = async {
        let generation = async || sidecar.metric("bearerd_token_generation").await;
        eventually("four generations", async || generation().await >= 4.0).await;
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(load, refreshes);
    assert!(sent.load(Ordering::Relaxed) > 100);
    assert_eq!(fixture.tenant.seen().refused, 0);
}

#[tokio::test]
async fn a_valid_token_outlives_the_issuer_and_nothing_goes_upstream_after_its_end() {
    let fixture = Fixture::start().await;
    fixture.tenant.set_faults(DemoFaults { token_lifetime: 4, ..DemoFaults::default() });
    let sidecar = Sidecar::ready(&fixture.configuration().client("wait", "100ms")).await;
    fixture.tenant.set_faults(DemoFaults {
        issuer: IssuerFault::Unavailable,
        token_lifetime: 4,
        ..DemoFaults::default()
    });
    eventually("degraded", async || {
        let (status, text) = sidecar.probe("/readyz").await;
        status == 200 && text.contains("degraded")
    })
    .await;
    assert_eq!(sidecar.get(SALES).await.status(), 200, "the token still serves");

    eventually("expired", async || sidecar.probe("/readyz").await.0 == 503).await;
    let before = fixture.tenant.seen().tenant_requests;
    for _ in 0..20 {
        let answer = sidecar.get(SALES).await;
        assert_eq!(answer.status(), 503);
        assert!(answer.text().await.unwrap().contains(r#""kind":"token_unavailable""#));
    }
    assert_eq!(fixture.tenant.seen().tenant_requests, before);
    assert_eq!(sidecar.metric("bearerd_token_usable").await, 0.0);
    assert!(sidecar.metric("bearerd_token_refresh_consecutive_failures").await > 0.0);

    fixture.tenant.set_faults(DemoFaults::default());
    eventually("recovered", async || sidecar.probe("/readyz").await.0 == 200).await;
    assert_eq!(sidecar.get(SALES).await.status(), 200);
}

#[tokio::test]
async fn every_wrong_answer_of_the_issuer_is_survived() {
    let upstream = Peer::start(Behaviour::ok("fine")).await;
    let long = format!(r#"{{"access_token":"{}"}}"#, "x".repeat(70_000));
    let empty = r#"{"access_token":"","token_type":"bearer","expires_in":60}"#;
    let page = "<html>login</html>";
    let answers = [
        ("invalid_answer", issuer::json(empty)),
        ("invalid_answer", issuer::status("200 OK", "content-type: text/html\r\n", page)),
        ("connect_error", Behaviour::AnswerAndClose(String::new())),
        ("invalid_answer", issuer::json(&long)),
        ("rate_limited", issuer::status("429 Too Many Requests", "retry-after: 1\r\n", "")),
    ];
    // Each goes to a sidecar of its own: the back-off after several failures would take a minute.
    for (outcome, answer) in answers {
        let issuer = issuer::steady().await;
        issuer.script([answer]);
        let sidecar = Sidecar::start(&issuer.configuration(&upstream.url()));
        eventually("ready", async || sidecar.probe("/readyz").await.0 == 200).await;
        for outcome in [outcome, "success"] {
            let labels = format!(r#"{{client="c",outcome="{outcome}"}}"#);
            let series = format!("bearerd_token_requests_total{labels}");
            assert_eq!(sidecar.metric(&series).await, 1.0, "{outcome}");
        }
        assert_eq!(issuer.seen().len(), 2);
        assert_eq!(sidecar.get("/free").await.status(), 200);
    }
}

#[tokio::test]
async fn a_redirecting_issuer_never_leads_the_secret_elsewhere() {
    let elsewhere = issuer::steady().await;
    let location = format!("location: {}/oauth/token\r\n", elsewhere.url());
    let issuer = Peer::start(issuer::status("307 Temporary Redirect", &location, "")).await;
    let sidecar =
        Sidecar::start(&issuer.configuration("https://127.0.0.1:9").client("wait", "100ms"));
    let series = r#"bearerd_token_requests_total{client="c",outcome="not_an_issuer"}"#;
    eventually("asked once", async || sidecar.metric(series).await == 1.0).await;
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn the_token_request_is_what_the_configuration_says() {
    let request = async |keys: &[(&str, &str)]| {
        let issuer = issuer::steady().await;
        let config = issuer.configuration("https://127.0.0.1:9");
        let config = keys.iter().fold(config, |config, (key, value)| config.client(key, value));
        let _sidecar = Sidecar::ready(&config).await;
        issuer.seen().remove(0)
    };
    let seen = request(&[("scope", "'a b'"), ("token_params", "{ resource: 'urn:x' }")]).await;
    assert_eq!(seen.line(), "POST /oauth/token HTTP/1.1");
    assert_eq!(seen.header("content-type"), ["application/x-www-form-urlencoded"]);
    assert!(seen.header("authorization").is_empty());
    assert_eq!(
        String::from_utf8(seen.body).unwrap(),
        "grant_type=client_credentials&client_id=id&client_secret=s3cret&scope=a+b&resource=urn%3Ax"
    );
    let seen = request(&[("client_auth", "basic")]).await;
    assert_eq!(seen.header("authorization"), ["Basic aWQ6czNjcmV0"]);
    assert_eq!(seen.body, b"grant_type=client_credentials");
    let seen = request(&[("client_auth", "basic-encoded")]).await;
    assert_eq!(seen.header("authorization"), ["Basic aWQ6czNjcmV0"]);
    assert_eq!(seen.header("x-cf-encoded-credentials"), ["true"]);
}

#[tokio::test]
async fn ids_and_secrets_with_special_characters_work_in_every_method() {
    let fixture = Fixture::start().await;
    for method in ["post", "basic", "basic-encoded"] {
        let sidecar = Sidecar::ready(&fixture.configuration().client("client_auth", method)).await;
        assert_eq!(sidecar.get(SALES).await.status(), 200, "{method}");
    }
}

#[tokio::test]
async fn a_corrected_secret_is_tried_at_once() {
    let fixture = Fixture::start().await;
    std::fs::write(fixture.path("secret"), "wrong\n").unwrap();
    let right = fixture.tenant.client_secret() + "\r\n";
    let sidecar = Sidecar::start(&fixture.configuration());
    eventually("asked", async || fixture.tenant.seen().token_requests > 0).await;
    std::fs::write(fixture.path("secret"), right).unwrap();
    // The back-off of a refused client is longer than the test's deadline.
    eventually("ready", async || sidecar.probe("/readyz").await.0 == 200).await;
}

#[tokio::test]
async fn the_current_token_is_sent() {
    let upstream = Peer::start(Behaviour::ok("fine")).await;
    let issuer = Peer::start(token("second", 3600)).await;
    issuer.script([token("first", 2)]);
    let sidecar = Sidecar::ready(&issuer.configuration(&upstream.url())).await;
    sidecar.get("/free").await;
    eventually("refreshed", async || sidecar.metric("bearerd_token_generation").await == 2.0).await;
    sidecar.get("/free").await;
    let sent: Vec<_> =
        upstream.seen().iter().map(|seen| seen.header("authorization")[0].to_owned()).collect();
    assert_eq!(sent, ["Bearer first", "Bearer second"]);
}

#[tokio::test]
async fn a_secret_file_whose_reading_blocks_holds_up_nothing() {
    let fixture = Fixture::start().await;
    fixture.tenant.set_faults(DemoFaults { token_lifetime: 3, ..DemoFaults::default() });
    let sidecar = Sidecar::ready(&fixture.configuration()).await;
    let secret = fixture.path("secret");
    std::fs::remove_file(&secret).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&secret).status().unwrap();
    assert!(made.success());
    let outcome = r#"{client="technical-user",outcome="unreadable"}"#;
    let series = format!("bearerd_credential_reloads_total{outcome}");
    eventually("reported", async || sidecar.metric(&series).await >= 1.0).await;
    let generation = sidecar.metric("bearerd_token_generation").await;
    let refreshed = async || sidecar.metric("bearerd_token_generation").await > generation;
    eventually("refreshed with the secret in use", refreshed).await;
    assert_eq!(sidecar.probe("/livez").await.0, 200);
    let (status, text) = sidecar.probe("/readyz").await;
    assert!(status == 200 && text.contains("degraded: new credential of technical-user"), "{text}");
}
