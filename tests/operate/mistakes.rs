//! Mistakes that people make, and exactly what they read then.
//!
//! Each table has a mistake, how it is made, and the whole message. `DIR`, `ISSUER`, `TENANT` and
//! the like stand for what differs from run to run.

mod callers;
mod configuration;
mod credentials;
mod servers;

use crate::support::Fixture;
use crate::support::process::{bearerd, output};
use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use tokio::process::Command;

/// A demo tenant, a folder with the files of a configuration, and what their addresses are called
/// in the tables.
struct World {
    fixture: Fixture,
    names: Vec<(String, &'static str)>,
}

const NOW: &str = "2026-01-01T00:00:00Z";

/// How a mistake is made in a configuration that works.
type Edit = fn(&World, &str) -> String;

impl World {
    async fn start() -> Self {
        let fixture = Fixture::start().await;
        let folder = fixture.folder.path().display().to_string();
        let issuer = fixture.tenant.token_url().replace("https://", "");
        let issuer = issuer.replace("/oauth/token", "");
        let tenant = fixture.tenant.url().replace("https://", "");
        let names = vec![
            (folder, "DIR"),
            (issuer.replace("localhost", "127.0.0.1"), "ISSUER"),
            (issuer, "ISSUER"),
            (tenant.replace("localhost", "127.0.0.1"), "TENANT"),
            (tenant, "TENANT"),
            (fixture.tenant.control_addr().to_string(), "CONTROL"),
            (format!("localhost:{}", fixture.tenant.control_addr().port()), "CONTROL"),
            (fixture.tenant.client_id().to_owned(), "ID"),
        ];
        Self { fixture, names }
    }

    /// Calls an address by this name in messages.
    fn call(&mut self, address: impl ToString, name: &'static str) {
        self.names.push((address.to_string(), name));
    }

    /// A configuration without a mistake.
    fn good(&self) -> String {
        let (folder, tenant) = (self.fixture.folder.path().display(), &self.fixture.tenant);
        format!(
            "listen: 127.0.0.1:0
admin: {{ listen: 127.0.0.1:0 }}
clients:
  technical-user:
    token_url: {}
    client_id: {}
    client_secret_file: {folder}/secret
    ca_file: {folder}/ca.pem
upstreams:
  datasphere:
    url: {}
    ca_file: {folder}/ca.pem
",
            tenant.token_url(),
            tenant.client_id(),
            tenant.url()
        )
    }

    /// Writes a file beside the configuration.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.fixture.path(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// Writes a file that not even its owner can read.
    fn write_unreadable(&self, name: &str) -> String {
        let path = self.write(name, "content");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).unwrap();
        path
    }

    fn write_folder(&self, name: &str) -> String {
        let path = self.fixture.path(name);
        std::fs::create_dir(&path).unwrap();
        path.display().to_string()
    }

    /// Runs a command with a configuration to its end.
    async fn run(&self, command: &mut Command, arguments: &[&str], yaml: &str) -> Output {
        let file = self.write("bearerd.yaml", yaml);
        let ended = output(command.args(arguments).arg("--config").arg(&file)).await;
        let out = [&ended.stdout[..], &ended.stderr[..]].concat();
        let secret = self.fixture.tenant.client_secret();
        assert!(!String::from_utf8_lossy(&out).contains(&secret), "no secret in {arguments:?}");
        ended
    }

    /// What `bearerd check` complains about.
    async fn check(&self, yaml: &str) -> String {
        let ended = self.run(&mut bearerd(), &["check"], yaml).await;
        let out = String::from_utf8(ended.stdout).unwrap();
        let warnings = out.lines().filter(|line| line.trim_start().starts_with("warning: "));
        let warnings: Vec<_> = warnings.map(str::trim_start).collect();
        let error = String::from_utf8(ended.stderr).unwrap();
        self.named(&(warnings.join("\n") + &error))
    }

    /// Why `bearerd token` has no token.
    async fn token(&self, yaml: &str) -> String {
        let ended = self.run(&mut bearerd(), &["token"], yaml).await;
        self.named(&String::from_utf8(ended.stderr).unwrap())
    }

    /// The findings of `bearerd doctor` that did not pass.
    async fn doctor(&self, yaml: &str) -> String {
        let ended = self.run(&mut bearerd(), &["doctor", "--json"], yaml).await;
        let findings: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
        let mut text = String::new();
        for finding in findings.as_array().unwrap() {
            if finding["verdict"] == "ok" || finding["verdict"] == "reached" {
                continue;
            }
            let part = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
            let (subject, check, detail) = (part("subject"), part("check"), part("detail"));
            write!(text, "{subject}: {check}: {detail}").unwrap();
            match part("advice") {
                advice if advice.is_empty() => text.push('\n'),
                advice => writeln!(text, " -> {advice}").unwrap(),
            }
        }
        self.named(&text)
    }

    /// A message with names instead of addresses.
    fn named(&self, message: &str) -> String {
        let mut message = message.trim().to_owned();
        for (address, name) in &self.names {
            message = message.replace(address, name);
        }
        // The present time, and how long a call took.
        if let Some((before, after)) = message.split_once("clock says ") {
            message = format!("{before}clock says NOW{}", &after[NOW.len()..]);
        }
        if let Some((before, after)) = message.split_once(" Unauthorized in ") {
            let (_, after) = after.split_once(" ms").unwrap();
            message = format!("{before} Unauthorized in N ms{after}");
        }
        message
    }
}

/// Sets the first occurrence of a key to another value.
fn set(yaml: &str, key: &str, value: &str) -> String {
    let at = yaml.find(&format!(" {key}: ")).unwrap_or_else(|| panic!("{key}: {yaml}")) + 1;
    let end = at + yaml[at..].find('\n').unwrap();
    format!("{}{key}: {value}{}", &yaml[..at], &yaml[end..])
}

/// Compares messages, and shows all that differ.
#[derive(Default)]
struct Comparison(String);

impl Comparison {
    fn compare(&mut self, mistake: &str, expected: &str, message: &str) {
        if expected != message {
            write!(self.0, "\n== {mistake}\nexpected: {expected}\nmessage:  {message}\n").unwrap();
        }
    }

    fn end(self) {
        assert!(self.0.is_empty(), "{}", self.0);
    }
}
