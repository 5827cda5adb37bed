//! Verification of TLS towards upstreams and issuers.

use crate::support::configuration::Configuration;
use crate::support::issuer;
use crate::support::process::{Process, bearerd, output, written};
use crate::support::scene::unchanged;
use crate::support::sidecar::Sidecar;
use crate::support::tls::{Authority, TlsUpstream};
use crate::support::upstream::Peer;
use crate::support::{Fixture, SALES, eventually, http};
use bearerd::demo::TenantOptions;
use rustls::version::{TLS12, TLS13};
use std::path::Path;
use tempfile::TempDir;

/// The answer of a sidecar with a changed configuration, after a check that the tenant got no
/// request.
async fn refused(fixture: &Fixture, change: impl FnOnce(Configuration) -> Configuration) -> String {
    let sidecar = Sidecar::ready(&change(fixture.configuration())).await;
    let answer = sidecar.get(SALES).await;
    assert_eq!(answer.status(), 502);
    let text = answer.text().await.unwrap();
    assert!(text.contains(r#""kind":"upstream_tls""#), "{text}");
    assert_eq!(fixture.tenant.seen().tenant_requests, 0);
    text
}

#[tokio::test]
async fn an_unknown_authority_is_refused_and_the_answer_says_what_to_do() {
    let fixture = Fixture::start().await;
    let text = refused(&fixture, |config| config.without_upstream_key("ca_file")).await;
    assert!(text.contains("authority is not trusted here") && text.contains("ca_file"), "{text}");
}

#[tokio::test]
async fn a_certificate_of_another_name_is_refused() {
    // The demo tenant's certificate names localhost, 127.0.0.1 and ::1; it listens elsewhere here.
    let tenant = TenantOptions { tenant: ([127, 0, 0, 2], 0).into(), ..TenantOptions::default() };
    let fixture = Fixture::start_with(tenant).await;
    let url = fixture.tenant.url().replace("localhost", "127.0.0.2");
    let text = refused(&fixture, |config| config.upstream("url", url)).await;
    assert!(
        text.contains("it is for localhost, acme.test, 127.0.0.1, 0::1, not for 127.0.0.2"),
        "{text}"
    );
}

#[tokio::test]
async fn another_tenants_authority_is_refused() {
    let (fixture, other) = (Fixture::start().await, Fixture::start().await);
    let anchors = other.path("ca.pem").display().to_string();
    refused(&fixture, |config| config.upstream("ca_file", anchors)).await;
}

#[tokio::test]
async fn the_systems_authorities_stay_trusted_beside_a_private_one() {
    let (fixture, other) = (Fixture::start().await, Fixture::start().await);
    let (system, private) = (fixture.path("ca.pem"), other.path("ca.pem"));
    // The tenant's authority is the system's here, and `ca_file` names another one.
    let private = private.display().to_string();
    let config = fixture.configuration().client("ca_file", &private).upstream("ca_file", &private);
    let folder = tempfile::tempdir().unwrap();
    let environment = [("SSL_CERT_FILE", system.to_str().unwrap())];
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
    let config = fixture
        .configuration()
        .rename_upstream("trusting")
        .upstream("ca_file", ca.display())
        .add_upstream("strict")
        .upstream("url", url)
        .route("/api/v1/scim2", "profile", "scim")
        .route("/api/v1/scim2", "upstream", "trusting")
        .route("/api/v1/scim", "profile", "scim")
        .route("/api/v1/scim", "upstream", "strict");
    let sidecar = Sidecar::ready(&config).await;
    for _ in 0..3 {
        assert_eq!(sidecar.get("/api/v1/scim2/Users").await.status(), 200);
        assert_eq!(sidecar.get("/api/v1/scim/Users").await.status(), 502);
    }
}

#[tokio::test]
async fn a_token_endpoint_that_is_not_trusted_gets_no_secret() {
    let fixture = Fixture::start().await;
    let config = fixture.configuration().without_client_keys(&["ca_file"]);
    let sidecar = Sidecar::start(&config);
    eventually("reported", async || {
        sidecar.probe("/readyz").await.1.contains("a certificate that is not trusted")
    })
    .await;
    assert_eq!(fixture.tenant.seen().token_requests, 0);
}

/// A sidecar before an upstream that it trusts. `change` can alter that.
async fn before(
    upstream: &TlsUpstream,
    folder: &Path,
    change: impl FnOnce(Configuration) -> Configuration,
) -> (Peer, Sidecar) {
    let issuer = issuer::steady().await;
    let config = issuer.configuration(&upstream.url());
    let config = change(config.upstream("ca_file", folder.join("ca.pem").display()));
    (issuer, Sidecar::ready(&config).await)
}

/// The status and text of a GET request.
async fn answer(sidecar: &Sidecar) -> (u16, String) {
    let answer = sidecar.get("/free").await;
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn folder_with(authority: &Authority) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    authority.write_pem(folder.path());
    folder
}

#[tokio::test]
async fn a_version_of_tls_below_the_minimum_gets_no_token() {
    let authority = Authority::new();
    let folder = folder_with(&authority);
    let old = TlsUpstream::start(&authority, &[&TLS12], None, |_| {}).await;
    let new = TlsUpstream::start(&authority, &[&TLS12, &TLS13], None, |_| {}).await;
    for (upstream, least, status) in [
        (&old, None, 200),
        (&old, Some("1.2"), 200),
        (&old, Some("1.3"), 502),
        (&new, Some("1.3"), 200),
    ] {
        let requests = upstream.requests();
        let change = |config: Configuration| match least {
            Some(least) => config.upstream("min_tls", least),
            None => config,
        };
        let (_issuer, sidecar) = before(upstream, folder.path(), change).await;
        let (answered, text) = answer(&sidecar).await;
        assert_eq!(answered, status, "{least:?} {text}");
        assert_eq!(upstream.requests() - requests, usize::from(status == 200));
        if status == 502 {
            assert!(
                text.contains(r#""kind":"upstream_tls""#) && text.contains("min_tls"),
                "{text}"
            );
        }
    }
}

#[tokio::test]
async fn an_upstream_that_wants_a_certificate_gets_the_configured_one_and_no_other() {
    let (authority, callers) = (Authority::new(), Authority::new());
    let folder = folder_with(&authority);
    let files = |name: &str| {
        [format!("{name}.crt"), format!("{name}.key")].map(|name| folder.path().join(name))
    };
    for (name, by) in [("known", &callers), ("unknown", &Authority::new())] {
        let [chain, key] = files(name);
        by.write_certificate(&chain, &key);
    }
    for versions in [&[&TLS12][..], &[&TLS13][..]] {
        let upstream = TlsUpstream::start(&authority, versions, Some(&callers), |_| {}).await;
        for (name, status) in [(Some("known"), 200), (Some("unknown"), 502), (None, 502)] {
            let change = |config: Configuration| match name.map(files) {
                Some([chain, key]) => config
                    .upstream("certificate_file", chain.display())
                    .upstream("private_key_file", key.display()),
                None => config,
            };
            let (_issuer, sidecar) = before(&upstream, folder.path(), change).await;
            for _ in 0..2 {
                let (answered, text) = answer(&sidecar).await;
                assert_eq!(answered, status, "{name:?} {text}");
            }
        }
        assert_eq!(upstream.requests(), 2);
    }
}

#[tokio::test]
async fn certificates_that_are_expired_or_not_yet_valid_are_refused() {
    let authority = Authority::new();
    let folder = folder_with(&authority);
    let expired = TlsUpstream::start(&authority, &[&TLS13], None, |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    })
    .await;
    let early = TlsUpstream::start(&authority, &[&TLS13], None, |params| {
        params.not_before = rcgen::date_time_ymd(2999, 1, 1);
    })
    .await;
    for (upstream, reason) in
        [(expired, "it was valid until 2020-"), (early, "it is valid from 2999-")]
    {
        let (_issuer, sidecar) = before(&upstream, folder.path(), unchanged).await;
        let (status, text) = answer(&sidecar).await;
        assert!(status == 502 && text.contains(r#""kind":"upstream_tls""#), "{text}");
        assert!(text.contains(reason), "{text}");
        assert_eq!(upstream.requests(), 0);
    }
}

#[tokio::test]
async fn an_authority_that_leaves_the_ca_file_is_trusted_no_longer_and_its_connections_are_not_used()
 {
    let (first, second) = (Authority::new(), Authority::new());
    let folder = folder_with(&first);
    let upstream = TlsUpstream::start(&first, &[&TLS13], None, |_| {}).await;
    let issuer = issuer::steady().await;
    let ca = folder.path().join("ca.pem");
    let config = issuer.configuration(&upstream.url()).upstream("ca_file", ca.display());
    let process = Process::start(folder.path(), &config).await;
    let ask = async || http().get(format!("{}/free", process.url)).send().await.unwrap().status();
    eventually("ready", async || ask().await == 200).await;
    std::fs::write(&ca, &second.pem).unwrap();
    eventually("distrusted", async || ask().await == 502).await;
    let requests = upstream.requests();
    for _ in 0..3 {
        assert_eq!(ask().await, 502);
    }
    assert_eq!(upstream.requests(), requests);
}

#[tokio::test]
async fn a_self_signed_certificate_is_refused_until_it_is_in_the_ca_file() {
    let (upstream, pem) = TlsUpstream::self_signed().await;
    let folder = folder_with(&Authority::new());
    let (_issuer, sidecar) = before(&upstream, folder.path(), unchanged).await;
    let (status, text) = answer(&sidecar).await;
    assert!(status == 502 && text.contains(r#""kind":"upstream_tls""#), "{text}");
    assert_eq!(upstream.requests(), 0);
    std::fs::write(folder.path().join("ca.pem"), pem).unwrap();
    let (_issuer, sidecar) = before(&upstream, folder.path(), unchanged).await;
    assert_eq!(answer(&sidecar).await.0, 200);
}

/// A sidecar for two upstreams that trusts only the system's anchors, which are in this file.
async fn with_system_anchors(
    folder: &Path,
    anchors: &Path,
    upstreams: [&TlsUpstream; 2],
) -> (Peer, Process) {
    let issuer = issuer::steady().await;
    let [first, second] = upstreams.map(TlsUpstream::url);
    let config = issuer
        .configuration(&first)
        .upstream("timeouts", "{ connect: 1s, read: 1s, idle: 1s }")
        .add_upstream("second")
        .upstream("url", format!("\"{second}\""))
        .upstream("timeouts", "{ idle: 1s }")
        .all_routes("upstream", "u")
        .route("/second", "upstream", "second")
        .route("/second", "profile", "passthrough");
    let environment = [("SSL_CERT_FILE", anchors.to_str().unwrap())];
    (issuer, Process::start_in(folder, &config, &environment).await)
}

#[tokio::test]
async fn the_systems_anchors_are_read_again_on_a_reload() {
    let (first, second) = (Authority::new(), Authority::new());
    let folder = folder_with(&first);
    let anchors = folder.path().join("system.pem");
    std::fs::write(&anchors, &first.pem).unwrap();
    let upstreams = [
        &TlsUpstream::start(&first, &[&TLS13], None, |_| {}).await,
        &TlsUpstream::start(&second, &[&TLS13], None, |_| {}).await,
    ];
    let (_issuer, process) = with_system_anchors(folder.path(), &anchors, upstreams).await;
    let ask = async |path: &str| {
        http().get(format!("{}{path}", process.url)).send().await.unwrap().status().as_u16()
    };
    eventually("ready", async || ask("/free").await == 200).await;
    assert_eq!(ask("/second").await, 502);
    std::fs::write(&anchors, &second.pem).unwrap();
    process.signal("HUP").await;
    eventually("trusted", async || ask("/second").await == 200).await;
    let requests = upstreams[0].requests();
    assert_eq!(ask("/free").await, 502, "its kept connection is not used");
    assert_eq!(upstreams[0].requests(), requests);

    let files = process.open_files();
    for (authority, path) in [(&first, "/free"), (&second, "/second")].repeat(4) {
        std::fs::write(&anchors, &authority.pem).unwrap();
        process.signal("HUP").await;
        eventually("trusted", async || ask(path).await == 200).await;
    }
    eventually("kept connections are closed", async || process.open_files() <= files + 1).await;
}

#[tokio::test]
async fn a_broken_certificate_among_the_systems_anchors_does_no_harm() {
    let authority = Authority::new();
    let folder = folder_with(&authority);
    let anchors = folder.path().join("system.pem");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&anchors, format!("{broken}{}", authority.pem)).unwrap();
    let upstream = TlsUpstream::start(&authority, &[&TLS13], None, |_| {}).await;
    let upstreams = [&upstream, &upstream];
    let (_issuer, process) = with_system_anchors(folder.path(), &anchors, upstreams).await;
    let ask = async || http().get(format!("{}/free", process.url)).send().await.unwrap().status();
    eventually("trusted", async || ask().await == 200).await;
}

#[tokio::test]
async fn without_any_trust_anchor_the_start_fails_and_says_what_to_configure() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let environment = [("SSL_CERT_FILE", empty.to_str().unwrap())];
    let issuer = issuer::steady().await;
    let config = issuer.configuration("http://127.0.0.1:9");
    // This configuration needs no trust anchors.
    let process = Process::start_in(folder.path(), &config, &environment).await;
    drop(process);
    let config = config.upstream("url", "https://acme.test");
    let config = written(folder.path(), &config);
    let mut command = bearerd();
    command.args(["run", "--config"]).arg(config).envs(environment);
    let ended = output(&mut command).await;
    let text = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{text}");
    assert!(text.contains("no trust anchors, and there is no ca_file"), "{text}");
}
