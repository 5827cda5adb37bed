//! Files that a configuration can name: a new version is noticed, and if it is bad, the old one
//! stays in use.

use crate::support::forward_proxy::ForwardProxy;
use crate::support::process::Process;
use crate::support::tls::Authority;
use crate::support::{Fixture, USERS, eventually, http};
use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const REFERENCE: &str = include_str!("../../config/reference.yaml");
const TABLE: &str = include_str!("../../docs/files.md");
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The keys of the configuration that name files, and the file of each in [`FilesScene`].
const KEYS: [(&str, &str); 20] = [
    ("admin.tls.certificate_file", "admin.crt"),
    ("admin.tls.private_key_file", "admin.key"),
    ("listen.tls.certificate_file", "listener.crt"),
    ("listen.tls.private_key_file", "listener.key"),
    ("listen.tls.client_ca_file", "callers-ca.pem"),
    ("clients.*.client_secret_file", "secret"),
    ("clients.*.client_secret_next_file", "next"),
    ("clients.*.credentials", "key.json"),
    ("clients.*.certificate_file", "client.crt"),
    ("clients.*.private_key_file", "client.key"),
    ("clients.*.ca_file", "client-ca.pem"),
    ("clients.*.proxy_credentials_file", "client-proxy"),
    ("upstreams.*.ca_file", "upstream-ca.pem"),
    ("upstreams.*.certificate_file", "upstream.crt"),
    ("upstreams.*.private_key_file", "upstream.key"),
    ("upstreams.*.proxy_credentials_file", "upstream-proxy"),
    ("callers.*.api_key_file", "caller-key"),
    ("callers.*.basic.password_file", "caller-password"),
    ("access.basic.password_file", "password"),
    ("access.api_key_file", "api_key"),
];

/// Other files that are read.
const OTHERS: [(&str, &str); 2] =
    [("the configuration", "bearerd.yaml"), ("`SSL_CERT_FILE`", "system.pem")];

/// The keys of the reference that name files, by their paths.
fn keys_of_the_reference() -> BTreeSet<String> {
    let mut sections: Vec<(usize, &str)> = Vec::new();
    let mut keys = BTreeSet::new();
    for line in REFERENCE.lines() {
        // Optional sections and keys are comments, perhaps within others.
        let key = line.trim_start_matches([' ', '#']);
        let marks = line[..line.len() - key.len()].matches("# ").count();
        let depth = line.len() - key.len() - 2 * marks;
        let Some((key, value)) = key.split_once(':') else { continue };
        if key.contains(' ') {
            // A sentence.
            continue;
        }
        sections.retain(|(above, _)| *above < depth);
        if key.ends_with("_file") || key == "credentials" {
            let path: Vec<_> = sections.iter().map(|(_, name)| *name).chain([key]).collect();
            keys.insert(path.join("."));
        } else if value.is_empty() {
            let is_own =
                sections.len() == 1 && matches!(sections[0].1, "clients" | "upstreams" | "callers");
            sections.push((depth, if is_own { "*" } else { key }));
        }
    }
    keys
}

#[test]
fn every_key_that_names_a_file_is_in_the_table_and_in_the_test_below() {
    let tested: BTreeSet<_> = KEYS.iter().map(|(key, _)| (*key).to_owned()).collect();
    assert_eq!(keys_of_the_reference(), tested);
    for (key, _) in KEYS {
        assert!(TABLE.contains(&format!("`{key}`")), "{key} is in no row of docs/files.md");
    }
    for (what, _) in OTHERS {
        assert!(TABLE.contains(what), "{what} is in no row of docs/files.md");
    }
}

/// A sidecar whose configuration names every kind of file.
struct FilesScene {
    process: Process,
    _proxy: ForwardProxy,
    authority: Authority,
    fixture: Fixture,
    /// The folder of the files.
    folder: PathBuf,
}

