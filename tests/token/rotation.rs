//! Rotation of credentials under load: no request fails, whether the new credential is right or
//! wrong.

use crate::support::configuration::Configuration;
use crate::support::sidecar::Sidecar;
use crate::support::{Fixture, SALES, eventually, http};
use bearerd::demo::DemoFaults;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::json;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, interval, sleep};
use tokio_util::task::AbortOnDropHandle;

/// A mounted Secret of Kubernetes: a folder with a file for each key.
struct Mount {
    path: PathBuf,
    version: u32,
}

impl Mount {
    fn new(fixture: &Fixture, files: &[(&str, &str)]) -> Self {
        let mut mount = Self { path: fixture.path("mount"), version: 0 };
        mount.swap(files);
        for (name, _) in files {
            symlink(format!("..data/{name}"), mount.path.join(name)).unwrap();
        }
        mount
    }

    /// Replaces the files as the kubelet does: by a new folder and an atomic change of the link.
    fn swap(&mut self, files: &[(&str, &str)]) {
        self.version += 1;
        let folder = format!("..{}", self.version);
        std::fs::create_dir_all(self.path.join(&folder)).unwrap();
        for (name, content) in files {
            std::fs::write(self.path.join(&folder).join(name), content).unwrap();
        }
        symlink(&folder, self.path.join("..data_tmp")).unwrap();
        std::fs::rename(self.path.join("..data_tmp"), self.path.join("..data")).unwrap();
    }
}

/// The configuration of a client whose credentials are at this path.
fn with_key(fixture: &Fixture, path: &Path) -> Configuration {
    fixture
        .configuration()
        .without_client_keys(&["token_url", "client_id", "client_secret_file"])
        .client("credentials", path.display())
}

/// The configuration of a client that authenticates by the certificate in this folder.
fn with_certificate(fixture: &Fixture, folder: &Path) -> Configuration {
    fixture
        .configuration()
        .without_client_keys(&["client_secret_file"])
        .client("token_url", format!("{}/oauth/token", fixture.tenant.cert_url()))
        .client("client_auth", "mtls")
        .client("certificate_file", folder.join("tls.crt").display())
        .client("private_key_file", folder.join("tls.key").display())
}

/// Requests at a steady rate until it is dropped.
struct Load {
    served: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    _sending: Vec<AbortOnDropHandle<()>>,
}

