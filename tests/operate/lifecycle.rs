//! The end of the process: lame duck, drain, grace period, a second signal.

use crate::support::issuer;
use crate::support::process::Process;
use crate::support::scene::DemoScene;
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{Fixture, SALES, eventually, http};
use bearerd::demo::DemoFaults;
use std::time::Duration;

/// A process before a tenant that delays each response by this many milliseconds.
async fn start(delay: u64, shutdown: &str) -> (Fixture, Process) {
    let DemoScene { fixture, sidecar } =
        DemoScene::process(|config| config.key("shutdown", shutdown)).await;
    fixture.tenant.set_faults(DemoFaults { tenant_delay_ms: delay, ..DemoFaults::default() });
    (fixture, sidecar)
}

async fn status(url: &str, path: &str) -> Option<u16> {
    let answer = http().get(format!("{url}{path}")).send().await.ok()?;
    Some(answer.status().as_u16())
}

/// Starts a request and waits until the tenant has it.
async fn in_flight(fixture: &Fixture, process: &Process) -> tokio::task::JoinHandle<Option<u16>> {
    let url = process.url.clone();
    let before = fixture.tenant.seen().tenant_requests;
    let request = tokio::spawn(async move { status(&url, SALES).await });
    eventually("in flight", async || fixture.tenant.seen().tenant_requests > before).await;
    request
}

#[tokio::test]
async fn an_idle_sidecar_ends_at_once_with_0() {
    let (_fixture, mut process) = start(0, "{ grace: 1h }").await;
    // An idle connection must not delay the end.
    let client = http();
    client.get(format!("{}{SALES}", process.url)).send().await.unwrap().bytes().await.unwrap();
    process.signal("TERM").await;
    assert_eq!(process.exit_code().await, Some(0));
}

#[tokio::test]
async fn requests_in_flight_are_finished_and_no_new_one_is_accepted() {
    let (fixture, mut process) = start(1500, "{ grace: 1h }").await;
    let request = in_flight(&fixture, &process).await;
    process.signal("TERM").await;
    eventually("not ready", async || status(&process.admin, "/readyz").await == Some(503)).await;
    eventually("closed", async || status(&process.url, "/").await.is_none()).await;
    assert!(!request.is_finished(), "the request is still in flight");
    assert_eq!(request.await.unwrap(), Some(200));
    assert_eq!(process.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_lame_duck_serves_requests_although_it_is_not_ready() {
    let (_fixture, mut process) = start(0, "{ lame_duck: 1h }").await;
    process.signal("TERM").await;
    eventually("not ready", async || status(&process.admin, "/readyz").await == Some(503)).await;
    let answer = http().get(format!("{}{SALES}", process.url)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["connection"], "close", "callers must open a new connection");
    assert_eq!(status(&process.admin, "/livez").await, Some(200));
    process.signal("TERM").await;
    assert_eq!(process.exit_code().await, Some(0), "a second signal ends the lame duck");
}

#[tokio::test]
async fn the_grace_period_limits_the_drain() {
    let (fixture, mut process) = start(3_600_000, "{ grace: 200ms }").await;
    let request = in_flight(&fixture, &process).await;
    process.signal("TERM").await;
    assert_eq!(process.exit_code().await, Some(0));
    assert_eq!(request.await.unwrap(), None, "cut off");
    assert!(process.log().contains("still in flight"), "{}", process.log());
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let (fixture, mut process) = start(3_600_000, "{ grace: 1h }").await;
    let request = in_flight(&fixture, &process).await;
    process.signal("TERM").await;
    eventually("not ready", async || status(&process.admin, "/readyz").await == Some(503)).await;
    assert!(!process.ends_within(Duration::from_millis(300)).await, "it waits for the request");
    process.signal("INT").await;
    assert_eq!(process.exit_code().await, Some(0));
    assert_eq!(request.await.unwrap(), None);
}

#[tokio::test]
async fn a_request_that_waits_for_a_token_is_answered_at_the_end_of_the_grace_period() {
    let issuer = Peer::start(Behaviour::Hang).await;
    let config = issuer.configuration("https://127.0.0.1:9");
    let config = config.client("wait", "60s").key("shutdown", "{ grace: 200ms }");
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(folder.path(), &config).await;
    let url = process.url.clone();
    let request = tokio::spawn(async move { http().get(format!("{url}/free")).send().await });
    let in_flight = async || process.metric("bearerd_requests_in_flight").await == 1.0;
    eventually("in flight", in_flight).await;
    process.signal("TERM").await;
    let answer = request.await.unwrap().unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.text().await.unwrap().contains(r#""kind":"draining""#));
    assert_eq!(process.exit_code().await, Some(0));
}

#[tokio::test]
async fn the_startup_probe_fails_until_the_first_token() {
    let issuer = Peer::start(issuer::status("503 Service Unavailable", "", "")).await;
    let config = issuer.configuration("https://127.0.0.1:9").client("wait", "0s");
    let sidecar = Sidecar::start(&config);
    assert_eq!(sidecar.probe("/livez").await.0, 200);
    eventually("pending", async || {
        let (status, text) = sidecar.probe("/startupz").await;
        status == 503 && text.contains("token of c: the issuer cannot answer now (503")
    })
    .await;
    assert_eq!(sidecar.probe("/nowhere").await.0, 404);
}