impl FilesScene {
    async fn start() -> Self {
        let (fixture, proxy) = (Fixture::start().await, ForwardProxy::start().await);
        let folder = fixture.path("files");
        std::fs::create_dir(&folder).unwrap();
        let authority = Authority::new();
        for (name, content) in [
            ("secret", fixture.tenant.client_secret()),
            ("next", "coming".to_owned()),
            ("key.json", key(&fixture, &fixture.tenant.client_secret())),
            ("callers-ca.pem", Authority::new().pem),
            ("client-ca.pem", fixture.tenant.ca_pem().to_owned()),
            ("client-proxy", "tool:proxied".to_owned()),
            ("upstream-ca.pem", fixture.tenant.ca_pem().to_owned()),
            ("upstream-proxy", "tool:proxied".to_owned()),
            ("password", "password-1".to_owned()),
            ("caller-key", "a-key-of-a-caller-with-32-characters".to_owned()),
            ("caller-password", "a-password-of-a-caller".to_owned()),
            ("api_key", "key-1".to_owned()),
            ("system.pem", Authority::new().pem),
        ] {
            std::fs::write(folder.join(name), content).unwrap();
        }
        let (crt, key) = fixture.tenant.issue_client_certificate(YEAR).unwrap();
        std::fs::write(folder.join("client.crt"), crt).unwrap();
        std::fs::write(folder.join("client.key"), key).unwrap();
        for name in ["upstream", "listener", "admin"] {
            let [crt, key] = ["crt", "key"].map(|kind| folder.join(format!("{name}.{kind}")));
            authority.write_certificate(&crt, &key);
        }
        let config = config(&fixture, &folder, &proxy);
        let system = folder.join("system.pem").display().to_string();
        let environment = [("SSL_CERT_FILE", system.as_str())];
        let process = Process::start_in(fixture.folder.path(), &config, &environment).await;
        let scene = Self { process, _proxy: proxy, authority, fixture, folder };
        eventually("ready", async || scene.ready().await == "ready\n").await;
        scene
    }

    async fn ready(&self) -> String {
        let admin = self.process.admin.replace("http://127.0.0.1", "https://localhost");
        let answer = self.authority.http().get(format!("{admin}/readyz")).send().await.unwrap();
        answer.text().await.unwrap()
    }

    /// The status of a request with this API key.
    async fn status(&self, key: &str) -> u16 {
        let url = format!("{}{USERS}", self.process.url);
        http().get(url).header("x-api-key", key).send().await.unwrap().status().as_u16()
    }

    /// The status of a request with this password.
    async fn status_of_password(&self, password: &str) -> u16 {
        let asked = http().get(format!("{}{USERS}", self.process.url));
        asked.basic_auth("tool", Some(password)).send().await.unwrap().status().as_u16()
    }

    /// The number of log lines with one of these texts.
    fn logged(&self, texts: &[&str]) -> usize {
        let log = self.process.log();
        log.lines().filter(|line| texts.iter().any(|text| line.contains(text))).count()
    }

    fn path(&self, name: &str) -> PathBuf {
        match name {
            "bearerd.yaml" => self.fixture.path(name),
            _ => self.folder.join(name),
        }
    }

    /// Replaces a file atomically.
    fn put(&self, name: &str, content: &str) {
        let new = self.fixture.path("new");
        std::fs::write(&new, content).unwrap();
        std::fs::rename(new, self.path(name)).unwrap();
    }

    /// Replaces a file by another valid version.
    fn renew(&self, name: &str) {
        let tenant = &self.fixture.tenant;
        let pem = || format!("{}{}", tenant.ca_pem(), Authority::new().pem);
        match name {
            "secret" => self.put(name, &tenant.rotate_client_secret()),
            "key.json" => self.put(name, &key(&self.fixture, &tenant.rotate_client_secret())),
            "client.crt" | "client.key" => {
                let (crt, key) = tenant.issue_client_certificate(YEAR).unwrap();
                self.put("client.crt", &crt);
                self.put("client.key", &key);
            }
            "upstream.crt" | "upstream.key" | "listener.crt" | "listener.key" | "admin.crt"
            | "admin.key" => {
                let [crt, key] = ["crt", "key"].map(|name| self.fixture.path(name));
                self.authority.write_certificate(&crt, &key);
                let (owner, _) = name.split_once('.').unwrap();
                std::fs::rename(crt, self.path(&format!("{owner}.crt"))).unwrap();
                std::fs::rename(key, self.path(&format!("{owner}.key"))).unwrap();
            }
            "callers-ca.pem" => self.put(name, &Authority::new().pem),
            "client-ca.pem" | "upstream-ca.pem" | "system.pem" => self.put(name, &pem()),
            "client-proxy" | "upstream-proxy" => self.put(name, "tool:proxied-anew"),
            "bearerd.yaml" => {
                let pool = "limits: { requests: 1000 }\n";
                self.put(name, &format!("{}{pool}", self.configuration()));
            }
            "caller-key" | "caller-password" => self.put(name, &"renewed".repeat(8)),
            other => self.put(other, "renewed"),
        }
    }