impl Load {
    /// Starts to send this many requests a second, or fewer on a slow machine.
    fn start(url: String, rate: u32) -> Self {
        const CALLERS: u32 = 10;
        let (served, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let client = http();
        let caller = |_| {
            let (served, failed) = (served.clone(), failed.clone());
            let (client, url) = (client.clone(), url.clone());
            AbortOnDropHandle::new(tokio::spawn(async move {
                let mut ticks = interval(Duration::from_secs(1) * CALLERS / rate);
                loop {
                    ticks.tick().await;
                    let answer = client.get(&url).send().await;
                    let counter =
                        if answer.is_ok_and(|a| a.status() == 200) { &served } else { &failed };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }))
        };
        let sending = (0..CALLERS).map(caller).collect();
        Self { served, failed, _sending: sending }
    }

    fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    fn assert_no_error(&self) {
        assert_eq!(self.failed.load(Ordering::Relaxed), 0, "of {}", self.served());
    }
}

async fn reloads(sidecar: &Sidecar, outcome: &str) -> f64 {
    let labels = format!(r#"{{client="technical-user",outcome="{outcome}"}}"#);
    sidecar.metric(&format!("bearerd_credential_reloads_total{labels}")).await
}

async fn readiness(sidecar: &Sidecar) -> String {
    sidecar.probe("/readyz").await.1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_no_request_fails_during_a_rotation_right_or_wrong() {
    let fixture = Fixture::start().await;
    let (id, url) = (fixture.tenant.client_id(), fixture.tenant.token_url());
    let key = |secret: &str| {
        let pairs = [("clientid", id), ("clientsecret", secret), ("url", url.as_str())];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let as_files = |pairs: &[(String, String); 3]| {
        pairs.clone().map(|(name, value)| (&*name.leak(), &*value.leak()))
    };
    let mut mount = Mount::new(&fixture, &as_files(&key(&fixture.tenant.client_secret())));
    // The refresh every five seconds meets each of the states below.
    fixture.tenant.set_faults(DemoFaults { token_lifetime: 10, ..DemoFaults::default() });
    let sidecar = Sidecar::ready(&with_key(&fixture, &mount.path)).await;
    let load = Load::start(format!("{}{SALES}", sidecar.url), 500);
    let end = Instant::now() + Duration::from_secs(30);

    // First at the issuer: the old secret is refused while the token is still valid.
    let second = fixture.tenant.rotate_client_secret();
    fixture.tenant.retire_old_client_secrets();
    let refused =
        async || readiness(&sidecar).await.contains("degraded: technical-user: the issuer refuses");
    eventually("refused", refused).await;
    mount.swap(&as_files(&key(&second)));
    eventually("rotated", async || reloads(&sidecar, "success").await == 1.0).await;
    eventually("ready", async || readiness(&sidecar).await == "ready\n").await;

    // First in the folder, with a wrong secret.
    mount.swap(&as_files(&key("wrong")));
    eventually("refused", async || reloads(&sidecar, "refused").await >= 1.0).await;
    assert!(
        readiness(&sidecar)
            .await
            .contains("degraded: new credential of technical-user: the issuer refuses")
    );
    let generation = sidecar.metric("bearerd_token_generation").await;
    let refreshed = async || sidecar.metric("bearerd_token_generation").await > generation;
    eventually("refreshed with the old one", refreshed).await;
    let third = fixture.tenant.rotate_client_secret();
    mount.swap(&as_files(&key(&third)));
    eventually("rotated", async || reloads(&sidecar, "success").await == 2.0).await;
    eventually("ready", async || readiness(&sidecar).await == "ready\n").await;
    fixture.tenant.retire_old_client_secrets();

    tokio::time::sleep_until(end).await;
    load.assert_no_error();
    assert!(load.served() > 0);
    println!("{} requests", load.served());
}

#[tokio::test]
async fn a_certificate_is_replaced_before_its_end_while_requests_flow() {
    let fixture = Fixture::start().await;
    fixture.tenant.set_faults(DemoFaults { token_lifetime: 8, ..DemoFaults::default() });
    let files = |(chain, key): (String, String)| [("tls.crt", chain), ("tls.key", key)];
    let as_refs = |files: &[(&'static str, String); 2]| {
        files.clone().map(|(name, content)| (name, &*content.leak()))
    };
    let life = Duration::from_secs(6);
    let mut mount = Mount::new(
        &fixture,
        &as_refs(&files(fixture.tenant.issue_client_certificate(life).unwrap())),
    );
    let config = with_certificate(&fixture, &mount.path);
    let sidecar = Sidecar::ready(&config).await;
    let load = Load::start(format!("{}{SALES}", sidecar.url), 20);
    let expiry = async || {
        sidecar.metric(r#"bearerd_client_expiry_timestamp_seconds{client="technical-user"}"#).await
    };
    let first = expiry().await;
    assert!(first > 0.0, "the certificate's end is known");

    let longer = Duration::from_secs(3600);
    mount.swap(&as_refs(&files(fixture.tenant.issue_client_certificate(longer).unwrap())));
    eventually("rotated", async || reloads(&sidecar, "success").await == 1.0).await;
    eventually("known", async || expiry().await > first + 3000.0).await;
    sleep(life).await;
    let issued = fixture.tenant.seen().tokens_issued;
    eventually("refreshed after the first one's end", async || {
        fixture.tenant.seen().tokens_issued > issued
    })
    .await;
    load.assert_no_error();
    assert_eq!(readiness(&sidecar).await, "ready\n");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_and_its_successor_works_at_once() {
    let fixture = Fixture::start().await;
    fixture.tenant.set_faults(DemoFaults { token_lifetime: 4, ..DemoFaults::default() });
    let write = |(chain, key): (String, String)| {
        std::fs::write(fixture.path("tls.key"), key).unwrap();
        std::fs::write(fixture.path("tls.crt"), chain).unwrap();
    };
    write(fixture.tenant.issue_client_certificate(Duration::from_secs(2)).unwrap());
    let config = with_certificate(&fixture, fixture.folder.path());
    let sidecar = Sidecar::ready(&config).await;
    eventually("ended", async || sidecar.probe("/readyz").await.0 == 503).await;
    write(fixture.tenant.issue_client_certificate(Duration::from_secs(3600)).unwrap());
    eventually("healed", async || sidecar.get(SALES).await.status() == 200).await;
    // A key without its certificate, as between two writes, changes nothing.
    std::fs::write(
        fixture.path("tls.key"),
        fixture.tenant.issue_client_certificate(Duration::from_secs(60)).unwrap().1,
    )
    .unwrap();
    eventually("reported", async || reloads(&sidecar, "unreadable").await >= 1.0).await;
    assert_eq!(sidecar.get(SALES).await.status(), 200);
}

#[tokio::test]
async fn assertions_are_signed_with_the_current_key() {
    let fixture = Fixture::start().await;
    let new_key = || {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        fixture.tenant.register_client_key(&key.public_key_pem()).unwrap();
        std::fs::write(fixture.path("key.pem"), key.serialize_pem()).unwrap();
    };
    new_key();
    let config = fixture
        .configuration()
        .without_client_keys(&["client_secret_file"])
        .client("client_auth", "private-key-jwt")
        .client("private_key_file", fixture.path("key.pem").display());
    let sidecar = Sidecar::ready(&config).await;
    assert_eq!(sidecar.get(SALES).await.status(), 200);
    new_key();
    eventually("rotated", async || reloads(&sidecar, "success").await == 1.0).await;
    std::fs::write(fixture.path("key.pem"), "no key").unwrap();
    eventually("reported", async || reloads(&sidecar, "unreadable").await == 1.0).await;
    assert!(readiness(&sidecar).await.contains("is not a private key in PEM"));
}

#[tokio::test]
async fn the_next_secret_is_used_when_the_first_is_refused() {
    let fixture = Fixture::start().await;
    fixture.tenant.set_faults(DemoFaults { token_lifetime: 4, ..DemoFaults::default() });
    let next = fixture.path("next");
    let config = fixture.configuration().client("client_secret_next_file", next.display());
    // An empty placeholder, as Kubernetes mounts it.
    std::fs::write(fixture.path("next"), "").unwrap();
    let sidecar = Sidecar::ready(&config).await;
    std::fs::write(fixture.path("next"), fixture.tenant.rotate_client_secret()).unwrap();
    eventually("read", async || reloads(&sidecar, "success").await == 1.0).await;
    let load = Load::start(format!("{}{SALES}", sidecar.url), 20);
    fixture.tenant.retire_old_client_secrets();
    let generation = sidecar.metric("bearerd_token_generation").await;
    let refreshed = async || sidecar.metric("bearerd_token_generation").await > generation + 1.0;
    eventually("refreshed with the next one", refreshed).await;
    load.assert_no_error();
    assert_eq!(readiness(&sidecar).await, "ready\n");
}

#[tokio::test]
async fn service_keys_work_in_the_formats_that_sap_issues() {
    let fixture = Fixture::start().await;
    let (id, secret) = (fixture.tenant.client_id(), fixture.tenant.client_secret());
    let base = fixture.tenant.token_url().replace("/oauth/token", "");
    let key = json!({ "clientid": id, "clientsecret": secret, "url": base, "xsappname": "x" });
    let service = |name: &str, key| json!({ "name": name, "label": "xsuaa", "credentials": key });
    let other = json!({ "clientid": "other", "clientsecret": "other", "url": base });
    let (chain, private) =
        fixture.tenant.issue_client_certificate(Duration::from_secs(60)).unwrap();
    for (document, binding) in [
        (key.clone(), None),
        (json!({ "uaa": key, "uri": fixture.tenant.url() }), None),
        (json!({ "xsuaa": [service("a", key.clone()), service("b", other)] }), Some("{ name: a }")),
        (
            json!({ "client_id": id, "client_secret": secret, "token_url": format!("{base}/oauth/token?grant_type=client_credentials") }),
            None,
        ),
        (
            json!({ "clientid": id, "certificate": chain, "key": private, "certurl": fixture.tenant.cert_url(), "url": base, "credential-type": "x509" }),
            None,
        ),
        (
            json!({ "Authentication": "OAuth2ClientCredentials", "clientId": id, "clientSecret": secret, "tokenServiceURL": format!("{base}/oauth/token"), "URL": fixture.tenant.url() }),
            None,
        ),
    ] {
        std::fs::write(fixture.path("key.json"), document.to_string()).unwrap();
        let config = with_key(&fixture, &fixture.path("key.json"));
        let config = match binding {
            Some(binding) => config.client("binding", binding),
            None => config,
        };
        let sidecar = Sidecar::ready(&config).await;
        assert_eq!(sidecar.get(SALES).await.status(), 200, "{document}");
    }
}
