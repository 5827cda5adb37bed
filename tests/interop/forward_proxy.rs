//! Debian's forward proxies: tinyproxy, with credentials, and mitmproxy, which intercepts TLS.

use super::debian_server::Running;
use crate::support::configuration::Configuration;
use crate::support::sidecar::Sidecar;
use crate::support::{Fixture, USERS, eventually, free_address, http};
use std::net::SocketAddr;
use std::path::Path;

const SALES: &str = "/api/v1/datasphere/consumption/relational/DEMO/SALES/SALES";

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

/// Starts a mitmproxy that trusts the tenant and signs certificates in its place.
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

/// The configuration of a fixture with a proxy for everything and with these trust anchors.
fn through(fixture: &Fixture, address: SocketAddr, credentials: &str, ca: &Path) -> Configuration {
    let proxy = format!("\"http://{credentials}{address}\"");
    fixture
        .configuration()
        .client("proxy", &proxy)
        .client("ca_file", ca.display())
        .upstream("proxy", proxy)
        .upstream("ca_file", ca.display())
}

/// Reads all pages, writes 1 MiB with a CSRF token, and checks what the tenant received.
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
async fn tinyproxys_refusal_of_wrong_credentials_is_reported_to_the_caller() {
    let fixture = Fixture::start().await;
    let proxy = tinyproxy(fixture.folder.path()).await;
    let config = through(&fixture, proxy.address, "tool:wrong@", &fixture.path("ca.pem"));
    // The issuer is reached without the proxy, so the sidecar gets ready.
    let upstream_only = config.clone().without_client_keys(&["proxy"]);
    let sidecar = Sidecar::ready(&upstream_only).await;
    let answer = sidecar.get(SALES).await;
    assert_eq!(answer.status(), 502);
    let text = answer.text().await.unwrap();
    assert!(text.contains(r#""kind":"upstream_proxy""#) && text.contains("40"), "{text}");
    let unready = Sidecar::start(&config);
    let reason = "the forward proxy refused to connect";
    eventually("reported", async || unready.probe("/readyz").await.1.contains(reason)).await;
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
    assert!(proxy.log().contains("POST https://localhost:"), "it intercepts TLS: {}", proxy.log());

    // Without trust in it, the secret and the token are not sent.
    let before = fixture.tenant.seen().token_requests;
    let config = through(&fixture, proxy.address, "tool:open-sesame@", &fixture.path("ca.pem"));
    let sidecar = Sidecar::start(&config);
    eventually("reported", async || sidecar.probe("/readyz").await.1.contains("ca_file")).await;
    assert_eq!(fixture.tenant.seen().token_requests, before);
}
