//! Every block of docs/tools.md, run as it stands there, against a sidecar before the demo tenant.

use crate::support::process::{output, starting};
use crate::support::sidecar::Sidecar;
use crate::support::tls::{made_in, make_certificate};
use crate::support::{Fixture, folder_of};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::process::Command;

const PAGE: &str = include_str!("../../docs/tools.md");

/// A block of the page.
struct Block<'a> {
    language: &'a str,
    text: String,
    /// Whether the text of its section says that it is not run.
    is_not_run: bool,
}

/// The blocks of a page, with the demo tenant's space and view.
fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    for section in page.split("\n## ").flat_map(|chapter| chapter.split("\n### ")) {
        let mut parts = section.split("```");
        let before = parts.next().unwrap();
        for part in parts.step_by(2) {
            let (language, text) = part.split_once('\n').unwrap();
            let text = text.replace("VIEW/VIEW", "SALES/SALES").replace("SPACE", "DEMO");
            let is_not_run = before.contains("*Not run here.*");
            blocks.push(Block { language, text, is_not_run });
        }
    }
    blocks
}

fn tests(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(path)
}

/// A folder with what the commands of the page name.
fn workplace(fixture: &Fixture) -> TempDir {
    let read = "curl --fail --silent --show-error \"$BEARERD_URL/api/v1/scim2/Users\"\n";
    let folder = folder_of(&[
        ("bearerd.yaml", &fixture.configuration().to_string()),
        ("nightly-export.sh", &format!("#!/bin/sh\nexec {read}")),
        (
            "sync_users.py",
            "import os, urllib.request\nurllib.request.urlopen(os.environ['API'] + '/Users').read()\n",
        ),
    ]);
    let script = folder.path().join("nightly-export.sh");
    std::fs::set_permissions(script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    folder
}

/// The command that runs a block, as its language wants it.
fn command(block: &Block<'_>, folder: &Path) -> Command {
    let python = tests("tools/.venv/bin/python");
    let mut command = match block.language {
        "sh" => {
            let mut shell = starting("sh");
            shell.args(["-e", "-u", "-c", &block.text]);
            shell
        }
        // Minute, hour, day, month and weekday, then the command.
        "crontab" => {
            let line = block.text.split(' ').skip(5).collect::<Vec<_>>().join(" ");
            let mut shell = starting("sh");
            shell.args(["-c", &line]);
            shell
        }
        "python" => {
            let mut interpreter = starting(python.to_str().unwrap());
            interpreter.args(["-I", "-c", &block.text]);
            interpreter
        }
        "sql" => {
            let script = "import sys, duckdb, duckdb_extensions\n\
                          duckdb_extensions.import_extension('httpfs')\n\
                          assert duckdb.sql(sys.argv[1]).fetchall()\n";
            let mut interpreter = starting(python.to_str().unwrap());
            interpreter.args(["-I", "-c", script, &block.text]);
            interpreter
        }
        "java" => {
            std::fs::write(folder.join("Read.java"), &block.text).unwrap();
            let mut java = starting("java");
            java.arg("Read.java");
            java
        }
        other => panic!("nothing runs a block of {other}"),
    };
    let binary = Path::new(env!("CARGO_BIN_EXE_bearerd")).parent().unwrap().to_owned();
    let path = std::env::join_paths([
        binary,
        tests("cli/node_modules/.bin"),
        "/usr/local/bin".into(),
        "/usr/bin".into(),
        "/bin".into(),
    ]);
    command.env("PATH", path.unwrap()).env("HOME", folder).current_dir(folder);
    // dlt would report its use to its makers, and root's pipelines would stay in a folder of the
    // system.
    command.env("RUNTIME__DLTHUB_TELEMETRY", "false").env("DLT_DATA_DIR", folder.join("dlt"));
    command
}

#[tokio::test]
#[ignore = "needs the packages of tests/interop/tools and cli, and Java; make test installs them and runs this"]
async fn every_block_of_the_page_of_tools_works() {
    let fixture = Fixture::start().await;
    let folder = workplace(&fixture);
    let config = fixture.configuration().to_string();
    std::fs::write(folder.path().join("cert.yaml"), config).unwrap();
    make_certificate(&folder.path().join("cert.yaml"), folder.path()).await;
    let tls = made_in(folder.path());
    let listen = format!("[127.0.0.1:0, {{ address: 127.0.0.1:0, tls: {tls} }}]");
    let sidecar = Sidecar::ready(&fixture.configuration().key("listen", listen)).await;
    let over_tls = sidecar.urls[1].replace("http://127.0.0.1", "https://localhost");
    let mut run = 0;
    for block in blocks(PAGE).iter().filter(|block| !block.is_not_run) {
        let text = block.text.replace("http://127.0.0.1:8080", &sidecar.url);
        let text = text.replace("https://localhost:8443", &over_tls);
        let is_setting = text.starts_with("export ");
        let before = fixture.tenant.seen().tenant_requests;
        let block = Block { text, ..*block };
        let ended = output(&mut command(&block, folder.path())).await;
        let complaint = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{}\n{complaint}", block.text);
        let requests = fixture.tenant.seen().tenant_requests - before;
        assert!(is_setting || requests > 0, "it asked the tenant nothing: {}", block.text);
        run += 1;
    }
    assert_eq!(run, 13, "blocks that were run");
}
