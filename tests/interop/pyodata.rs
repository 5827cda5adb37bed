//! OData clients from PyPI: SAP's `pyodata` for V2, and `python-odata` for V4.

use super::cap::{ROWS, SERVICE, start};
use crate::support::Fixture;
use crate::support::process::output;
use crate::support::sidecar::Sidecar;
use bearerd::demo::{CsrfRegime, DemoFaults};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;

/// Runs a script and returns what it printed.
async fn run(script: &str, arguments: &[&str]) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/pyodata");
    let mut command = Command::new(folder.join(".venv/bin/python"));
    command.arg("-I").arg(folder.join(script)).args(arguments);
    let ended = output(command.stdin(Stdio::null()).kill_on_drop(true)).await;
    let complaints = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{script} {arguments:?}: {complaints}");
    serde_json::from_slice(&ended.stdout).unwrap()
}

#[tokio::test]
#[ignore = "needs the packages of tests/interop/cap and pyodata; make test installs them and runs this"]
async fn pyodata_follows_every_link_of_v2_and_writes_where_it_may() {
    let (_fixture, _cap, sidecar) = start().await;
    let ids: Vec<_> = (1..=ROWS).collect();
    for (route, created) in [("", 405), ("/write", 9001)] {
        let service = format!("{}{route}/odata/v2{SERVICE}", sidecar.url);
        let uris: Vec<_> = ids.iter().map(|id| format!("{service}/Sales({id})")).collect();
        let seen = run("client.py", &[&service]).await;
        assert_eq!(seen["properties"], json!(["ID", "Region", "Product", "Amount", "Day"]));
        assert_eq!(seen["count"], ROWS);
        assert_eq!(seen["ids"], json!(ids));
        assert_eq!(seen["pages"], 7);
        assert_eq!(seen["uris"], json!(uris));
        assert_eq!(seen["by_uri"], ROWS);
        assert_eq!(seen["by_key"], "Bolt");
        assert_eq!(seen["of_region"], 500);
        assert_eq!(seen["created"], created, "a new key, or the status of the refusal");
    }
}

#[tokio::test]
#[ignore = "needs the Python packages of tests/interop/pyodata; make test installs them and runs this"]
async fn python_jars_keep_a_session_over_plain_http() {
    for csrf in [CsrfRegime::Stateless, CsrfRegime::Session] {
        let fixture = Fixture::start().await;
        fixture.tenant.set_faults(DemoFaults { csrf, ..DemoFaults::default() });
        let sidecar = Sidecar::ready(&fixture.configuration()).await;
        assert_eq!(run("jar.py", &[&sidecar.url]).await, json!({"requests": 201, "urllib": 201}));
        let seen = fixture.tenant.seen();
        assert_eq!((seen.csrf_fetches, seen.csrf_refused), (2, 0), "the clients' own");
    }
}

#[tokio::test]
#[ignore = "needs the Python packages of tests/interop/pyodata; make test installs them and runs this"]
async fn python_odata_reads_to_the_last_row_by_absolute_next_links() {
    let fixture = Fixture::start().await;
    let sidecar = Sidecar::ready(&fixture.configuration()).await;
    let service = format!("{}/api/v1/datasphere/consumption/relational/DEMO/SALES", sidecar.url);
    let seen = run("client_v4.py", &[&service, "SALES"]).await;
    assert_eq!(seen["ids"], json!((1..=2500).collect::<Vec<_>>()));
    let urls = seen["urls"].as_array().unwrap();
    assert_eq!(urls.len(), 6, "the metadata and five pages");
    assert!(urls.iter().all(|url| url.as_str().unwrap().starts_with(&sidecar.url)));
}
