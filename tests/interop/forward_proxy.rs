//! Debian's forward proxies: tinyproxy, which wants credentials, and mitmproxy, which looks into TLS.

use super::debian_server::Running;
use crate::support::sidecar::Sidecar;
use crate::support::{Fixture, eventually, free_address, http};
use std::net::SocketAddr;
use std::path::Path;

const SALES: &str = "/api/v1/datasphere/consumption/relational/DEMO/SALES/SALES";
const USERS: &str = "/api/v1/scim2/Users";

async fn tinyproxy(folder: &Path) -> Running {
    let address = free_address();
    let config = format!(
        "Port {}\nListen 127.0.0.1\nTimeout 60\nLogLevel Connect\nBasicAuth tool open-sesame\n",
        address.port()
    );
    let file = folder.join("tinyproxy.conf");
    std::fs::write(&file, config).unwrap();
    Running::start(folder, "tinyproxy", &["-d", "-c", file.to_str().unwrap()], address).await
}

/// It trusts the tenant, and signs in its place.
async fn mitmproxy(fixture: &Fixture) -> Running {
    let address = free_address();
    let (folder, port) = (fixture.folder.path(), address.port().to_string());
    let confdir = format!("confdir={}", folder.display());
    let trusted = format!("ssl_verify_upstream_trusted_ca={}", fixture.path("ca.pem").display());
    let arguments = [
        "--listen-host",
        "127.0.0.1",
        "--listen-port",
        &port,
        "--proxyauth",
        "tool:open-sesame",
        "--set",
        &confdir,
        "--set",
        &trusted,
    ];
    Running::start(folder, "mitmdump", &arguments, address).await
}

/// The configuration of a fixture with everything through a proxy, and what that one signs trusted.
fn through(fixture: &Fixture, address: SocketAddr, credentials: &str, ca: &Path) -> String {
    let proxy = format!("proxy: \"http://{credentials}{address}\"");
    let own = fixture.path("ca.pem");
    fixture
        .config(&proxy, "")
        .replace("datasphere: { ", &format!("datasphere: {{ {proxy}, "))
        .replace(own.to_str().unwrap(), ca.to_str().unwrap())
}

/// Reads all pages, writes with a CSRF token and 1 MiB, and looks at what has come.
async fn use_all(fixture: &Fixture, sidecar: &Sidecar) {
    let mut next = Some(format!("{}{SALES}", sidecar.url));
    let mut rows = 0;
    while let Some(url) = next {
        let page: serde_json::Value = http().get(url).send().await.unwrap().json().await.unwrap();
        rows += page["value"].as_array().unwrap().len();
        next = page["@odata.nextLink"].as_str().map(str::to_owned);
    }
    assert_eq!(rows, 2_500);
    let body = format!(r#"{{"userName":"ANNA","about":"{}"}}"#, "x".repeat(1 << 20));
    let create = http().post(format!("{}{USERS}", sidecar.url)).body(body);
    let created = create.header("content-type", "application/json").send().await.unwrap();
    assert_eq!(created.status(), 201);
    let seen = fixture.tenant.seen();
    assert_eq!((seen.writes_executed, seen.csrf_fetches), (1, 1));
}

#[tokio::test]
#[ignore = "needs tinyproxy; make test installs it and runs this"]
async fn everything_works_through_tinyproxy_with_credentials() {
    let fixture = Fixture::start().await;
    let proxy = tinyproxy(fixture.folder.path()).await;
    let config = through(&fixture, proxy.address, "tool:open-sesame@", &fixture.path("ca.pem"));
    let sidecar = Sidecar::ready(&config).await;
    use_all(&fixture, &sidecar).await;
    assert!(proxy.log().contains("CONNECT localhost:"), "{}", proxy.log());
}

#[tokio::test]
#[ignore = "needs tinyproxy; make test installs it and runs this"]
async fn tinyproxy_refuses_wrong_credentials_and_the_caller_learns_it() {
    let fixture = Fixture::start().await;
    let proxy = tinyproxy(fixture.folder.path()).await;
    let config = through(&fixture, proxy.address, "tool:wrong@", &fixture.path("ca.pem"));
    // The issuer is reached without it, and so is ready.
    let upstream_only = config.replacen("    proxy: ", "    # proxy: ", 1);
    let sidecar = Sidecar::ready(&upstream_only).await;
    let answer = sidecar.get(SALES).await;
    assert_eq!(answer.status(), 502);
    let text = answer.text().await.unwrap();
    assert!(text.contains(r#""kind":"upstream_proxy""#) && text.contains("40"), "{text}");
    let unready = Sidecar::start(&config);
    let told = "the forward proxy refused to connect";
    eventually("told", async || unready.probe("/readyz").await.1.contains(told)).await;
}

#[tokio::test]
#[ignore = "needs mitmproxy; make test installs it and runs this"]
async fn everything_works_through_mitmproxy_with_its_authority_trusted_and_nothing_without() {
    let fixture = Fixture::start().await;
    let proxy = mitmproxy(&fixture).await;
    let authority = fixture.path("mitmproxy-ca-cert.pem");
    eventually("its authority", async || authority.exists()).await;
    let config = through(&fixture, proxy.address, "tool:open-sesame@", &authority);
    let sidecar = Sidecar::ready(&config).await;
    use_all(&fixture, &sidecar).await;
    assert!(proxy.log().contains("POST https://localhost:"), "it looks into TLS: {}", proxy.log());

    // Not trusted: the secret and the token stay here.
    let before = fixture.tenant.seen().token_requests;
    let config = through(&fixture, proxy.address, "tool:open-sesame@", &fixture.path("ca.pem"));
    let sidecar = Sidecar::start(&config);
    eventually("told", async || sidecar.probe("/readyz").await.1.contains("ca_file")).await;
    assert_eq!(fixture.tenant.seen().token_requests, before);
}
