//! What the process gives up.

use crate::support::process::Process;
use crate::support::{Fixture, eventually, http};

async fn status(process: &Process, path: &str) -> u16 {
    http().get(format!("{}{path}", process.url)).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn core_dumps_are_off() {
    let fixture = Fixture::start().await;
    let process = Process::start(fixture.folder.path(), &fixture.config("", ""), &[]).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
}

#[tokio::test]
async fn in_the_sandbox_only_the_places_of_the_configuration_can_be_read() {
    const SALES: &str = "/api/v1/datasphere/consumption/relational/DEMO/SALES/SALES?$top=1";
    let elsewhere = tempfile::tempdir().unwrap();
    for (sandbox, outcome) in [("on", "invalid"), ("off", "success")] {
        let fixture = Fixture::start().await;
        let config = fixture.config("", &format!("sandbox: {sandbox}"));
        let process = Process::start(fixture.folder.path(), &config, &[]).await;
        if process.log().contains("No sandbox") {
            eprintln!("this kernel has no Landlock: nothing to see");
            return;
        }
        eventually("served", async || status(&process, SALES).await == 200).await;
        let secret = elsewhere.path().join("secret");
        std::fs::write(&secret, fixture.tenant.client_secret()).unwrap();
        let other = config
            .replace(&fixture.path("secret").display().to_string(), &secret.display().to_string());
        std::fs::write(fixture.path("bearerd.yaml"), other).unwrap();
        let line = format!("bearerd_config_reloads_total{{outcome=\"{outcome}\"}} 1\n");
        let told = async || {
            let answer = http().get(format!("{}/metrics", process.admin)).send().await.unwrap();
            answer.text().await.unwrap().contains(&line)
        };
        eventually(outcome, told).await;
        let denied = process.log().contains("Permission denied");
        assert_eq!(denied, sandbox == "on", "{}", process.log());
        assert_eq!(status(&process, SALES).await, 200);
    }
}
