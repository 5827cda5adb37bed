//! Start and end of the tenant.

use super::setup::Demo;
use bearerd::demo::{DemoError, Tenant, TenantOptions};
use std::net::{SocketAddr, TcpListener};

#[tokio::test]
async fn the_error_names_an_address_that_is_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = taken.local_addr().unwrap();
    let error = Tenant::start(TenantOptions { control: address, ..TenantOptions::default() })
        .await
        .unwrap_err();
    assert!(matches!(error, DemoError::Bind { address: named, .. } if named == address));
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn a_stopped_tenant_frees_its_addresses() {
    let demo = Demo::start().await;
    demo.ask().await;
    let tenant = &demo.tenant;
    let addresses = [
        tenant.issuer_addr(),
        tenant.cert_issuer_addr(),
        tenant.tenant_addr(),
        tenant.control_addr(),
    ];
    demo.tenant.stop().await;
    for address in addresses {
        TcpListener::bind(address).unwrap();
    }
}

#[tokio::test]
async fn the_certificate_authority_issues_certificates_for_other_servers() {
    let demo = Demo::start().await;
    let (chain, key) = demo.tenant.issue_certificate("127.0.0.1").unwrap();
    let tls = axum_server::tls_rustls::RustlsConfig::from_pem(chain.into_bytes(), key.into_bytes())
        .await
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let other = axum::Router::new().fallback(async || "other");
    let server =
        axum_server::from_tcp_rustls(listener, tls).unwrap().serve(other.into_make_service());
    tokio::spawn(server);
    assert_eq!(demo.http.get(url).send().await.unwrap().text().await.unwrap(), "other");
    assert!(matches!(
        demo.tenant.issue_certificate("not\u{e4}name"),
        Err(DemoError::Certificate { .. })
    ));
}
