//! A network namespace for a single test, in which a path can lose all packets.
//!
//! The test runs again in a process of its own in the namespace. Packets to [`FAR`] have one source
//! address first and another one later, as on a machine that has changed its network. Packets to
//! the old address are lost.

use super::process::output;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// The address of upstreams that can be cut off.
pub(crate) const FAR: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 9);
const OLD: &str = "10.9.0.1";
const NEW: &str = "10.9.0.2";
/// The longest run of the test in the namespace.
const LONGEST: Duration = Duration::from_secs(180);
/// The environment variable that marks the process in the namespace.
const INSIDE: &str = "IN_A_NETWORK_OF_ITS_OWN";

pub(crate) struct Network(());

impl Network {
    /// Returns the network in the namespace. Outside, runs the test with this name in the
    /// namespace, checks that it passes, and returns `None`.
    pub(crate) async fn for_test(name: &str) -> Option<Self> {
        if std::env::var_os(INSIDE).is_some() {
            for address in [OLD, NEW, &FAR.to_string()] {
                ip(&format!("addr add {address}/32 dev lo")).await;
            }
            ip("link set lo up").await;
            send_from(OLD).await;
            return Some(Self(()));
        }
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "--mount"]);
        command.arg(std::env::current_exe().unwrap()).args([
            "--exact",
            name,
            "--nocapture",
            "--include-ignored",
        ]);
        let ran = timeout(LONGEST, command.env(INSIDE, "yes").kill_on_drop(true).output()).await;
        let ran = ran.expect("it ends in time").unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        let (passed, wrong) = (said.contains(" 1 passed;"), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success() && passed, "in a network of its own: {said}\n{wrong}");
        None
    }

    /// Makes names lead to addresses, for all processes of the test.
    pub(crate) async fn name(&self, folder: &Path, hosts: &str) {
        let file = folder.join("hosts");
        std::fs::write(&file, hosts).unwrap();
        let mut mount = Command::new("mount");
        assert!(mount.arg("--bind").arg(file).arg("/etc/hosts").status().await.unwrap().success());
    }

    /// Cuts the path: packets to the source address of connections so far are lost from now on.
    pub(crate) async fn cut(&self) {
        send_from(NEW).await;
        ip(&format!("route del local {OLD} dev lo table local")).await;
        ip(&format!("route add blackhole {OLD} table local")).await;
    }
}

async fn send_from(address: &str) {
    let far = format!("local {FAR} dev lo scope host table local");
    ip(&format!("route replace {far} src {address}")).await;
}

async fn ip(arguments: &str) {
    let ran = output(Command::new("ip").args(arguments.split(' '))).await;
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "ip {arguments}: {said}; make setup installs it");
}
