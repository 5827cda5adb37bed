//! Verified TLS or nothing: towards the upstream and towards the issuer.

use crate::support::issuer;
use crate::support::process::{Process, bearerd, output, written};
use crate::support::sidecar::Sidecar;
use crate::support::tls::{Authority, TlsUpstream};
use crate::support::upstream::Peer;
use crate::support::{Fixture, eventually, http};
use bearerd::demo::TenantOptions;
use rustls::version::{TLS12, TLS13};
use std::path::Path;
use tempfile::TempDir;

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

/// A sidecar in front of an upstream with TLS of its own, which is trusted unless `keys` say otherwise.
async fn before(upstream: &TlsUpstream, folder: &Path, keys: &str) -> (Peer, Sidecar) {
    let issuer = issuer::steady().await;
    let config = issuer.config("UPSTREAM", "", "");
    let ca = folder.join("upstream-ca.pem").display().to_string();
    let keys = format!("url: \"{}\", ca_file: {ca}, {keys} timeouts", upstream.url());
    let sidecar = Sidecar::ready(&config.replace("url: \"UPSTREAM\", timeouts", &keys)).await;
    (issuer, sidecar)
}

/// What GET answers, and its text.
async fn answer(sidecar: &Sidecar) -> (u16, String) {
    let answer = sidecar.get("/free").await;
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn folder_with(authority: &Authority) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("upstream-ca.pem"), &authority.pem).unwrap();
    folder
}

#[tokio::test]
async fn a_version_of_tls_below_the_least_gets_no_token() {
    let authority = Authority::new();
    let folder = folder_with(&authority);
    let old = TlsUpstream::start(&authority, &[&TLS12], None, |_| {}).await;
    let new = TlsUpstream::start(&authority, &[&TLS12, &TLS13], None, |_| {}).await;
    for (upstream, keys, status) in [
        (&old, "", 200),
        (&old, "min_tls: 1.2,", 200),
        (&old, "min_tls: 1.3,", 502),
        (&new, "min_tls: 1.3,", 200),
    ] {
        let requests = upstream.requests();
        let (_issuer, sidecar) = before(upstream, folder.path(), keys).await;
        let (answered, text) = answer(&sidecar).await;
        assert_eq!(answered, status, "{keys} {text}");
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
    for (name, by) in [("ours", &callers), ("theirs", &Authority::new())] {
        let [chain, key] = files(name);
        by.write_certificate(&chain, &key);
    }
    for versions in [&[&TLS12][..], &[&TLS13][..]] {
        let upstream = TlsUpstream::start(&authority, versions, Some(&callers), |_| {}).await;
        for (name, status) in [(Some("ours"), 200), (Some("theirs"), 502), (None, 502)] {
            let keys = name.map(files).map(|[chain, key]| {
                format!(
                    "certificate_file: {}, private_key_file: {},",
                    chain.display(),
                    key.display()
                )
            });
            let (_issuer, sidecar) =
                before(&upstream, folder.path(), &keys.unwrap_or_default()).await;
            for _ in 0..2 {
                let (answered, text) = answer(&sidecar).await;
                assert_eq!(answered, status, "{name:?} {text}");
            }
        }
        assert_eq!(upstream.requests(), 2);
    }
}

#[tokio::test]
async fn certificates_that_have_ended_or_have_not_begun_are_refused() {
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
    for (upstream, reason) in [(expired, "expired"), (early, "not valid yet")] {
        let (_issuer, sidecar) = before(&upstream, folder.path(), "").await;
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
    let ca = folder.path().join("upstream-ca.pem");
    let config = issuer.config(&upstream.url(), "", "");
    let config = config.replace(", timeouts", &format!(", ca_file: {}, timeouts", ca.display()));
    let process = Process::start(folder.path(), &config, &[]).await;
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
    let (_issuer, sidecar) = before(&upstream, folder.path(), "").await;
    let (status, text) = answer(&sidecar).await;
    assert!(status == 502 && text.contains(r#""kind":"upstream_tls""#), "{text}");
    assert_eq!(upstream.requests(), 0);
    std::fs::write(folder.path().join("upstream-ca.pem"), pem).unwrap();
    let (_issuer, sidecar) = before(&upstream, folder.path(), "").await;
    assert_eq!(answer(&sidecar).await.0, 200);
}

/// A sidecar for two upstreams, which trusts the system's anchors only: those of this file.
async fn with_system_anchors(
    folder: &Path,
    anchors: &Path,
    upstreams: [&TlsUpstream; 2],
) -> (Peer, Process) {
    let issuer = issuer::steady().await;
    let [first, second] = upstreams.map(TlsUpstream::url);
    let config = issuer.config(&first, "", "").replace(
        "upstreams:",
        &format!("upstreams:\n  second: {{ url: \"{second}\", timeouts: {{ idle: 1s }} }}"),
    );
    let config = config.replace("read: 1s", "read: 1s, idle: 1s");
    let config = config.replace("profile:", "upstream: u, profile:");
    let config =
        format!("{config}  - {{ path: /second, upstream: second, profile: passthrough }}\n");
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
    eventually("what was kept is closed", async || process.open_files() <= files + 1).await;
}

#[tokio::test]
async fn what_can_be_no_anchor_among_the_systems_harms_nobody() {
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
async fn where_there_is_nobody_to_trust_the_start_says_what_to_give() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = folder.path().join("empty.pem");
    std::fs::write(&nobody, "").unwrap();
    let environment = [("SSL_CERT_FILE", nobody.to_str().unwrap())];
    let issuer = issuer::steady().await;
    let config = issuer.config("http://127.0.0.1:9", "", "");
    // Nothing here is verified.
    let process = Process::start_in(folder.path(), &config, &environment).await;
    drop(process);
    let config = config.replace("http://127.0.0.1:9", "https://acme.test");
    let config = written(folder.path(), &config);
    let mut command = bearerd();
    command.args(["run", "--config"]).arg(config).envs(environment);
    let ended = output(&mut command).await;
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.contains("no trust anchors, and there is no ca_file"), "{told}");
}
