//! Tools with the tenant's address built in: the tenant's name leads to the sidecar, which finds
//! the tenant all the same.

use crate::support::issuer;
use crate::support::network::Network;
use crate::support::process::{Process, output};
use crate::support::tls::{Authority, answer_all, made_in, make_certificate};
use rcgen::SanType;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;

const NAME: &str = "proxy::tenant_name::a_tool_that_knows_only_the_tenants_url_works_unchanged";
const TENANT: &str = "acme.hcs.example";

/// A tenant with this name at 127.0.0.2:443, whose certificate this authority has signed.
async fn tenant(authority: &Authority) -> Arc<AtomicUsize> {
    let name = SanType::DnsName(TENANT.try_into().unwrap());
    let config = authority.server_of(rustls::ALL_VERSIONS, None, |params| {
        params.subject_alt_names = vec![name];
    });
    let (acceptor, requests) = (TlsAcceptor::from(Arc::new(config)), Arc::new(AtomicUsize::new(0)));
    let listener = TcpListener::bind("127.0.0.2:443").await.unwrap();
    let counted = requests.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, counted) = (acceptor.clone(), counted.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    answer_all(stream, &counted).await;
                }
            });
        }
    });
    requests
}

async fn curl(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail-with-body", "--cacert"]);
    command.arg(folder.join("tls/ca.pem")).args(arguments);
    let ended = output(&mut command).await;
    let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
    (ended.status.success(), said)
}

#[tokio::test]
async fn a_tool_that_knows_only_the_tenants_url_works_unchanged() {
    let Some(network) = Network::for_test(NAME).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    network.name(folder, &format!("127.0.0.1 localhost {TENANT}\n")).await;
    let authority = Authority::new();
    let requests = tenant(&authority).await;
    let issuer = issuer::steady().await;
    let url = format!("https://{TENANT}");
    let config = |connect_to: &str| {
        let config = issuer.configuration(&url).upstream("ca_file", authority.write_pem(folder));
        let config = match connect_to {
            "" => config,
            connect_to => config.upstream("connect_to", connect_to),
        };
        let tls = made_in(&folder.join("tls"));
        config
            .key("listen", format!("{{ address: 127.0.0.1:443, tls: {tls} }}"))
            .key("access", format!("{{ hosts: [{TENANT}] }}"))
            .to_string()
    };
    let write = |connect_to: &str| {
        std::fs::write(folder.join("bearerd.yaml"), config(connect_to)).unwrap();
    };
    write("[no-such-host.invalid, 127.0.0.2]");
    make_certificate(&folder.join("bearerd.yaml"), &folder.join("tls")).await;

    let process = Process::start_with_file(folder, &folder.join("bearerd.yaml")).await;
    process.wait_until_ready().await;
    let (is_fine, said) = curl(folder, &[&format!("{url}/free/x")]).await;
    assert!(is_fine, "{said}");
    let (is_fine, said) =
        curl(folder, &["--request", "PUT", "--data", "x", &format!("{url}/free/x")]).await;
    assert!(is_fine, "{said}");
    assert_eq!(requests.load(std::sync::atomic::Ordering::SeqCst), 2);
    let page = format!("Origin: {url}");
    let (is_fine, said) = curl(folder, &["--header", &page, &format!("{url}/free/x")]).await;
    assert!(!is_fine && said.contains("a web page of the tenant"), "{said}");

    // Without `connect_to`, the name leads back here.
    write("");
    process.logged("The new configuration is in force").await;
    let (is_fine, said) = curl(folder, &[&format!("{url}/free/x")]).await;
    assert!(!is_fine && said.contains("which is this sidecar itself; set `connect_to`"), "{said}");
}
