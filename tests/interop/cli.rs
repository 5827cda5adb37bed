//! SAP's `datasphere` command line, with the sidecar as its host and a dummy token.

use crate::support::process::output;
use crate::support::sidecar::Sidecar;
use crate::support::{Fixture, eventually};
use std::path::Path;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::process::Command;

/// The command line with a home folder of its own.
struct Cli<'a> {
    home: TempDir,
    sidecar: &'a Sidecar,
}

impl<'a> Cli<'a> {
    /// Loads the discovery document, from which the command line makes its commands.
    async fn start(sidecar: &'a Sidecar) -> Self {
        let cli = Self { home: tempfile::tempdir().unwrap(), sidecar };
        cli.run(&["config", "cache", "init"]).await;
        cli
    }

    /// Runs a command and returns what it printed.
    async fn run(&self, arguments: &[&str]) -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/cli");
        let mut command = Command::new(folder.join("node_modules/.bin/datasphere"));
        command
            .args(arguments)
            .args(["--host", &self.sidecar.url, "--access-token", "dummy"])
            .env("HOME", self.home.path())
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let ended = output(&mut command).await;
        let printed = String::from_utf8(ended.stdout).unwrap();
        assert!(ended.status.success(), "{arguments:?}: {printed}");
        printed
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.home.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

#[tokio::test]
#[ignore = "needs the Node packages of tests/interop/cli; make test installs them and runs this"]
async fn the_datasphere_cli_reads_and_writes_and_survives_a_stale_token() {
    let fixture = Fixture::start().await;
    let sidecar = Sidecar::ready(&fixture.configuration()).await;
    let cli = Cli::start(&sidecar).await;

    let listed = cli.run(&["spaces", "list", "--no-pretty"]).await;
    assert_eq!(listed.trim(), r#"["DEMO"]"#);

    let space = r#"{"MY_SPACE":{"spaceDefinition":{"version":"1.0.4","label":"Mine"}}}"#;
    let file = cli.file("space.json", space);
    let created = cli.run(&["spaces", "create", "--file-path", &file]).await;
    assert!(created.contains("spaces read --space MY_SPACE"), "{created}");

    // The token goes stale between two commands.
    fixture.tenant.rotate_keys();
    let read = cli.run(&["spaces", "read", "--space", "MY_SPACE"]).await;
    assert!(read.contains("MY_SPACE") && read.contains("Mine"), "{read}");
    assert_eq!(fixture.tenant.seen().token_requests, 2);

    let file = cli.file("space.json", &space.replace("Mine", "Yours"));
    cli.run(&["spaces", "update", "--space", "MY_SPACE", "--file-path", &file]).await;
    let read = cli.run(&["spaces", "read", "--space", "MY_SPACE"]).await;
    assert!(read.contains("Yours"), "{read}");
    assert_eq!(fixture.tenant.seen().writes_executed, 2);

    let healed = r#"outcome="healed",reason="unauthorized"}"#;
    let series = format!(r#"bearerd_token_heals_total{{client="technical-user",{healed}"#);
    eventually("healed", async || sidecar.metric(&series).await >= 1.0).await;
}