    fn configuration(&self) -> String {
        std::fs::read_to_string(self.fixture.path("good.yaml")).unwrap()
    }
}

/// A service key.
fn key(fixture: &Fixture, secret: &str) -> String {
    let issuer = fixture.tenant.token_url().replace("/oauth/token", "");
    let id = fixture.tenant.client_id();
    serde_json::json!({ "uaa": { "clientid": id, "clientsecret": secret, "url": issuer } })
        .to_string()
}

fn config(fixture: &Fixture, folder: &Path, proxy: &ForwardProxy) -> String {
    let at = |name: &str| folder.join(name).display().to_string();
    let (tenant, proxy) = (&fixture.tenant, proxy.address);
    let config = format!(
        "listen:
  - 127.0.0.1:0
  - address: 127.0.0.1:0
    tls:
      certificate_file: {listener_crt}
      private_key_file: {listener_key}
      client_ca_file: {callers_ca}
admin:
  listen: 127.0.0.1:0
  tls: {{ certificate_file: {admin_crt}, private_key_file: {admin_key} }}
clients:
  technical-user:
    token_url: {token_url}
    client_id: {id}
    client_secret_file: {secret}
    client_secret_next_file: {next}
    ca_file: {client_ca}
    proxy: http://{proxy}
    proxy_credentials_file: {client_proxy}
  keyed: {{ credentials: {key}, ca_file: {ca} }}
  mutual:
    token_url: {cert_url}/oauth/token
    client_id: {id}
    client_auth: mtls
    certificate_file: {client_crt}
    private_key_file: {client_key}
    ca_file: {ca}
upstreams:
  datasphere:
    url: {url}
    client: technical-user
    ca_file: {upstream_ca}
    certificate_file: {upstream_crt}
    private_key_file: {upstream_key}
    proxy: http://{proxy}
    proxy_credentials_file: {upstream_proxy}
callers:
  etl:
    api_key_file: {caller_key}
    basic: {{ username: etl, password_file: {caller_password} }}
access: {{ basic: {{ username: tool, password_file: {password} }}, api_key_file: {api_key} }}
log: {{ level: debug }}
",
        token_url = tenant.token_url(),
        cert_url = tenant.cert_url(),
        url = tenant.url(),
        id = tenant.client_id(),
        ca = fixture.path("ca.pem").display(),
        secret = at("secret"),
        next = at("next"),
        key = at("key.json"),
        admin_crt = at("admin.crt"),
        admin_key = at("admin.key"),
        listener_crt = at("listener.crt"),
        listener_key = at("listener.key"),
        callers_ca = at("callers-ca.pem"),
        client_ca = at("client-ca.pem"),
        client_proxy = at("client-proxy"),
        client_crt = at("client.crt"),
        client_key = at("client.key"),
        upstream_ca = at("upstream-ca.pem"),
        upstream_crt = at("upstream.crt"),
        upstream_key = at("upstream.key"),
        upstream_proxy = at("upstream-proxy"),
        caller_key = at("caller-key"),
        caller_password = at("caller-password"),
        password = at("password"),
        api_key = at("api_key"),
    );
    std::fs::write(fixture.path("good.yaml"), &config).unwrap();
    config
}

