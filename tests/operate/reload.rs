//! Reloads of the configuration: all of it takes effect, or nothing.

use crate::support::configuration::Configuration;
use crate::support::issuer;
use crate::support::process::Process;
use crate::support::upstream::{Behaviour, Peer, Seen};
use crate::support::{Fixture, SALES, eventually, http};
use bearerd::demo::DemoFaults;
use serde_json::json;
use std::fmt::Display;
use std::os::unix::fs::symlink;

const CONSUMPTION: &str = "/api/v1/datasphere/consumption";

/// A configuration with a route for the tenant's data.
fn data(fixture: &Fixture) -> Configuration {
    fixture.configuration().route(CONSUMPTION, "profile", "odata")
}

/// Adds the route `/more`.
fn more(config: Configuration) -> Configuration {
    config.route("/more", "profile", "passthrough").route("/more", "strip_path", true)
}

struct ReloadScene {
    process: Process,
    fixture: Fixture,
}

impl ReloadScene {
    /// Starts a process with a route for the tenant's data.
    async fn start() -> Self {
        let fixture = Fixture::start().await;
        let process = Process::start(fixture.folder.path(), &data(&fixture)).await;
        process.wait_until_ready().await;
        Self { process, fixture }
    }

    /// Writes another configuration to the file of the one in force.
    fn write(&self, config: &impl Display) {
        std::fs::write(self.fixture.path("bearerd.yaml"), config.to_string()).unwrap();
    }

    async fn get(&self, url: &str, path: &str) -> u16 {
        http().get(format!("{url}{path}")).send().await.unwrap().status().as_u16()
    }

    async fn status(&self, path: &str) -> u16 {
        self.get(&self.process.url, path).await
    }

    async fn metrics(&self) -> String {
        self.process.probe("/metrics").await.1
    }

    /// Waits until this many reloads have this outcome.
    async fn reloaded(&self, outcome: &str, times: u32) {
        let line = format!("bearerd_config_reloads_total{{outcome=\"{outcome}\"}} {times}\n");
        eventually(outcome, async || self.metrics().await.contains(&line)).await;
    }
}

