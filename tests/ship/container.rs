//! The image and the shipped pod manifest in Podman: the sidecar, a tool without a shell, and the
//! demo tenant, in one pod without a network.

use crate::support::podman::{Podman, make_root, succeeded};
use crate::support::process::tool;
use crate::support::{DEADLINE, eventually};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const POD: &str = "FROM scratch\nCOPY rootfs/ /\nUSER 65532:65532\nENTRYPOINT [\"/pod\"]\n";
/// The user in the pod.
const USER: &str = "65532";

const APP: &str = "pod-pod-0-app";
const SIDECAR: &str = "pod-pod-0-bearerd";

/// The response of a server in the pod.
fn ask(podman: &Podman, port: u16, method: &str, target: &str, json: &str) -> String {
    podman.run(&["exec", APP, "/pod", "ask", &port.to_string(), method, target, json])
}

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
    make_root(bearerd, &Path::new(ROOT).join("target/image"), "bearerd");
    let file = "deploy/image/Containerfile";
    podman.run(&["build", "--quiet", "--target", "local", "-f", file, "-t", "bearerd:test", "."]);
    let context = podman.folder.path().join("pod");
    make_root(&pod, &context.join("rootfs"), "pod");
    std::fs::write(context.join("Containerfile"), POD).unwrap();
    podman.run(&["build", "--quiet", "-t", "pod:test", context.to_str().unwrap()]);

    let mut kustomize = Command::new(tool("kubectl"));
    let built = kustomize.args(["kustomize", "tests/container/pod"]).current_dir(ROOT).output();
    let manifest = podman.folder.path().join("kube.yaml");
    std::fs::write(&manifest, succeeded(&built.unwrap(), "kubectl kustomize")).unwrap();
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
    let rotated = ask(&podman, 9004, "POST", "/rotate-secret", "");
    let rotated: Value = serde_json::from_str(&rotated).unwrap();
    std::fs::write(&secret, rotated["client_secret"].as_str().unwrap()).unwrap();
    eventually("taken", async || podman.logs(SIDECAR).contains("The new credential is in use."))
        .await;
    ask(&podman, 9004, "DELETE", "/old-secrets", "");
    let issued = || podman.logs(SIDECAR).matches("New access token.").count();
    let tokens = issued();
    eventually("refreshed with the new secret alone", async || issued() > tokens).await;
    let since = reads(&podman).split_off(before);
    assert!(since.len() > 10 && since.iter().all(|read| read == "200"), "{since:?}");

    // A read is in flight most of the time when the sidecar is stopped.
    ask(&podman, 9004, "PUT", "/faults", r#"{"tenant_delay_ms":1500,"token_lifetime":600}"#);
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
