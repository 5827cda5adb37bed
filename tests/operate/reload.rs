//! Another configuration without a restart: all of it or nothing.

use crate::support::issuer;
use crate::support::process::Process;
use crate::support::upstream::{Behaviour, Peer, Seen};
use crate::support::{Fixture, eventually, http};
use bearerd::demo::Faults;
use serde_json::json;
use std::os::unix::fs::symlink;

const CONSUMPTION: &str = "/api/v1/datasphere/consumption";
const SALES: &str = "/api/v1/datasphere/consumption/relational/DEMO/SALES/SALES?$top=1";
const DATA: &str = "  - { path: /api/v1/datasphere/consumption, profile: odata }\n";
const MORE: &str = "  - { path: /more, profile: passthrough, strip_path: true }\n";

struct World {
    /// Goes before the folder with its log.
    process: Process,
    fixture: Fixture,
}

impl World {
    /// A sidecar with these routes.
    async fn start(routes: &str) -> Self {
        let fixture = Fixture::start().await;
        let config = config(&fixture, routes);
        let process = Process::start(fixture.folder.path(), &config, &[]).await;
        let world = Self { fixture, process };
        eventually("ready", async || world.get(&world.process.admin, "/readyz").await == 200).await;
        world
    }

    /// Writes another configuration in the place of the one in force.
    fn write(&self, config: &str) {
        std::fs::write(self.fixture.path("bearerd.yaml"), config).unwrap();
    }

    async fn get(&self, url: &str, path: &str) -> u16 {
        http().get(format!("{url}{path}")).send().await.unwrap().status().as_u16()
    }

    async fn status(&self, path: &str) -> u16 {
        self.get(&self.process.url, path).await
    }

    async fn metrics(&self) -> String {
        let answer = http().get(format!("{}/metrics", self.process.admin)).send().await.unwrap();
        answer.text().await.unwrap()
    }

    /// Waits until a reload has ended like this, so many times.
    async fn reloaded(&self, outcome: &str, times: u32) {
        let line = format!("bearerd_config_reloads_total{{outcome=\"{outcome}\"}} {times}\n");
        eventually(outcome, async || self.metrics().await.contains(&line)).await;
    }
}

fn config(fixture: &Fixture, routes: &str) -> String {
    fixture.config("", &format!("routes:\n{routes}"))
}

