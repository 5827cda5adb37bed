//! What is in `deploy/`, judged by kubectl, by Kubernetes' and Compose's own schemas, and by systemd;
//! `tests/deploy/check.py` asks them.

use crate::support::process::output;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;

/// Runs the checks of this name. What it could not check is told even where the test passes.
async fn holds(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deploy");
    let mut command = Command::new(folder.join(".venv/bin/python"));
    command.args(["-I", "-B", "check.py", name]).current_dir(folder).stdin(Stdio::null());
    let judged = output(command.kill_on_drop(true)).await;
    let (told, verdict) =
        (String::from_utf8_lossy(&judged.stdout), String::from_utf8_lossy(&judged.stderr));
    for line in told.lines().filter(|line| line.starts_with("skipped: ")) {
        // Unlike `eprintln!`, this is not kept back by the test harness.
        std::io::stderr().write_all(format!("deploy: {line}\n").as_bytes()).unwrap();
    }
    assert!(judged.status.success(), "{told}{verdict}");
    assert!(!verdict.contains("Ran 0 tests"), "{verdict}");
}

#[tokio::test]
#[ignore = "needs kubectl and the Python packages of tests/deploy; make test installs them and runs this"]
async fn every_kubernetes_overlay_is_valid_and_its_sidecar_native_first_and_without_rights() {
    holds("Kubernetes").await;
}

#[tokio::test]
#[ignore = "needs the Node and Python packages of tests/deploy; make test installs them and runs this"]
async fn the_compose_file_is_valid_and_gives_the_app_the_sidecars_loopback() {
    holds("Compose").await;
}

#[tokio::test]
#[ignore = "needs the Python packages of tests/deploy; make test installs them and runs this"]
async fn the_cloud_foundry_manifest_is_valid_and_binds_what_the_sidecar_reads() {
    holds("CloudFoundry").await;
}

#[tokio::test]
#[ignore = "needs the Python packages of tests/deploy; make test installs them and runs this"]
async fn systemd_finds_the_unit_tight() {
    holds("Systemd").await;
}
