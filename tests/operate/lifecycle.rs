//! The end of the process: lame duck, drain, deadline, a second signal.

use crate::support::issuer;
use crate::support::process::Process;
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{Fixture, eventually, http};
use bearerd::demo::Faults;
use std::time::Duration;

const SALES: &str = "/api/v1/datasphere/consumption/relational/DEMO/SALES/SALES?$top=1";

/// A real process in front of a tenant that takes this long for each answer.
async fn world(delay: u64, shutdown: &str) -> (Fixture, Process) {
    let fixture = Fixture::start().await;
    let config = fixture.config("", &format!("shutdown: {shutdown}"));
    let process = Process::start(fixture.folder.path(), &config, &[]).await;
    eventually("ready", async || status(&process.admin, "/readyz").await == Some(200)).await;
    fixture.tenant.set_faults(Faults { tenant_delay_ms: delay, ..Faults::default() });
    (fixture, process)
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
    let (_fixture, mut process) = world(0, "{ grace: 1h }").await;
    // An idle kept connection must not hold the process.
    let client = http();
    client.get(format!("{}{SALES}", process.url)).send().await.unwrap().bytes().await.unwrap();
    process.signal("TERM").await;
    assert_eq!(process.exit_code().await, Some(0));
}

#[tokio::test]
async fn what_is_in_flight_is_finished_and_nothing_new_is_taken() {
    let (fixture, mut process) = world(1500, "{ grace: 1h }").await;
    let request = in_flight(&fixture, &process).await;
    process.signal("TERM").await;
    eventually("not ready", async || status(&process.admin, "/readyz").await == Some(503)).await;
    eventually("closed", async || status(&process.url, "/").await.is_none()).await;
    assert!(!request.is_finished(), "the request is still in flight");
    assert_eq!(request.await.unwrap(), Some(200));
    assert_eq!(process.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_lame_duck_still_serves_while_it_says_that_it_is_not_ready() {
    let (_fixture, mut process) = world(0, "{ lame_duck: 1h }").await;
    process.signal("TERM").await;
    eventually("not ready", async || status(&process.admin, "/readyz").await == Some(503)).await;
    let answer = http().get(format!("{}{SALES}", process.url)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["connection"], "close", "callers are asked to go elsewhere");
    assert_eq!(status(&process.admin, "/livez").await, Some(200));
    process.signal("TERM").await;
    assert_eq!(process.exit_code().await, Some(0), "a second signal ends the lame duck");
}

#[tokio::test]
async fn the_grace_is_the_latest_end() {
    let (fixture, mut process) = world(3_600_000, "{ grace: 200ms }").await;
    let request = in_flight(&fixture, &process).await;
    process.signal("TERM").await;
    assert_eq!(process.exit_code().await, Some(0));
    assert_eq!(request.await.unwrap(), None, "cut off");
    assert!(process.log().contains("still in flight"), "{}", process.log());
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let (fixture, mut process) = world(3_600_000, "{ grace: 1h }").await;
    let request = in_flight(&fixture, &process).await;
    process.signal("TERM").await;
    eventually("not ready", async || status(&process.admin, "/readyz").await == Some(503)).await;
    assert!(!process.ends_within(Duration::from_millis(300)).await, "it waits for the request");
    process.signal("INT").await;
    assert_eq!(process.exit_code().await, Some(0));
    assert_eq!(request.await.unwrap(), None);
}

#[tokio::test]
async fn a_request_that_waits_for_a_token_is_told_at_the_deadline() {
    let issuer = Peer::start(Behaviour::Hang).await;
    let config = issuer.config("https://127.0.0.1:9", "wait: 60s", "shutdown: { grace: 200ms }");
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(folder.path(), &config, &[]).await;
    let url = process.url.clone();
    let request = tokio::spawn(async move { http().get(format!("{url}/free")).send().await });
    let in_flight = async || {
        let metrics = http().get(format!("{}/metrics", process.admin)).send().await.unwrap();
        metrics.text().await.unwrap().contains("bearerd_requests_in_flight 1\n")
    };
    eventually("in flight", in_flight).await;
    process.signal("TERM").await;
    let answer = request.await.unwrap().unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.text().await.unwrap().contains(r#""kind":"draining""#));
    assert_eq!(process.exit_code().await, Some(0));
}

#[tokio::test]
async fn probes_tell_the_start_apart_from_readiness() {
    let issuer = Peer::start(issuer::status("503 Service Unavailable", "", "")).await;
    let config = issuer.config("https://127.0.0.1:9", "wait: 0s", "");
    let sidecar = crate::support::sidecar::Sidecar::start(&config);
    assert_eq!(sidecar.probe("/livez").await.0, 200);
    eventually("pending", async || {
        let (status, text) = sidecar.probe("/startupz").await;
        status == 503 && text.contains("token of c: the issuer cannot answer now (503")
    })
    .await;
    assert_eq!(sidecar.probe("/nowhere").await.0, 404);
}
