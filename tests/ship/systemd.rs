//! The service of the .deb on a clean Debian with systemd as process 1.

use super::packages::{NEXT, RELEASE, unpack_debian};
use crate::support::podman::{Podman, make_root};
use crate::support::{SALES, eventually};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
const RUNBOOK: &str = include_str!("../../docs/runbook.md");
/// The demo tenant, in the machine.
const TOKEN_URL: &str = "https://localhost:9001/oauth/token";
const TENANT: &str = "https://localhost:9002";
/// The secret of its client.
const SECRET: &str = "7d3f$aV+/9=demo-only=";
/// The service's process, on the command line.
const PROCESS: &str = "systemctl show --value --property MainPID bearerd";

/// The commands of bearerd that the runbook says to type.
fn commands_of_the_runbook() -> BTreeSet<String> {
    let words: Vec<_> = RUNBOOK.split_whitespace().collect();
    let text = words.join(" ");
    let is_it = |rest: &&str| {
        ["check", "doctor", "token"]
            .iter()
            .any(|name| rest.starts_with(&format!("bearerd {name} -")))
    };
    let rests = text.match_indices("bearerd ").map(|(at, _)| &text[at..]).filter(is_it);
    let commands = rests.map(|rest| rest.split(['`', '#', ';']).next().unwrap().trim().to_owned());
    let commands: BTreeSet<_> = commands.collect();
    assert!(commands.len() >= 3, "{commands:?}");
    commands
}

/// A machine with systemd as process 1, without a network, and with the demo tenant.
struct Machine {
    podman: Podman,
    root: PathBuf,
}

