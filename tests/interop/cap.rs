//! SAP's CAP server, which verifies every token with SAP's `@sap/xssec`.

use crate::support::sidecar::Sidecar;
use crate::support::{DEADLINE, Fixture, http};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

pub(super) const SERVICE: &str = "/api/v1/datasphere/consumption/relational/DEMO/SALES";
pub(super) const ROWS: usize = 2500;

pub(super) struct Cap {
    /// The server ends when its standard input is closed on drop.
    _server: Child,
    pub(super) url: String,
}

impl Cap {
    async fn start(fixture: &Fixture, switches: &[&str]) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/cap");
        let (certificate, key) = fixture.tenant.issue_certificate("localhost").unwrap();
        std::fs::write(fixture.path("cap.crt"), certificate).unwrap();
        std::fs::write(fixture.path("cap.key"), key).unwrap();
        let mut server = Command::new("node")
            .arg("server.js")
            .current_dir(folder)
            .env("PORT", "0")
            .env("TLS_CERT_FILE", fixture.path("cap.crt"))
            .env("TLS_KEY_FILE", fixture.path("cap.key"))
            .env("UAA_DOMAIN", format!("localhost:{}", fixture.tenant.issuer_addr().port()))
            .env("XSAPPNAME", "dmi-api-proxy-demo!t1")
            .env("UAA_CLIENT_ID", "sb-dmi-api-proxy-demo!t1")
            .env("UAA_CLIENT_SECRET", "unused: tokens are verified by their signature")
            .env("NODE_EXTRA_CA_CERTS", fixture.path("ca.pem"))
            .envs(switches.iter().map(|switch| (switch, "on")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let line = timeout(DEADLINE, lines.next_line()).await.expect("CAP starts in time").unwrap();
        let port = line.as_deref().and_then(|line| line.strip_prefix("LISTENING "));
        let port = port.expect("CAP starts; are its packages installed (make interop-packages)?");
        Self { url: format!("https://localhost:{port}"), _server: server }
    }
}

/// CAP without switches, behind a sidecar.
pub(super) async fn start() -> (Fixture, Cap, Sidecar) {
    start_with(&[]).await
}

/// CAP with these switches of its README, behind a sidecar.
async fn start_with(switches: &[&str]) -> (Fixture, Cap, Sidecar) {
    let fixture = Fixture::start().await;
    let cap = Cap::start(&fixture, switches).await;
    let config = fixture
        .configuration()
        .upstream("url", &cap.url)
        .route("/api/v1/datasphere/consumption", "profile", "odata")
        .route("/odata/v2", "profile", "odata")
        .route("/write", "profile", "rest")
        .route("/write", "strip_path", true)
        .route("/free", "profile", "passthrough")
        .route("/free", "strip_path", true);
    let sidecar = Sidecar::ready(&config).await;
    (fixture, cap, sidecar)
}

/// A batch in both forms, with a change set that creates a row, and more requests behind it.
fn creation(id: u32, filler: &str, behind: &str) -> [(&'static str, String); 2] {
    let row =
        json!({"ID": id, "Region": "EMEA", "Product": "Tea", "Amount": 7.5, "Day": "2024-01-01"});
    // A long filter makes the batch too long to be held.
    let read = format!("Sales?$top=1&$filter=Product%20ne%20'{filler}'");
    let reads = |target: &str| {
        format!("--b\r\nContent-Type: application/http\r\n\r\nGET {target} HTTP/1.1\r\n\r\n\r\n")
    };
    let part = format!(
        "--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\nContent-Type: application/http\r\nContent-ID: 1\r\n\r\nPOST Sales HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{row}\r\n--c--\r\n"
    );
    let multipart = format!("{part}{}{behind}--b--\r\n", reads(&read).repeat(4));
    let mut requests = vec![
        json!({"id": "1", "atomicityGroup": "g", "method": "POST", "url": "Sales", "headers": {"content-type": "application/json"}, "body": row}),
    ];
    requests.extend((2..6).map(|id| json!({"id": id.to_string(), "method": "GET", "url": read})));
    if !behind.is_empty() {
        requests.push(json!({"id": "9", "method": "GET", "url": "https://elsewhere.example/x"}));
    }
    let requests = json!({ "requests": requests }).to_string();
    [("multipart/mixed; boundary=b", multipart), ("application/json", requests)]
}

/// The whole change set is at the upstream when a later request is refused.
#[tokio::test]
#[ignore = "needs the Node packages of tests/interop/cap; make test installs them and runs this"]
async fn cap_executes_no_change_set_of_a_batch_that_was_cut() {
    let (_fixture, _cap, sidecar) = start().await;
    let url = format!("{}/free{SERVICE}/$batch", sidecar.url);
    let send = async |kind: &str, body: String| {
        let request = http().post(&url).header("content-type", kind).body(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let has = async |id: u32| sidecar.get(&format!("{SERVICE}/Sales({id})")).await.status() == 200;
    let filler = "x".repeat(30_000);
    let evil = "--b\r\nContent-Type: application/http\r\n\r\nGET https://elsewhere.example/x HTTP/1.1\r\n\r\n\r\n";
    for (index, (kind, body)) in creation(9101, &filler, evil).into_iter().enumerate() {
        assert!(body.len() > 100_000, "it streams");
        assert_eq!(send(kind, body).await.0, 403, "{kind}");
        let [multipart, json] = creation(9201 + u32::try_from(index).unwrap(), "short", "");
        let (kind, body) = if index == 0 { multipart } else { json };
        let (status, answer) = send(kind, body).await;
        assert_eq!(status, 200, "a whole one is answered behind it: {answer}");
        assert!(has(9201 + u32::try_from(index).unwrap()).await, "and executed: {kind}");
        assert!(!has(9101).await, "the cut one is not: {kind}");
    }
}

async fn json(answer: reqwest::Response) -> Value {
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

#[tokio::test]
#[ignore = "needs the Node packages of tests/interop/cap; make test installs them and runs this"]
async fn cap_accepts_requests_through_the_sidecar_and_no_others() {
    let (fixture, cap, sidecar) = start().await;

    let anchor = reqwest::Certificate::from_pem(fixture.tenant.ca_pem().as_bytes()).unwrap();
    let direct = reqwest::Client::builder().tls_certs_only([anchor]).build().unwrap();
    for path in ["", "/$metadata", "/Sales"] {
        let refused = direct.get(format!("{}{SERVICE}{path}", cap.url)).send().await.unwrap();
        assert_eq!(refused.status(), 401, "without bearerd: {path}");
    }

    let service = json(sidecar.get(SERVICE).await).await;
    assert_eq!(service["value"][0]["name"], "Sales");
    let metadata = sidecar.get(&format!("{SERVICE}/$metadata")).await;
    assert_eq!(metadata.status(), 200);
    assert!(metadata.text().await.unwrap().contains("<EntityType Name=\"Sales\""));
}

#[tokio::test]
#[ignore = "needs the Node packages of tests/interop/cap; make test installs them and runs this"]
async fn every_row_of_cap_arrives_once_by_its_own_next_links() {
    let (_fixture, _cap, sidecar) = start().await;
    let (mut ids, mut count, mut pages) = (BTreeSet::new(), 0, 0);
    let mut next = Some("Sales".to_owned());
    while let Some(link) = next {
        let page = json(sidecar.get(&format!("{SERVICE}/{link}")).await).await;
        for row in page["value"].as_array().unwrap() {
            ids.insert(row["ID"].as_i64().unwrap());
            count += 1;
        }
        pages += 1;
        next = page["@odata.nextLink"].as_str().map(str::to_owned);
    }
    assert_eq!((ids.len(), count), (ROWS, ROWS));
    assert!(pages > 1, "the server pages");
}

#[tokio::test]
#[ignore = "needs the Node packages of tests/interop/cap; make test installs them and runs this"]
async fn cap_takes_a_batch_and_a_write() {
    let (_fixture, _cap, sidecar) = start().await;
    let url = format!("{}{SERVICE}/$batch", sidecar.url);
    let requests = json!({"requests": [
        {"id": "1", "method": "GET", "url": "Sales(1)"},
        {"id": "2", "method": "GET", "url": "Sales?$top=2"},
    ]});
    let batch = json(http().post(&url).json(&requests).send().await.unwrap()).await;
    let statuses: Vec<_> =
        batch["responses"].as_array().unwrap().iter().map(|part| &part["status"]).collect();
    assert_eq!(statuses, [200, 200]);

    let part = "--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\nGET Sales(1) HTTP/1.1\r\n\r\n\r\n";
    let multipart = format!("{part}{part}--b--\r\n");
    let request =
        http().post(&url).header("content-type", "multipart/mixed; boundary=b").body(multipart);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.unwrap().matches("HTTP/1.1 200").count(), 2);

    let row =
        json!({"ID": 9001, "Region": "EMEA", "Product": "Tea", "Amount": 7.5, "Day": "2024-01-01"});
    let post = async |path: &str| {
        http().post(format!("{}{path}", sidecar.url)).json(&row).send().await.unwrap().status()
    };
    assert_eq!(post(&format!("{SERVICE}/Sales")).await, 405, "profile odata reads");
    assert_eq!(post(&format!("/free{SERVICE}/Sales")).await, 201, "profile passthrough writes");
    assert_eq!(sidecar.get(&format!("{SERVICE}/Sales(9001)")).await.status(), 200);
}

#[tokio::test]
#[ignore = "needs the Node packages of tests/interop/cap; make test installs them and runs this"]
async fn a_caller_that_follows_caps_absolute_contexts_stays_inside() {
    let (_fixture, cap, sidecar) = start_with(&["ABSOLUTE_CONTEXT", "COMPRESS"]).await;
    let context = |origin: &str| format!("{origin}{SERVICE}/$metadata#Sales");

    // CAP's own context, on a route without rewriting.
    let sales = format!("{SERVICE}/Sales");
    let page = json(sidecar.get(&format!("/free{sales}")).await).await;
    assert_eq!(page["@odata.context"], context(&cap.url));
    let request = http().get(format!("{}/free{sales}", sidecar.url));
    let answer = request.header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(answer.headers()["content-encoding"], "gzip");

    let page = json(sidecar.get(&sales).await).await;
    assert_eq!(page["@odata.context"], context(&sidecar.url));
    let followed = http().get(context(&sidecar.url)).send().await.unwrap();
    assert_eq!(followed.status(), 200);
    assert!(followed.text().await.unwrap().contains("<EntityType Name=\"Sales\""));

    let requests = json!({"requests": [{"id": "1", "method": "GET", "url": "Sales?$top=1"}]});
    let batch = http().post(format!("{}{SERVICE}/$batch", sidecar.url)).json(&requests);
    let batch = json(batch.send().await.unwrap()).await;
    assert_eq!(batch["responses"][0]["body"]["@odata.context"], context(&sidecar.url));
}

#[tokio::test]
#[ignore = "needs the Node packages of tests/interop/cap; make test installs them and runs this"]
async fn an_atom_feed_of_cap_names_the_sidecar_and_not_cap() {
    let (_fixture, cap, sidecar) = start_with(&["COMPRESS"]).await;
    let atom = async |url: String| {
        let answer = http().get(url).header("accept", "application/atom+xml").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.text().await.unwrap()
    };
    let service = format!("{}/odata/v2{SERVICE}/", sidecar.url);
    let feed = atom(format!("{service}Sales")).await;
    assert!(feed.contains("<feed") && !feed.contains(&cap.url));
    assert!(feed.contains(&format!("xml:base=\"{service}\"")));
    let row = format!("{service}Sales(400)");
    assert!(feed.contains(&format!("<id>{row}</id>")));
    assert!(feed.contains(&format!("href=\"{row}\"")));
    assert!(atom(row.clone()).await.contains(&format!("<id>{row}</id>")));
}
