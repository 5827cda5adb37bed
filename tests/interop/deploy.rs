//! The files of `deploy/` and `config/` and the workflows, checked by kubectl, Helm, the schemas of
//! Kubernetes and Compose, systemd, actionlint and Grafana's types. `tests/deploy/check.py` runs
//! these.

use crate::support::process::output;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;

/// Runs the checks of this name. Skipped checks are printed even if the test passes.
async fn check(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deploy");
    let mut command = Command::new(folder.join(".venv/bin/python"));
    command.args(["-I", "-B", "check.py", name]).current_dir(folder).stdin(Stdio::null());
    command.env("BEARERD", env!("CARGO_BIN_EXE_bearerd"));
    let checked = output(command.kill_on_drop(true)).await;
    let (printed, verdict) =
        (String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    for line in printed.lines().filter(|line| line.starts_with("skipped: ")) {
        // The test harness does not capture this, unlike `eprintln!`.
        std::io::stderr().write_all(format!("deploy: {line}\n").as_bytes()).unwrap();
    }
    assert!(checked.status.success(), "{printed}{verdict}");
    assert!(!verdict.contains("Ran 0 tests"), "{verdict}");
}

#[tokio::test]
#[ignore = "needs kubectl and the Python packages of tests/deploy; make test installs them and runs this"]
async fn every_kubernetes_overlay_is_valid_and_its_sidecar_native_first_and_without_rights() {
    check("Kubernetes").await;
}

#[tokio::test]
#[ignore = "needs the Node and Python packages of tests/deploy; make test installs them and runs this"]
async fn the_compose_file_is_valid_and_gives_the_app_the_sidecars_loopback() {
    check("Compose").await;
}

#[tokio::test]
#[ignore = "needs the Python packages of tests/deploy; make test installs them and runs this"]
async fn the_cloud_foundry_manifest_is_valid_and_binds_what_the_sidecar_reads() {
    check("CloudFoundry").await;
}

#[tokio::test]
#[ignore = "needs the Python packages of tests/deploy; make test installs them and runs this"]
async fn systemd_finds_the_unit_tight() {
    check("Systemd").await;
}

#[tokio::test]
#[ignore = "needs the Node and Python packages of tests/deploy; make test installs them and runs this"]
async fn actionlint_finds_the_workflows_valid_and_every_command_of_make_exists() {
    check("Workflows").await;
}

#[tokio::test]
#[ignore = "needs the Python packages of tests/deploy; make test installs them and runs this"]
async fn helm_renders_a_valid_deployment_and_the_components_sidecar() {
    check("Helm").await;
}

#[tokio::test]
#[ignore = "needs the Python packages of tests/deploy; make test installs them and runs this"]
async fn the_schema_of_the_configuration_agrees_with_bearerd() {
    check("Schema").await;
}

#[tokio::test]
#[ignore = "needs the Node and Python packages of tests/deploy; make test installs them and runs this"]
async fn the_dashboard_fits_grafanas_own_types() {
    check("Grafana").await;
}
