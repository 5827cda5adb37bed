//! Verified TLS or nothing: towards the upstream and towards the issuer.

use crate::support::process::Process;
use crate::support::sidecar::Sidecar;
use crate::support::{Fixture, eventually, http};
use bearerd::demo::TenantOptions;

const SALES: &str = "/api/v1/datasphere/consumption/relational/DEMO/SALES/SALES?$top=1";

/// What the sidecar answers with its upstream changed like this; and that nothing arrived there.
async fn refused(change: impl Fn(&Fixture, String) -> String) -> String {
    refused_by(&Fixture::start().await, change).await
}

async fn refused_by(fixture: &Fixture, change: impl Fn(&Fixture, String) -> String) -> String {
    let upstream =
        format!("url: {}, ca_file: {}", fixture.tenant.url(), fixture.path("ca.pem").display());
    let config = fixture.config("", "");
    assert!(config.contains(&upstream));
    let changed = config.replace(&upstream, &change(fixture, upstream.clone()));
    let sidecar = Sidecar::ready(&changed).await;
    let answer = sidecar.get(SALES).await;
    assert_eq!(answer.status(), 502);
    let text = answer.text().await.unwrap();
    assert!(text.contains(r#""kind":"upstream_tls""#), "{text}");
    assert_eq!(fixture.tenant.seen().tenant_requests, 0);
    text
}

#[tokio::test]
async fn an_unknown_authority_is_refused_and_the_way_out_is_told() {
    let text = refused(|fixture, _| format!("url: {}", fixture.tenant.url())).await;
    assert!(text.contains("UnknownIssuer") && text.contains("ca_file"), "{text}");
}

#[tokio::test]
async fn a_certificate_of_another_name_is_refused() {
    // The demo tenant's certificate names localhost, 127.0.0.1 and ::1; it listens elsewhere here.
    let tenant = TenantOptions { tenant: ([127, 0, 0, 2], 0).into(), ..TenantOptions::default() };
    let fixture = Fixture::start_with(tenant).await;
    let text = refused_by(&fixture, |_, upstream| upstream.replace("localhost", "127.0.0.2")).await;
    assert!(text.contains("certificate not valid for name"), "{text}");
}

#[tokio::test]
async fn another_tenants_authority_is_refused() {
    let other = Fixture::start().await;
    let anchors = other.path("ca.pem").display().to_string();
    refused(|fixture, upstream| {
        upstream.replace(fixture.path("ca.pem").to_str().unwrap(), &anchors)
    })
    .await;
}

#[tokio::test]
async fn the_systems_authorities_stay_trusted_beside_a_private_one() {
    let (fixture, other) = (Fixture::start().await, Fixture::start().await);
    let (ours, private) = (fixture.path("ca.pem"), other.path("ca.pem"));
    let (ours, private) = (ours.to_str().unwrap(), private.to_str().unwrap());
    // The tenant's authority is the system's here, and the file names somebody else's.
    let config = fixture.config("", "").replace(ours, private);
    let folder = tempfile::tempdir().unwrap();
    let environment = [("SSL_CERT_FILE", ours)];
    let mut process = Process::start_in(folder.path(), &config, &environment).await;
    for _ in 0..2 {
        let answer = http().get(format!("{}{SALES}", process.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", process.log());
    }
    process.signal("TERM").await;
    assert_eq!(process.exit_code().await, Some(0));
}

#[tokio::test]
async fn two_upstreams_at_one_address_do_not_share_their_trust() {
    let fixture = Fixture::start().await;
    let (url, ca) = (fixture.tenant.url(), fixture.path("ca.pem"));
    let upstreams = format!(
        "upstreams:\n  trusting: {{ url: {url}, ca_file: {} }}\n  strict: {{ url: {url} }}\nroutes:\n  \
         - {{ path: /api/v1/scim2, profile: scim, upstream: trusting }}\n  \
         - {{ path: /api/v1/scim, profile: scim, upstream: strict }}\n",
        ca.display()
    );
    let config = fixture.config("", "");
    let config = config.split("upstreams:").next().unwrap().to_owned() + &upstreams;
    let sidecar = Sidecar::ready(&config).await;
    for _ in 0..3 {
        assert_eq!(sidecar.get("/api/v1/scim2/Users").await.status(), 200);
        assert_eq!(sidecar.get("/api/v1/scim/Users").await.status(), 502);
    }
}

#[tokio::test]
async fn a_token_endpoint_that_is_not_trusted_gets_no_secret() {
    let fixture = Fixture::start().await;
    let config = fixture.config("", "").replacen(
        &format!("    ca_file: {}\n", fixture.path("ca.pem").display()),
        "",
        1,
    );
    let sidecar = Sidecar::start(&config);
    eventually("told", async || {
        sidecar.probe("/readyz").await.1.contains("cannot reach the token endpoint")
    })
    .await;
    assert_eq!(fixture.tenant.seen().token_requests, 0);
}
