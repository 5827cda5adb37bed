//! Privileges that the process gives up.

use crate::support::process::Process;
use crate::support::{Fixture, SALES, eventually, http};

async fn status(process: &Process, path: &str) -> u16 {
    http().get(format!("{}{path}", process.url)).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn core_dumps_are_off() {
    let fixture = Fixture::start().await;
    let process = Process::start(fixture.folder.path(), &fixture.configuration()).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
}

#[tokio::test]
async fn in_the_sandbox_only_the_places_of_the_configuration_can_be_read() {
    let elsewhere = tempfile::tempdir().unwrap();
    for (sandbox, outcome) in [("on", "invalid"), ("off", "success")] {
        let fixture = Fixture::start().await;
        let config = fixture.configuration().key("sandbox", sandbox);
        let process = Process::start(fixture.folder.path(), &config).await;
        if process.log().contains("No sandbox") {
            eprintln!("skipped: this kernel has no Landlock");
            return;
        }
        eventually("served", async || status(&process, SALES).await == 200).await;
        let secret = elsewhere.path().join("secret");
        std::fs::write(&secret, fixture.tenant.client_secret()).unwrap();
        let other = config.client("client_secret_file", secret.display());
        std::fs::write(fixture.path("bearerd.yaml"), other.to_string()).unwrap();
        let line = format!("bearerd_config_reloads_total{{outcome=\"{outcome}\"}} 1\n");
        let counted = async || process.probe("/metrics").await.1.contains(&line);
        eventually(outcome, counted).await;
        if sandbox == "on" {
            process.logged("may not read it").await;
        } else {
            assert!(!process.log().contains("may not read it"), "{}", process.log());
        }
        assert_eq!(status(&process, SALES).await, 200);
    }
}
