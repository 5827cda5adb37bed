//! promtool checks the rules, their examples, the dashboard's expressions, and the metrics of a
//! sidecar.

use crate::operate::monitoring::{Shown, dashboard_expressions};
use crate::support::process::tool;
use crate::support::sidecar::Sidecar;
use crate::support::{DEADLINE, Fixture, SALES, eventually, http};
use bearerd::demo::{DemoFaults, IssuerFault};
use serde_json::json;
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;
use tokio::time::timeout;

/// Runs promtool in the rules' folder and checks that it finds no fault.
async fn promtool(arguments: &[&str], input: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), input).unwrap();
    let mut command = Command::new(tool("promtool"));
    command
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus"))
        .stdin(Stdio::from(file.reopen().unwrap()))
        .kill_on_drop(true);
    // The examples evaluate the rules over days.
    let ended = timeout(DEADLINE * 4, command.output()).await.expect("promtool ends in time");
    let ended = ended.expect("there is promtool (scripts/setup.sh --with-prometheus)");
    let said = [ended.stdout, ended.stderr].map(|said| String::from_utf8(said).unwrap());
    assert!(ended.status.success() && said[1].is_empty(), "{arguments:?}: {}{}", said[0], said[1]);
}

#[tokio::test]
#[ignore = "needs promtool; make test installs it and runs this"]
async fn the_rules_are_well_formed() {
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", "bearerd.rules.yaml"], "").await;
}

#[tokio::test]
#[ignore = "needs promtool; make test installs it and runs this"]
async fn every_alert_fires_and_is_silent_as_its_examples_say() {
    promtool(&["test", "rules", "bearerd.test.yaml"], "").await;
}

#[tokio::test]
#[ignore = "needs promtool; make test installs it and runs this"]
async fn every_expression_of_the_dashboard_is_well_formed() {
    let rule = |(index, shown): (usize, Shown)| json!({ "record": format!("dashboard:{index}"), "expr": shown.expression });
    let rules: Vec<_> = dashboard_expressions().into_iter().enumerate().map(rule).collect();
    assert!(rules.len() > 40, "{}", rules.len());
    // JSON is YAML.
    let file = json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dashboard.yaml");
    std::fs::write(&path, file).unwrap();
    promtool(&["check", "rules", "--lint=none", path.to_str().unwrap()], "").await;
}

#[tokio::test]
#[ignore = "needs promtool; make test installs it and runs this"]
async fn the_metrics_of_a_sidecar_with_every_kind_of_event_are_well_formed() {
    let fixture = Fixture::start().await;
    fixture
        .tenant
        .set_faults(DemoFaults { issuer: IssuerFault::Unavailable, ..DemoFaults::default() });
    let sidecar = Sidecar::start(&fixture.configuration().client("expires_on", "2030-01-01"));
    let failures = "bearerd_token_refresh_consecutive_failures";
    eventually("a failed refresh", async || sidecar.metric(failures).await > 0.0).await;
    fixture.tenant.set_faults(DemoFaults::default());
    eventually("ready", async || sidecar.probe("/readyz").await.0 == 200).await;
    let http = http();
    // A read, a write, a heal, a local refusal, and a request with the caller's own credentials.
    assert_eq!(sidecar.get(SALES).await.status(), 200);
    let users = format!("{}/api/v1/scim2/Users", sidecar.url);
    let user = json!({ "userName": "ADA" });
    assert_eq!(http.post(&users).json(&user).send().await.unwrap().status(), 201);
    fixture.tenant.rotate_keys();
    assert_eq!(sidecar.get(SALES).await.status(), 200);
    assert_eq!(sidecar.get("/nowhere").await.status(), 404);
    let stripped = http.get(format!("{}{SALES}", sidecar.url)).basic_auth("tool", Some("x"));
    assert_eq!(stripped.send().await.unwrap().status(), 200);
    let (_, text) = sidecar.probe("/metrics").await;
    for counted in [
        "bearerd_csrf_fetches_total{outcome=\"fetched\"",
        "bearerd_token_heals_total{client=\"technical-user\",outcome=\"healed\"",
        "bearerd_authorization_stripped_total{route=\"/api/v1/datasphere/consumption\"",
        "bearerd_requests_rejected_total{kind=\"no_route\"",
        "bearerd_token_requests_total{client=\"technical-user\",outcome=\"server_error\"",
        "bearerd_links_rewritten_total{route=\"/api/v1/datasphere/consumption\"",
    ] {
        let is_it = |line: &&str| line.starts_with(counted) && !line.ends_with(" 0");
        assert!(text.lines().any(|line| is_it(&line)), "{counted}: {text}");
    }
    promtool(&["check", "metrics"], &text).await;
}