#[tokio::test]
async fn every_replaced_file_is_noticed_and_a_bad_one_changes_nothing_but_the_report() {
    const KEPT: [&str; 4] = [
        "Keeping the certificate of",
        "Keeping the old credential",
        "Keeping the old configuration",
        "Keeping local credentials in use",
    ];
    const TAKEN: [&str; 4] = [
        "The new certificate of",
        "The new credential is in use.",
        "The new configuration is in force.",
        "The new local credential is in force.",
    ];
    let scene = FilesScene::start().await;
    let mut api_key = "key-1";
    for (key, name) in KEYS.into_iter().chain(OTHERS) {
        let (kept, taken) = (scene.logged(&KEPT), scene.logged(&TAKEN));
        // A pipe is the worst case: opening it waits for a writer.
        let pipe = scene.fixture.path("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        std::fs::rename(&pipe, scene.path(name)).unwrap();
        eventually(&format!("{key}: refused"), async || scene.logged(&KEPT) > kept).await;
        assert_eq!(scene.status(api_key).await, 200, "{key}: {}", scene.process.log());
        scene.renew(name);
        eventually(&format!("{key}: taken"), async || scene.logged(&TAKEN) > taken).await;
        if name == "api_key" {
            api_key = "renewed";
        }
        assert_eq!(scene.status(api_key).await, 200, "{key}: {}", scene.process.log());
    }
    eventually("ready", async || scene.ready().await == "ready\n").await;
}

#[tokio::test]
async fn a_replaced_local_credential_is_not_accepted_any_more() {
    let scene = FilesScene::start().await;
    assert_eq!((scene.status("key-1").await, scene.status("key-2").await), (200, 401));
    scene.put("api_key", "key-2\n");
    eventually("replaced", async || scene.status("key-2").await == 200).await;
    assert_eq!(scene.status("key-1").await, 401, "the old one");
    assert_eq!(scene.status_of_password("password-1").await, 200, "the password is unchanged");

    // With a missing or empty file, the old key stays valid and no other one is accepted.
    std::fs::remove_file(scene.path("api_key")).unwrap();
    let is_reported =
        async || scene.ready().await.contains("local credential: access: cannot read");
    eventually("degraded", is_reported).await;
    assert_eq!((scene.status("key-2").await, scene.status("").await), (200, 401));
    scene.put("api_key", "");
    eventually("degraded", async || scene.ready().await.contains("is empty")).await;
    assert_eq!((scene.status("key-2").await, scene.status("").await), (200, 401));

    // The same holds for a key that a caller cannot send.
    for (bad, why) in [("key-2 \n", "a blank"), ("key-2\nkey-4\n", "several lines")] {
        scene.put("api_key", bad);
        eventually(why, async || scene.ready().await.contains(why)).await;
        assert_eq!(scene.status("key-2").await, 200, "{why}");
    }

    // Another bad file at the same time makes no difference.
    scene.put("upstream-ca.pem", "no certificate");
    scene.put("password", "password-2");
    eventually("replaced", async || scene.status_of_password("password-2").await == 200).await;
    assert_eq!(scene.status_of_password("password-1").await, 401);
    scene.put("api_key", "key-3");
    scene.process.signal("HUP").await;
    eventually("replaced", async || scene.status("key-3").await == 200).await;
    assert_eq!(scene.status("key-2").await, 401);
    eventually("corrected", async || !scene.ready().await.contains("local credential")).await;
}

#[tokio::test]
async fn a_local_credential_behind_links_is_replaced_like_any_other() {
    let scene = FilesScene::start().await;
    let real = scene.fixture.path("real");
    std::fs::create_dir(&real).unwrap();
    std::fs::write(real.join("api_key"), "linked-1").unwrap();
    let link = scene.fixture.path("new-link");
    symlink("../real/api_key", &link).unwrap();
    std::fs::rename(link, scene.path("api_key")).unwrap();
    eventually("linked", async || scene.status("linked-1").await == 200).await;
    // If changes were noticed only by polling, five would take longer than the deadline.
    let (new, mut key) = (scene.fixture.path("new"), 1);
    eventually("each is replaced", async || {
        if scene.status(&format!("linked-{key}")).await == 200 {
            key += 1;
            std::fs::write(&new, format!("linked-{key}")).unwrap();
            std::fs::rename(&new, real.join("api_key")).unwrap();
        }
        key == 5
    })
    .await;
    assert_eq!(scene.status("linked-1").await, 401, "the old one");
}
