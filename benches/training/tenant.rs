//! Reads, writes and uploads through a demo tenant.

use crate::world::{Sidecar, USUAL};
use bearerd::demo::{Tenant, TenantOptions};
use futures_util::future::join_all;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, StatusCode};
use std::fs;
use std::path::Path;
use tokio::process::Command;

const SALES: &str = "/api/v1/datasphere/consumption/relational/DEMO/SALES";
const USERS: &str = "/api/v1/scim2/Users";
const JOBS: &str = "/api/v1/content/jobs";
const SCIM: &str = "application/scim+json";
/// The size of an upload.
const UPLOAD: usize = 256 * 1024;

/// Trains with a tenant of its own: this many callers, each with these rounds.
pub(crate) async fn train(command: Command, http2: bool, callers: u32, rounds: u32) {
    bearerd::http_client::set_up_tls();
    let options = TenantOptions { http2, ..TenantOptions::default() };
    let tenant = Tenant::start(options).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_files(folder.path(), &tenant, http2);
    let sidecar = Sidecar::start(command, folder.path(), USUAL).await;
    let url = format!("http://{}", sidecar.target);
    join_all((0..callers).map(|caller| call(&url, caller, rounds))).await;
    sidecar.end().await;
}

fn write_files(folder: &Path, tenant: &Tenant, http2: bool) {
    let (ca, secret) = (folder.join("ca.pem"), folder.join("secret"));
    fs::write(&ca, tenant.ca_pem()).unwrap();
    fs::write(&secret, tenant.client_secret()).unwrap();
    // The profile is written at the end of the process, which the sandbox would not allow.
    let yaml = format!(
        "listen: 127.0.0.1:0
admin: {{ listen: 127.0.0.1:0 }}
clients:
  c: {{ token_url: '{}', client_id: '{}', client_secret_file: {}, ca_file: {} }}
upstreams:
  u: {{ url: '{}', ca_file: {}, http2: {http2} }}
sandbox: off
",
        tenant.token_url(),
        tenant.client_id(),
        secret.display(),
        ca.display(),
        tenant.url(),
        ca.display(),
    );
    fs::write(folder.join(USUAL), yaml).unwrap();
}

/// One caller: pages of data, users, an upload.
async fn call(url: &str, caller: u32, rounds: u32) {
    let client = Client::new();
    for round in 0..rounds {
        for query in ["?$top=5", "?$top=200", "?$top=50&$skip=10"] {
            let page = client.get(format!("{url}{SALES}/SALES{query}")).send().await.unwrap();
            assert_eq!(page.status(), StatusCode::OK);
            page.bytes().await.unwrap();
        }
        let metadata = client.get(format!("{url}{SALES}/$metadata")).send().await.unwrap();
        assert_eq!(metadata.status(), StatusCode::OK);
        metadata.bytes().await.unwrap();
        let user = format!(r#"{{"userName":"U{caller}_{round}"}}"#);
        let created = client.post(format!("{url}{USERS}")).header(CONTENT_TYPE, SCIM).body(user);
        let created = created.send().await.unwrap();
        assert_eq!(created.status(), StatusCode::CREATED);
        created.bytes().await.unwrap();
        let users = client.get(format!("{url}{USERS}?startIndex=1&count=20")).send().await.unwrap();
        assert_eq!(users.status(), StatusCode::OK);
        users.bytes().await.unwrap();
        let upload = client.post(format!("{url}{JOBS}")).body(vec![b'x'; UPLOAD]).send().await;
        assert!(upload.unwrap().status().is_success());
    }
}