impl Machine {
    async fn start() -> Self {
        let podman = Podman::start();
        let root = podman.folder.path().join("debian");
        unpack_debian(&root);
        let bearerd = Path::new(env!("CARGO_BIN_EXE_bearerd"));
        make_root(&bearerd.parent().unwrap().join("examples/pod"), &root.join("opt/pod"), "pod");
        for folder in ["proc", "shared", "tmp"] {
            std::fs::create_dir(root.join("opt/pod").join(folder)).unwrap();
        }
        // systemd passes credentials through a mount that must reach the other mount namespaces.
        let init = "mount --make-rshared / && exec /lib/systemd/systemd";
        let packages = format!("{PROJECT}/{RELEASE}:/packages:ro");
        let options = ["run", "--detach", "--name", "machine", "--privileged", "--network=none"];
        let rest = ["--systemd=always", "--volume", &packages, "--rootfs"];
        let command = [root.to_str().unwrap(), "sh", "-c", init];
        podman.run(&[&options[..], &rest, &command].concat());
        let machine = Self { podman, root };
        let state = ["is-system-running"];
        eventually("systemd runs", async || machine.systemctl(&state).trim() == "running").await;
        machine
            .podman
            .run(&["exec", "--detach", "machine", "chroot", "/opt/pod", "/pod", "tenant"]);
        machine.run("mount --bind /proc /opt/pod/proc");
        let anchor = machine.path("opt/pod/shared/ca.pem");
        eventually("the tenant runs", async || anchor.exists()).await;
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Runs a command that must succeed. Returns its standard output.
    fn run(&self, command: &str) -> String {
        self.podman.run(&["exec", "machine", "sh", "-c", command])
    }

    /// What systemctl prints, whether it succeeds or not.
    fn systemctl(&self, arguments: &[&str]) -> String {
        let command = [&["exec", "machine", "systemctl"], arguments].concat();
        String::from_utf8(self.podman.try_run(&command).stdout).unwrap()
    }

    /// The answer of a server of this machine.
    fn ask(&self, port: u16, method: &str, target: &str) -> String {
        self.run(&format!("chroot /opt/pod /pod ask {port} {method} '{target}'"))
    }

    fn log(&self) -> String {
        self.run("journalctl --no-pager --output cat --unit bearerd")
    }

    /// Configures it as an operator would.
    fn configure(&self) {
        std::fs::copy(self.path("opt/pod/shared/ca.pem"), self.path("etc/bearerd/ca.pem")).unwrap();
        let answers = [
            "",
            TOKEN_URL,
            "sb-4f0c9a52-demo!b42|client!b7",
            SECRET,
            TENANT,
            "/etc/bearerd/ca.pem",
            "",
        ];
        std::fs::write(self.path("answers"), answers.join("\n")).unwrap();
        self.run("bearerd init </answers");
    }
}

#[tokio::test]
#[ignore = "needs Podman and the .deb; make test-container runs this"]
async fn the_deb_is_installed_configured_started_upgraded_and_removed() {
    let machine = Machine::start().await;
    let installed = machine.run("dpkg --install /packages/*.deb");
    assert!(installed.contains("systemctl enable --now bearerd.socket"), "{installed}");
    assert_eq!(machine.systemctl(&["is-enabled", "bearerd.service"]).trim(), "disabled");
    assert_eq!(machine.systemctl(&["is-enabled", "bearerd.socket"]).trim(), "disabled");
    assert_eq!(machine.systemctl(&["is-active", "bearerd.service"]).trim(), "inactive");
    assert!(machine.run("bearerd version").starts_with("bearerd 0.1.0"));

    machine.configure();
    // As root, without an option: they find the file and the secret.
    assert!(machine.run("bearerd check").contains("The configuration is valid."));
    assert!(machine.run("bearerd token").contains("scope"));
    for command in commands_of_the_runbook() {
        machine.run(&format!("cd /etc/bearerd && {}", command.replace("NAME", "technical-user")));
    }

    machine.run("systemctl enable --now bearerd.socket bearerd.service");
    machine.run("bearerd wait --timeout 20s");
    assert!(machine.ask(8080, "GET", SALES).contains(r#""Region":"AMER""#));
    let status = || machine.run("systemctl show --property StatusText bearerd");
    eventually("ready", async || status().contains("ready; token until")).await;
    // The range of systemd's dynamic users.
    let user: u32 = machine.run(&format!("stat -c %u /proc/$({PROCESS})")).trim().parse().unwrap();
    assert!((61184..=65519).contains(&user), "{user}");

    machine.run("systemctl reload bearerd");
    eventually("reloaded", async || machine.log().contains("reload")).await;

    machine.run("systemctl stop bearerd.service");
    assert!(machine.ask(8080, "GET", SALES).contains(r#""Region":"AMER""#), "the socket starts it");

    let reader = "chroot /opt/pod /pod app fast >/reads";
    machine.podman.run(&["exec", "--detach", "machine", "sh", "-c", reader]);
    let reads = || std::fs::read_to_string(machine.path("reads")).unwrap_or_default();
    let number = || reads().matches("read ").count();
    eventually("reads", async || number() > 100).await;
    let process = || machine.run(PROCESS);
    let before = (process(), number());
    let upgraded = machine.run(&format!("dpkg --install /packages/{NEXT}/*.deb"));
    assert!(!upgraded.contains("enter the values"), "{upgraded}");
    assert_ne!(process(), before.0);
    eventually("reads after the upgrade", async || number() > before.1 + 100).await;
    let reads = reads();
    let refused: Vec<_> = reads.lines().skip(1).filter(|line| *line != "read 200").collect();
    assert!(refused.is_empty(), "{refused:?}");
    let kept = std::fs::read_to_string(machine.path("etc/bearerd/bearerd.yaml")).unwrap();
    assert!(kept.contains("https://localhost:9002"), "{kept}");

    // A caller waits at the socket until an invalid configuration is corrected.
    let configuration = machine.path("etc/bearerd/bearerd.yaml");
    std::fs::write(&configuration, "nonsense: [").unwrap();
    machine.systemctl(&["restart", "bearerd.service"]);
    let caller = format!("chroot /opt/pod /pod ask 8080 GET '{SALES}' >/late");
    machine.podman.run(&["exec", "--detach", "machine", "sh", "-c", &caller]);
    let restarts = || machine.run("systemctl show --value --property NRestarts bearerd");
    eventually("tried again", async || restarts().trim().parse::<u32>().unwrap() >= 1).await;
    assert_eq!(machine.systemctl(&["is-active", "bearerd.socket"]).trim(), "active");
    std::fs::write(&configuration, kept).unwrap();
    let late = || std::fs::read_to_string(machine.path("late")).unwrap_or_default();
    eventually("the late answer", async || late().contains(r#""Region":"AMER""#)).await;

    machine.run("dpkg --remove bearerd");
    assert_eq!(
        machine.systemctl(&["is-active", "bearerd.service", "bearerd.socket"]).trim(),
        "inactive\ninactive"
    );
    assert!(!machine.path("usr/bin/bearerd").exists());
    assert!(machine.path("etc/bearerd/bearerd.yaml").exists());
    machine.run("dpkg --purge bearerd");
    assert!(!machine.path("etc/bearerd/bearerd.yaml").exists());
    assert!(machine.path("etc/bearerd/client_secret").exists(), "it was not the package's");
}

#[tokio::test]
#[ignore = "needs Podman and the .deb; make test-container runs this"]
async fn with_a_fixed_user_the_service_takes_a_new_secret_without_a_restart() {
    let machine = Machine::start().await;
    machine.run("dpkg --install /packages/*.deb");
    machine.configure();
    let drop_in = machine.path("usr/share/doc/bearerd/systemd/fixed-user.conf");
    let text = std::fs::read_to_string(drop_in).unwrap();
    // The commands of its comment.
    let commands: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("#   ")).collect();
    assert_eq!(commands.len(), 2, "{text}");
    machine.run(&commands.join(" && "));
    machine.run(
        "mkdir /etc/systemd/system/bearerd.service.d \
        && cp /usr/share/doc/bearerd/systemd/fixed-user.conf /etc/systemd/system/bearerd.service.d \
        && systemctl daemon-reload && systemctl start bearerd && bearerd wait --timeout 20s",
    );
    let process = machine.run(PROCESS);
    let rotated = machine.ask(9004, "POST", "/rotate-secret");
    let rotated: Value = serde_json::from_str(&rotated).unwrap();
    let secret = rotated["client_secret"].as_str().unwrap();
    std::fs::write(machine.path("etc/bearerd/client_secret"), secret).unwrap();
    eventually("taken", async || machine.log().contains("The new credential is in use.")).await;
    assert_eq!(machine.run(PROCESS), process);
}
