//! Mistakes of callers: the tool's address, its protocol, its path.

use super::{Comparison, World};
use crate::support::process::Process;
use crate::support::raw_client::exchange;
use crate::support::sidecar::Sidecar;

/// Requests, and the status and the detail of their answers.
const CALLS: [(&str, &str, &str); 9] = [
    (
        "path of another API",
        "GET /api/v1/scim2/Users HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "404 this sidecar has no route for this path; its routes are /api/v1/datasphere/consumption; correct the path in the tool, or add a route",
    ),
    (
        "write to OData",
        "POST /api/v1/datasphere/consumption/relational/A/B/B HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
        "405 profile odata allows POST only on …/$batch and …/$query; this path allows GET, HEAD (allow: GET, HEAD)",
    ),
    (
        "delete in OData",
        "DELETE /api/v1/datasphere/consumption/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "405 profile odata allows GET, HEAD on this path; another profile can allow more (allow: GET, HEAD)",
    ),
    (
        "sidecar as a proxy",
        "GET http://acme.eu10.hcs.cloud.sap/api HTTP/1.1\r\nHost: acme.eu10.hcs.cloud.sap\r\n\r\n",
        "400 the request target must be a path that begins with `/`; point the tool at this address as its server, not as its proxy",
    ),
    (
        "sidecar as a proxy for https",
        "CONNECT acme.eu10.hcs.cloud.sap:443 HTTP/1.1\r\nHost: acme.eu10.hcs.cloud.sap:443\r\n\r\n",
        "405 CONNECT is for forward proxies, and the sidecar is not one; use its address in place of the upstream's, not as a proxy (allow: GET, HEAD, POST, PUT, PATCH, DELETE)",
    ),
    (
        "https:// to the sidecar",
        "\x16\x03\x01\x00\x05hello",
        "400 the caller spoke TLS, and this port has none; write http:// in the tool's URL",
    ),
    (
        "page typed into a browser",
        "GET /api/v1/datasphere/consumption HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\n\r\n",
        "403 this request came from a web page of another site, or from an address typed into a browser; the sidecar refuses both; use a tool like curl (the status page is at `admin.listen`, by default http://127.0.0.1:8081)",
    ),
    (
        "another name of this machine",
        "GET /api/v1/datasphere/consumption HTTP/1.1\r\nHost: sidecar.example\r\n\r\n",
        "421 the host name `sidecar.example` is not in `access.hosts`; use a name from that list, or add this one",
    ),
    (
        "not HTTP",
        "hello\r\n\r\n",
        "400 the request is not valid HTTP/1.1; check that the tool speaks HTTP to this port, and what it sends (RFC 9112)",
    ),
];

#[tokio::test]
async fn a_local_credential_that_is_missing_is_not_called_wrong() {
    let world = World::start().await;
    let key = world.write("key", "0123456789abcdef");
    let yaml = format!("{}access: {{ api_key_file: {key} }}\n", world.good());
    let sidecar = Sidecar::ready(&yaml).await;
    let mut comparison = Comparison::default();
    for (mistake, header, expected) in [
        (
            "no key",
            "",
            "403 the request has no local credential; send an API key in X-Api-Key, as `access` in bearerd's configuration sets it (it is not SAP's)",
        ),
        (
            "wrong key",
            "X-Api-Key: fedcba9876543210\r\n",
            "403 the request has a wrong local credential; send an API key in X-Api-Key, as `access` in bearerd's configuration sets it (it is not SAP's)",
        ),
    ] {
        let request = format!(
            "GET /api/v1/scim2/Users HTTP/1.1\r\nHost: localhost\r\n{header}Connection: close\r\n\r\n"
        );
        let answer = exchange(sidecar.host(), &request).await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        let message = format!("{} {}", problem["status"], problem["detail"].as_str().unwrap());
        comparison.compare(mistake, expected, &message);
    }
    comparison.end();
}

#[tokio::test]
async fn each_mistake_of_a_caller_has_its_answer() {
    let world = World::start().await;
    let yaml = format!(
        "{}routes:\n  - {{ path: /api/v1/datasphere/consumption, profile: odata, methods: [GET, HEAD, POST] }}\n",
        world.good()
    );
    let sidecar = Process::start(world.fixture.folder.path(), &yaml).await;
    sidecar.wait_until_ready().await;
    let mut comparison = Comparison::default();
    for (mistake, request, expected) in CALLS {
        let answer =
            exchange(sidecar.host(), &request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"))
                .await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        let allow = head.lines().find(|line| line.to_ascii_lowercase().starts_with("allow:"));
        let allow = allow.map_or_else(String::new, |allow| format!(" ({allow})"));
        let status = head.split(' ').nth(1).unwrap();
        let detail = problem["detail"].as_str().unwrap();
        comparison.compare(mistake, expected, &world.named(&format!("{status} {detail}{allow}")));
    }
    comparison.end();
    sidecar
        .logged("A caller spoke TLS to a port without TLS; use http:// in the tool's URL.")
        .await;
    let (_, status) = sidecar.probe("/status").await;
    assert!(status.contains("tls_not_offered"), "{status}");
    let (code, paths) = sidecar.probe("/ready").await;
    assert!(code == 404 && paths.contains("/readyz"), "{paths}");
    assert_eq!(sidecar.probe("/healthz").await, (200, "live\n".to_owned()));
}
