//! TLS on the admin listener: probes, scrapes and `bearerd wait`.

use crate::support::process::{Process, bearerd, output, written};
use crate::support::raw_client::exchange;
use crate::support::scene::DemoScene;
use crate::support::tls::Authority;
use crate::support::{Fixture, eventually};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A ready process whose admin listener has TLS.
struct AdminScene {
    scene: DemoScene<Process>,
    authority: Authority,
    folder: TempDir,
}

/// The keys of an admin listener with this `tls`.
fn with(tls: &str) -> String {
    format!("{{ listen: 127.0.0.1:0, tls: {tls} }}")
}

impl AdminScene {
    async fn start() -> Self {
        let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
        let tls = authority.listener(folder.path(), "");
        let fixture = Fixture::start().await;
        let yaml = fixture.configuration().key("admin", with(&tls));
        let sidecar = Process::start(fixture.folder.path(), &yaml).await;
        Self { scene: DemoScene { sidecar, fixture }, authority, folder }
    }

    /// `127.0.0.1:PORT`
    fn address(&self) -> &str {
        self.scene.sidecar.admin.strip_prefix("http://").unwrap()
    }

    fn config(&self) -> PathBuf {
        self.scene.fixture.folder.path().join("bearerd.yaml")
    }

    async fn get(&self, path: &str) -> reqwest::Result<(u16, String)> {
        let url = format!("https://{}{path}", self.address().replace("127.0.0.1", "localhost"));
        let answer = self.authority.http().get(url).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// What `bearerd wait` prints on standard error, and whether it succeeds.
    async fn wait(&self, config: &Path, time: &str) -> (bool, String) {
        let mut command = bearerd();
        command.args(["wait", "--timeout", time, "--admin-listen", self.address(), "--config"]);
        let ended = output(command.arg(config)).await;
        (ended.status.success(), String::from_utf8(ended.stderr).unwrap())
    }
}

#[tokio::test]
async fn probes_and_scrapes_and_wait_go_over_tls() {
    let admin = AdminScene::start().await;
    let (waited, why) = admin.wait(&admin.config(), "20s").await;
    assert!(waited, "{why}");
    assert_eq!(admin.get("/readyz").await.unwrap().0, 200);
    assert_eq!(admin.get("/livez").await.unwrap().0, 200);
    let (status, metrics) = admin.get("/metrics").await.unwrap();
    let end = format!(
        r#"bearerd_listener_certificate_expiry_timestamp_seconds{{listener="{}"}}"#,
        admin.address()
    );
    assert!(status == 200 && metrics.contains(&end), "{metrics}");
    let checked = output(bearerd().args(["check", "--config"]).arg(admin.config())).await;
    let text = String::from_utf8(checked.stdout).unwrap();
    assert!(text.contains("Probes and Prometheus connect to https://127.0.0.1:0."), "{text}");
}

#[tokio::test]
async fn check_and_doctor_look_at_the_certificate_of_each_listener() {
    let (folder, fixture) = (tempfile::tempdir().unwrap(), Fixture::start().await);
    let report = async |authority: &Authority, hosts: &str| {
        let tls = authority.listener(folder.path(), "");
        let config = fixture.configuration().key("admin", with(&tls));
        let config = config.key("listen", format!("{{ address: 127.0.0.1:0, tls: {tls} }}"));
        let file = written(folder.path(), &config.key("access", format!("{{ hosts: {hosts} }}")));
        let [checked, examined] = [
            output(bearerd().args(["check", "--config"]).arg(&file)).await,
            output(bearerd().args(["doctor", "--config"]).arg(&file)).await,
        ];
        (String::from_utf8(checked.stdout).unwrap(), String::from_utf8(examined.stdout).unwrap())
    };
    let (checked, examined) = report(&Authority::new(), "localhost").await;
    assert!(checked.contains("\n  Its certificate is valid until 4096-"), "{checked}");
    assert!(!checked.contains("It does not name"), "{checked}");
    let of_both = examined.lines().filter(|line| line.contains("is valid until 4096-"));
    assert_eq!(of_both.count(), 2, "{examined}");
    let (checked, examined) = report(&Authority::new(), "[localhost, bearerd.corp]").await;
    assert!(checked.contains("It does not name bearerd.corp: tools that use"), "{checked}");
    assert!(examined.contains("and does not name bearerd.corp: tools that use"), "{examined}");
}

#[tokio::test]
async fn a_probe_without_tls_reads_what_to_do() {
    let admin = AdminScene::start().await;
    let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = exchange(admin.address(), request).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.ends_with("use https:// (Kubernetes: scheme: HTTPS)\n"), "{answer}");
    admin
        .scene
        .sidecar
        .logged("it speaks no TLS; use https:// (Kubernetes: `scheme: HTTPS`)")
        .await;
}

#[tokio::test]
async fn wait_accepts_no_other_certificate_and_takes_a_new_one() {
    let admin = AdminScene::start().await;
    let folder = tempfile::tempdir().unwrap();
    let fixture = &admin.scene.fixture;
    // A stranger's certificate, of the same authority and for the same name.
    let other = with(&admin.authority.listener(folder.path(), ""));
    let other = fixture.configuration().key("admin", other);
    let (waited, why) = admin.wait(&written(folder.path(), &other), "0s").await;
    assert!(!waited && why.contains("is not trusted: it is another one; only the"), "{why}");
    let (waited, why) = admin.wait(&written(folder.path(), &fixture.configuration()), "0s").await;
    assert!(!waited && why.contains("has no `admin.tls`"), "{why}");
    // The sidecar takes the stranger's as its own.
    let here = |name: &str| admin.folder.path().join(name);
    for name in ["listener.key", "listener.crt"] {
        std::fs::copy(folder.path().join(name), here(name)).unwrap();
    }
    admin.scene.sidecar.logged("is in use").await;
    let (waited, why) = admin.wait(&admin.config(), "20s").await;
    assert!(waited, "{why}");
    eventually("the new one", async || admin.wait(&written(folder.path(), &other), "0s").await.0)
        .await;
}
