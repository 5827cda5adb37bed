//! The image and the shipped pod manifest in Podman: the sidecar, a tool without a shell, and the
//! demo tenant, in one pod without a network.

use crate::support::process::tool;
use crate::support::{DEADLINE, eventually};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Podman's settings for a machine without systemd, with limits that it may set there.
const CONTAINERS: &str = r#"[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"#;
const POD: &str = "FROM scratch\nCOPY rootfs/ /\nUSER 65532:65532\nENTRYPOINT [\"/pod\"]\n";
/// The user in the pod.
const USER: &str = "65532";

/// Podman with its own storage. Its images, containers and volumes are removed with it.
struct Podman {
    folder: TempDir,
}

impl Podman {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("containers.conf"), CONTAINERS).unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\nrunroot = \"{}\"\ngraphroot = \"{}\"\n",
            at("run"),
            at("graph")
        );
        std::fs::write(folder.path().join("storage.conf"), storage).unwrap();
        Self { folder }
    }

    fn try_run(&self, arguments: &[&str]) -> Output {
        Command::new("podman")
            .args(arguments)
            .current_dir(ROOT)
            .env("CONTAINERS_CONF", self.folder.path().join("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.folder.path().join("storage.conf"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn run(&self, arguments: &[&str]) -> String {
        text(&self.try_run(arguments), &format!("podman {arguments:?}"))
    }

    /// Makes the root file system of an image with only a binary of this build.
    fn image(&self, binary: &Path, root: &Path, name: &str) {
        let script = Path::new(ROOT).join("deploy/image/rootfs.sh");
        let output = Command::new("sh").arg(script).arg(binary).arg(root).arg(name).output();
        text(&output.unwrap(), "rootfs.sh");
    }

    fn logs(&self, container: &str) -> String {
        let output = self.try_run(&["logs", container]);
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat()
    }

    fn inspect(&self, container: &str, what: &str) -> String {
        self.run(&["inspect", "--format", what, container]).trim().to_owned()
    }

    /// The response of a server in the pod.
    fn ask(&self, port: u16, method: &str, target: &str, json: &str) -> String {
        let port = port.to_string();
        self.run(&["exec", APP, "/pod", "ask", &port, method, target, json])
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.try_run(&["pod", "rm", "--all", "--force", "--time", "0"]);
    }
}

fn text(output: &Output, what: &str) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {error}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

const APP: &str = "pod-pod-0-app";
const SIDECAR: &str = "pod-pod-0-bearerd";

/// The statuses of the app's reads so far.
fn reads(podman: &Podman) -> Vec<String> {
    let logs = podman.logs(APP);
    logs.lines().filter_map(|line| line.strip_prefix("read ")).map(str::to_owned).collect()
}

fn field<'a>(status: &'a str, name: &str) -> Vec<&'a str> {
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().skip(1).collect()
}

/// Checks the privileges of the sidecar's process from outside.
fn check_confinement(podman: &Podman) {
    let pid = podman.inspect(SIDECAR, "{{.State.Pid}}");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert_eq!(field(&status, "Uid:"), [USER; 4]);
    assert_eq!(field(&status, "Gid:"), [USER; 4]);
    for set in ["CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(&status, set), ["0000000000000000"], "{set}");
    }
    assert_eq!((field(&status, "NoNewPrivs:"), field(&status, "Seccomp:")), (vec!["1"], vec!["2"]));
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert!(root.split(' ').nth(5).unwrap().split(',').any(|option| option == "ro"), "{root}");
}

#[tokio::test]
#[ignore = "needs Podman; make test-container installs it and runs this"]
async fn the_shipped_pod_reads_survives_a_rotation_and_drains() {
    let podman = Podman::start();
    let bearerd = Path::new(env!("CARGO_BIN_EXE_bearerd"));
    let pod: PathBuf = bearerd.parent().unwrap().join("examples/pod");
    podman.image(bearerd, &Path::new(ROOT).join("target/image"), "bearerd");
    let file = "deploy/image/Containerfile";
    podman.run(&["build", "--quiet", "--target", "local", "-f", file, "-t", "bearerd:test", "."]);
    let context = podman.folder.path().join("pod");
    podman.image(&pod, &context.join("rootfs"), "pod");
    std::fs::write(context.join("Containerfile"), POD).unwrap();
    podman.run(&["build", "--quiet", "-t", "pod:test", context.to_str().unwrap()]);

    let mut kustomize = Command::new(tool("kubectl"));
    let built = kustomize.args(["kustomize", "tests/container/pod"]).current_dir(ROOT).output();
    let manifest = podman.folder.path().join("kube.yaml");
    std::fs::write(&manifest, text(&built.unwrap(), "kubectl kustomize")).unwrap();
    podman.run(&["kube", "play", "--network", "none", manifest.to_str().unwrap()]);

    // Podman 4.3 mounts a Secret as it is written, in base64: the sidecar starts with a wrong one.
    eventually("refused", async || reads(&podman).iter().any(|read| read == "503")).await;
    let app = podman.logs(APP).lines().next().unwrap().to_owned();
    let uids = [USER; 4].join(",");
    let wanted =
        format!("app uid={uids} caps=0000000000000000 no_new_privs=1 read_only=true shell=false");
    assert_eq!(app, wanted);
    check_confinement(&podman);

    let folder = podman.run(&["volume", "inspect", "--format", "{{.Mountpoint}}", "bearerd"]);
    let secret = Path::new(folder.trim()).join("client_secret");
    std::fs::write(&secret, "7d3f$aV+/9=demo-only=").unwrap();
    eventually("read", async || reads(&podman).last().is_some_and(|read| read == "200")).await;

    let before = reads(&podman).len();
    let rotated = podman.ask(9004, "POST", "/rotate-secret", "");
    let rotated: Value = serde_json::from_str(&rotated).unwrap();
    std::fs::write(&secret, rotated["client_secret"].as_str().unwrap()).unwrap();
    eventually("taken", async || podman.logs(SIDECAR).contains("The new credential is in use."))
        .await;
    podman.ask(9004, "DELETE", "/old-secrets", "");
    let issued = || podman.logs(SIDECAR).matches("New access token.").count();
    let tokens = issued();
    eventually("refreshed with the new secret alone", async || issued() > tokens).await;
    let since = reads(&podman).split_off(before);
    assert!(since.len() > 10 && since.iter().all(|read| read == "200"), "{since:?}");

    // A read is in flight most of the time when the sidecar is stopped.
    podman.ask(9004, "PUT", "/faults", r#"{"tenant_delay_ms":1500,"token_lifetime":600}"#);
    let slow = reads(&podman).len() + 2;
    eventually("slow", async || reads(&podman).len() >= slow).await;
    let limit = DEADLINE.as_secs().to_string();
    podman.run(&["stop", "--time", &limit, SIDECAR]);
    assert_eq!(podman.inspect(SIDECAR, "{{.State.ExitCode}}"), "0");
    assert!(podman.logs(SIDECAR).contains("bearerd has stopped."));
    eventually("gone", async || reads(&podman).last().is_some_and(|read| read.contains("refused")))
        .await;
    let last = reads(&podman).split_off(slow);
    let is_clean = |read: &String| read == "200" || read.starts_with("Connection refused");
    assert!(last.iter().all(is_clean), "{last:?}");
}