#[tokio::test]
async fn a_changed_file_takes_effect_and_requests_in_flight_keep_the_old_configuration() {
    let scene = ReloadScene::start().await;
    assert_eq!(scene.status(&format!("/more{SALES}")).await, 404);
    scene.fixture.tenant.set_faults(DemoFaults { tenant_delay_ms: 1500, ..DemoFaults::default() });
    let before = scene.fixture.tenant.seen().tenant_requests;
    let url = format!("{}{SALES}", scene.process.url);
    let request = tokio::spawn(async move { http().get(url).send().await.unwrap().status() });
    let arrived = async || scene.fixture.tenant.seen().tenant_requests > before;
    eventually("in flight", arrived).await;

    scene.write(&more(scene.fixture.configuration()));
    scene.reloaded("success", 1).await;
    assert!(!request.is_finished(), "the request began before");
    assert_eq!(scene.status(SALES).await, 404, "the old route is gone");
    assert_eq!(request.await.unwrap(), 200);
    scene.fixture.tenant.set_faults(DemoFaults::default());
    assert_eq!(scene.status(&format!("/more{SALES}")).await, 200);
    assert_eq!(scene.fixture.tenant.seen().token_requests, 1, "the client is the same");
    let metrics = scene.metrics().await;
    assert!(metrics.contains(r#"route="/more""#));
    let old = format!(r#"bearerd_links_rewritten_total{{route="{CONSUMPTION}"}}"#);
    assert!(!metrics.contains(&old), "series of removed routes are removed");
}

#[tokio::test]
async fn a_wrong_file_changes_nothing_and_says_why() {
    let scene = ReloadScene::start().await;
    for (wrong, problem) in [
        (
            more(data(&scene.fixture)).route("/more", "profile", "odatta").to_string(),
            "did you mean `odata`?",
        ),
        ("listen: [".to_owned(), "bearerd.yaml"),
        (data(&scene.fixture).upstream("ca_file", "/gone.pem").to_string(), "gone.pem"),
    ] {
        let before = scene.process.log().matches("Keeping the old configuration").count();
        scene.write(&wrong);
        let complaint = async || {
            let log = scene.process.log();
            let lines = log.lines().filter(|line| line.contains("Keeping the old configuration"));
            lines.skip(before).any(|line| line.contains(problem))
        };
        eventually(problem, complaint).await;
        assert_eq!(scene.status(SALES).await, 200);
    }
    scene.write(&more(data(&scene.fixture)));
    eventually("corrected", async || scene.status(&format!("/more{SALES}")).await == 200).await;
}

#[tokio::test]
async fn a_change_that_needs_a_restart_is_reported_and_no_other_change_takes_effect() {
    let scene = ReloadScene::start().await;
    let moved = more(data(&scene.fixture)).key("listen", "'[::1]:0'");
    scene.write(&moved);
    scene.reloaded("needs_restart", 1).await;
    scene.process.logged("changing listen needs a restart").await;
    assert_eq!(scene.status(&format!("/more{SALES}")).await, 404);
}

#[tokio::test]
async fn a_new_client_must_get_a_token_before_anything_takes_effect() {
    let scene = ReloadScene::start().await;
    std::fs::write(scene.fixture.path("wrong"), "wrong").unwrap();
    let wrong = scene.fixture.path("wrong");
    let other = more(data(&scene.fixture)).client("client_secret_file", wrong.display());
    scene.write(&other);
    scene.reloaded("no_token", 1).await;
    scene.process.logged("client technical-user gets no token (the issuer refuses").await;
    assert_eq!(scene.status(SALES).await, 200);
    assert_eq!(scene.status(&format!("/more{SALES}")).await, 404);
    assert_eq!(scene.process.probe("/readyz").await.0, 200);

    let secret = scene.fixture.tenant.client_secret();
    std::fs::write(scene.fixture.path("wrong"), secret).unwrap();
    scene.process.signal("HUP").await;
    scene.reloaded("success", 1).await;
    assert_eq!(scene.status(&format!("/more{SALES}")).await, 200);
}

#[tokio::test]
async fn a_hangup_reads_everything_again_and_sets_the_level_of_the_log() {
    let scene = ReloadScene::start().await;
    scene.process.signal("HUP").await;
    scene.reloaded("unchanged", 1).await;
    let requests = || scene.process.log().matches("\"message\":\"Request.\"").count();
    let before = requests();
    assert_eq!(scene.status(SALES).await, 200);
    eventually("logged", async || requests() > before).await;
    scene.write(&data(&scene.fixture).key("log", "{ level: error }"));
    scene.reloaded("success", 1).await;
    let before = requests();
    assert_eq!(scene.status(SALES).await, 200);
    assert_eq!(scene.status("/none").await, 404);
    assert_eq!(requests(), before);
}

#[tokio::test]
async fn a_key_that_names_another_tenant_changes_token_and_api_together_or_not_at_all() {
    let tenant = async |token: &'static str| {
        let issuer = Peer::start(issuer::token(token, 3600)).await;
        (issuer, Peer::start(Behaviour::ok("")).await)
    };
    let (a, b) = (tenant("token-of-a").await, tenant("token-of-b").await);
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.json");
    let write = |(issuer, api): &(Peer, Peer)| {
        let uaa = json!({ "clientid": "c", "clientsecret": "s", "url": issuer.url() });
        let document = json!({ "uaa": uaa, "uri": api.url() }).to_string();
        std::fs::write(folder.path().join("new"), document).unwrap();
        std::fs::rename(folder.path().join("new"), &key).unwrap();
    };
    write(&a);
    let config = Configuration::new()
        .add_client("c")
        .client("credentials", key.display())
        .add_upstream("u")
        .route("/free", "profile", "passthrough");
    let process = Process::start(folder.path(), &config).await;
    let get = async || http().get(format!("{}/free", process.url)).send().await.unwrap().status();
    eventually("ready", async || get().await == 200).await;

    // The issuer of b refuses the client at first.
    b.0.script([issuer::status("401 Unauthorized", "", "")]);
    write(&b);
    let refused = async || {
        get().await;
        process.log().contains("client c gets no token")
    };
    eventually("refused", refused).await;
    assert!(b.1.seen().is_empty(), "no request goes there yet");
    process.signal("HUP").await;
    let moved = async || {
        get().await;
        !b.1.seen().is_empty()
    };
    eventually("moved", moved).await;
    for (peer, token) in [(&a.1, "Bearer token-of-a"), (&b.1, "Bearer token-of-b")] {
        let is_its = |seen: &Seen| seen.header("authorization") == [token];
        assert!(peer.seen().iter().all(is_its), "{token}");
    }
}

#[tokio::test]
async fn a_refused_client_is_not_tried_again_for_every_change_in_its_folder() {
    let scene = ReloadScene::start().await;
    let wrong = data(&scene.fixture).client("client_id", "unknown");
    scene.write(&wrong);
    scene.reloaded("no_token", 1).await;
    let before = scene.fixture.tenant.seen().token_requests;
    for number in 0..20 {
        std::fs::write(scene.fixture.path("unrelated"), format!("{number}")).unwrap();
        // The request takes time, so that each change is noticed by itself.
        assert_eq!(scene.status(SALES).await, 200);
    }
    scene.process.signal("HUP").await;
    scene.reloaded("no_token", 2).await;
    assert_eq!(scene.fixture.tenant.seen().token_requests, before + 1, "for the signal alone");
}

#[tokio::test]
async fn a_file_whose_reading_blocks_holds_up_nothing() {
    let scene = ReloadScene::start().await;
    let pipe = scene.fixture.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let pipe = pipe.display();
    scene.write(&data(&scene.fixture).client("ca_file", &pipe).upstream("ca_file", &pipe));
    scene.reloaded("invalid", 1).await;
    assert_eq!(scene.process.probe("/livez").await.0, 200);
    assert_eq!(scene.status(SALES).await, 200);
}

#[tokio::test]
async fn a_trust_anchor_that_changes_is_read_again() {
    let scene = ReloadScene::start().await;
    let ca = scene.fixture.path("ca.pem");
    let old = std::fs::read_to_string(&ca).unwrap();
    // Both authorities are in the file, as during a replacement.
    let other = Fixture::start().await;
    std::fs::write(&ca, format!("{old}{}", other.tenant.ca_pem())).unwrap();
    scene.reloaded("success", 1).await;
    assert_eq!(scene.status(SALES).await, 200);
    assert_eq!(scene.fixture.tenant.seen().token_requests, 2, "tried with the new ones first");
}

#[tokio::test]
async fn a_config_map_that_kubernetes_swaps_is_read_again() {
    let fixture = Fixture::start().await;
    let mount = fixture.path("mount");
    mount_version(&fixture, "..1", &data(&fixture));
    symlink("..data/b.yaml", mount.join("b.yaml")).unwrap();
    let process = Process::start_with_file(fixture.folder.path(), &mount.join("b.yaml")).await;
    let scene = ReloadScene { fixture, process };
    scene.process.wait_until_ready().await;
    mount_version(&scene.fixture, "..2", &more(data(&scene.fixture)));
    scene.reloaded("success", 1).await;
    assert_eq!(scene.status(&format!("/more{SALES}")).await, 200);
}

/// Replaces the file as the kubelet does: by a new folder and an atomic change of the link.
fn mount_version(fixture: &Fixture, folder: &str, config: &Configuration) {
    let mount = fixture.path("mount");
    std::fs::create_dir_all(mount.join(folder)).unwrap();
    std::fs::write(mount.join(folder).join("b.yaml"), config.to_string()).unwrap();
    symlink(folder, mount.join("..data_tmp")).unwrap();
    std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
}

#[tokio::test]
async fn an_expiry_that_is_no_longer_configured_is_not_exported() {
    let scene = ReloadScene::start().await;
    let known = data(&scene.fixture).client("expires_on", "2099-01-01");
    let is_exported =
        async || scene.metrics().await.contains("\nbearerd_client_expiry_timestamp_seconds{");
    assert!(!is_exported().await);
    scene.write(&known);
    scene.reloaded("success", 1).await;
    eventually("exported", is_exported).await;
    scene.write(&data(&scene.fixture));
    scene.reloaded("success", 2).await;
    eventually("not any more", async || !is_exported().await).await;
}
