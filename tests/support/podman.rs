//! Podman, for images, pods and whole machines.

use std::path::Path;
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

/// Podman with its own storage. Its images, containers and volumes are removed with it.
pub(crate) struct Podman {
    pub(crate) folder: TempDir,
}

impl Podman {
    pub(crate) fn start() -> Self {
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

    pub(crate) fn try_run(&self, arguments: &[&str]) -> Output {
        Command::new("podman")
            .args(arguments)
            .current_dir(ROOT)
            .env("CONTAINERS_CONF", self.folder.path().join("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.folder.path().join("storage.conf"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs a command that must succeed. Returns its standard output.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        succeeded(&self.try_run(arguments), &format!("podman {arguments:?}"))
    }

    pub(crate) fn logs(&self, container: &str) -> String {
        let output = self.try_run(&["logs", container]);
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat()
    }

    pub(crate) fn inspect(&self, container: &str, what: &str) -> String {
        self.run(&["inspect", "--format", what, container]).trim().to_owned()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.try_run(&["pod", "rm", "--all", "--force", "--time", "0"]);
        self.try_run(&["rm", "--all", "--force", "--time", "0"]);
    }
}

/// Makes the root file system of an image with only a binary of this build.
pub(crate) fn make_root(binary: &Path, root: &Path, name: &str) {
    let script = Path::new(ROOT).join("deploy/image/rootfs.sh");
    let output = Command::new("sh").arg(script).arg(binary).arg(root).arg(name).output();
    succeeded(&output.unwrap(), "rootfs.sh");
}

/// The standard output of a command that must have succeeded.
pub(crate) fn succeeded(output: &Output, what: &str) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {error}");
    String::from_utf8(output.stdout.clone()).unwrap()
}