#[tokio::test]
async fn a_changed_file_takes_effect_and_what_is_in_flight_keeps_what_it_began_with() {
    let world = World::start(DATA).await;
    assert_eq!(world.status(&format!("/more{SALES}")).await, 404);
    world.fixture.tenant.set_faults(Faults { tenant_delay_ms: 1500, ..Faults::default() });
    let before = world.fixture.tenant.seen().tenant_requests;
    let url = format!("{}{SALES}", world.process.url);
    let request = tokio::spawn(async move { http().get(url).send().await.unwrap().status() });
    let arrived = async || world.fixture.tenant.seen().tenant_requests > before;
    eventually("in flight", arrived).await;

    world.write(&config(&world.fixture, MORE));
    world.reloaded("success", 1).await;
    assert!(!request.is_finished(), "the request began before");
    assert_eq!(world.status(SALES).await, 404, "the old route is gone");
    assert_eq!(request.await.unwrap(), 200);
    world.fixture.tenant.set_faults(Faults::default());
    assert_eq!(world.status(&format!("/more{SALES}")).await, 200);
    assert_eq!(world.fixture.tenant.seen().token_requests, 1, "the client is the same");
    let metrics = world.metrics().await;
    assert!(metrics.contains(r#"route="/more""#));
    let old = format!(r#"bearerd_links_rewritten_total{{route="{CONSUMPTION}"}}"#);
    assert!(!metrics.contains(&old), "series of routes that are gone go too");
}

#[tokio::test]
async fn a_wrong_file_changes_nothing_and_says_why() {
    let world = World::start(DATA).await;
    for (wrong, told) in [
        (config(&world.fixture, "  - { path: /more, profile: odatta }\n"), "did you mean `odata`?"),
        ("listen: [".to_owned(), "bearerd.yaml"),
        (config(&world.fixture, DATA).replace("ca.pem", "gone.pem"), "gone.pem"),
    ] {
        let before = world.process.log().matches("Keeping the configuration in force").count();
        world.write(&wrong);
        let complaint = async || {
            let log = world.process.log();
            let lines = log.lines().filter(|line| line.contains("Keeping the configuration"));
            lines.skip(before).any(|line| line.contains(told))
        };
        eventually(told, complaint).await;
        assert_eq!(world.status(SALES).await, 200);
    }
    world.write(&config(&world.fixture, &format!("{DATA}{MORE}")));
    eventually("mended", async || world.status(&format!("/more{SALES}")).await == 200).await;
}

#[tokio::test]
async fn what_needs_a_restart_is_told_and_nothing_of_the_rest_counts() {
    let world = World::start(DATA).await;
    let moved = config(&world.fixture, &format!("{DATA}{MORE}"));
    world.write(&moved.replacen("listen: 127.0.0.1:0", "listen: '[::1]:0'", 1));
    world.reloaded("needs_restart", 1).await;
    assert!(world.process.log().contains("listen can't change while the sidecar runs"));
    assert_eq!(world.status(&format!("/more{SALES}")).await, 404);
}

#[tokio::test]
async fn a_new_client_must_get_a_token_before_anything_counts() {
    let world = World::start(DATA).await;
    std::fs::write(world.fixture.path("wrong"), "wrong").unwrap();
    let other = config(&world.fixture, &format!("{DATA}{MORE}"));
    world.write(&other.replace("/secret\n", "/wrong\n"));
    world.reloaded("no_token", 1).await;
    assert!(
        world.process.log().contains("client technical-user gets no token (the issuer refuses")
    );
    assert_eq!(world.status(SALES).await, 200);
    assert_eq!(world.status(&format!("/more{SALES}")).await, 404);
    assert_eq!(world.get(&world.process.admin, "/readyz").await, 200);

    let secret = world.fixture.tenant.client_secret();
    std::fs::write(world.fixture.path("wrong"), secret).unwrap();
    world.process.signal("HUP").await;
    world.reloaded("success", 1).await;
    assert_eq!(world.status(&format!("/more{SALES}")).await, 200);
}

#[tokio::test]
async fn a_hangup_reads_everything_again_and_sets_the_level_of_the_log() {
    let world = World::start(DATA).await;
    world.process.signal("HUP").await;
    world.reloaded("unchanged", 1).await;
    let requests = || world.process.log().matches("\"message\":\"Request.\"").count();
    let before = requests();
    assert_eq!(world.status(SALES).await, 200);
    eventually("told", async || requests() > before).await;
    world.write(&config(&world.fixture, DATA).replace("routes:", "log: { level: error }\nroutes:"));
    world.reloaded("success", 1).await;
    let before = requests();
    assert_eq!(world.status(SALES).await, 200);
    assert_eq!(world.status("/none").await, 404);
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
    let config = format!(
        "listen: 127.0.0.1:0\nadmin: {{ listen: 127.0.0.1:0 }}
clients: {{ c: {{ credentials: {} }} }}\nupstreams: {{ u: {{}} }}
routes: [{{ path: /free, profile: passthrough }}]\n",
        key.display()
    );
    let process = Process::start(folder.path(), &config, &[]).await;
    let get = async || http().get(format!("{}/free", process.url)).send().await.unwrap().status();
    eventually("ready", async || get().await == 200).await;

    // The issuer of b does not know the client yet.
    b.0.script([issuer::status("401 Unauthorized", "", "")]);
    write(&b);
    let refused = async || {
        get().await;
        process.log().contains("client c gets no token")
    };
    eventually("refused", refused).await;
    assert!(b.1.seen().is_empty(), "nothing goes there yet");
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
async fn a_refused_client_is_not_asked_again_for_every_file_that_changes_nearby() {
    let world = World::start(DATA).await;
    let wrong = config(&world.fixture, DATA).replace("client_id: ", "client_id: x");
    world.write(&wrong);
    world.reloaded("no_token", 1).await;
    let before = world.fixture.tenant.seen().token_requests;
    for number in 0..20 {
        std::fs::write(world.fixture.path("unrelated"), format!("{number}")).unwrap();
        // Each is noticed by itself: the folder is watched, and answers in between take time.
        assert_eq!(world.status(SALES).await, 200);
    }
    world.process.signal("HUP").await;
    world.reloaded("no_token", 2).await;
    assert_eq!(world.fixture.tenant.seen().token_requests, before + 1, "for the signal alone");
}

#[tokio::test]
async fn a_file_that_would_hang_holds_up_nothing() {
    let world = World::start(DATA).await;
    let pipe = world.fixture.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let ca = world.fixture.path("ca.pem").display().to_string();
    world.write(&config(&world.fixture, DATA).replace(&ca, &pipe.display().to_string()));
    world.reloaded("invalid", 1).await;
    assert_eq!(world.get(&world.process.admin, "/livez").await, 200);
    assert_eq!(world.status(SALES).await, 200);
}

#[tokio::test]
async fn a_trust_anchor_that_changes_is_read_again() {
    let world = World::start(DATA).await;
    let ca = world.fixture.path("ca.pem");
    let old = std::fs::read_to_string(&ca).unwrap();
    // As while an authority is replaced: both are there.
    let other = Fixture::start().await;
    std::fs::write(&ca, format!("{old}{}", other.tenant.ca_pem())).unwrap();
    world.reloaded("success", 1).await;
    assert_eq!(world.status(SALES).await, 200);
    assert_eq!(world.fixture.tenant.seen().token_requests, 2, "tried with the new ones first");
}

#[tokio::test]
async fn a_config_map_that_kubernetes_swaps_is_read_again() {
    let fixture = Fixture::start().await;
    let mount = fixture.path("mount");
    map(&fixture, "..1", DATA);
    symlink("..data/b.yaml", mount.join("b.yaml")).unwrap();
    let file = mount.join("b.yaml").display().to_string();
    let process = Process::start_with(fixture.folder.path(), &file, &[]).await;
    let world = World { fixture, process };
    eventually("ready", async || world.get(&world.process.admin, "/readyz").await == 200).await;
    map(&world.fixture, "..2", &format!("{DATA}{MORE}"));
    world.reloaded("success", 1).await;
    assert_eq!(world.status(&format!("/more{SALES}")).await, 200);
}

/// What the kubelet does: another folder, and the link turned in one step.
fn map(fixture: &Fixture, folder: &str, routes: &str) {
    let mount = fixture.path("mount");
    std::fs::create_dir_all(mount.join(folder)).unwrap();
    std::fs::write(mount.join(folder).join("b.yaml"), config(fixture, routes)).unwrap();
    symlink(folder, mount.join("..data_tmp")).unwrap();
    std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
}

#[tokio::test]
async fn an_end_that_is_not_known_any_more_is_not_told() {
    let world = World::start(DATA).await;
    let known = config(&world.fixture, DATA).replacen(
        "client_id:",
        "expires_on: 2099-01-01\n    client_id:",
        1,
    );
    let is_told = async || {
        let metrics = http().get(format!("{}/metrics", world.process.admin)).send().await.unwrap();
        metrics.text().await.unwrap().contains("\nbearerd_client_expiry_timestamp_seconds{")
    };
    assert!(!is_told().await);
    world.write(&known);
    world.reloaded("success", 1).await;
    eventually("told", is_told).await;
    world.write(&config(&world.fixture, DATA));
    world.reloaded("success", 2).await;
    eventually("not any more", async || !is_told().await).await;
}
