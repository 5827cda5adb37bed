//! A network of its own for one test, in which a path can go dead: packets vanish, and nobody says so.
//!
//! The test runs once more, in a process of its own in a network namespace, where it may do what it likes. There is
//! just loopback; what is sent to [`FAR`] goes out from one address, and later from another, as on a machine that has
//! changed the network: whatever is sent to the old address is lost, and only there.

use super::process::output;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// Where upstreams are that can be cut off.
pub(crate) const FAR: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 9);
const OLD: &str = "10.9.0.1";
const NEW: &str = "10.9.0.2";
/// For all that a test waits for in there, each with a deadline of its own.
const LONGEST: Duration = Duration::from_secs(180);
/// Says to the test that it is in there.
const INSIDE: &str = "IN_A_NETWORK_OF_ITS_OWN";

pub(crate) struct Network(());

impl Network {
    /// The network, for the test of this name. Nothing if the test has run in it in the meantime, and passed.
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
        command.args(["--user", "--map-root-user", "--net"]);
        command.arg(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]);
        let ran = timeout(LONGEST, command.env(INSIDE, "yes").kill_on_drop(true).output()).await;
        let ran = ran.expect("it ends in time").unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        let (passed, wrong) = (said.contains(" 1 passed;"), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success() && passed, "in a network of its own: {said}\n{wrong}");
        None
    }

    /// From now on, whatever is sent to the address from which connections were opened so far is lost.
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
