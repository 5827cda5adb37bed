//! What the service manager is sent: a socket of the test stands for systemd's.

use crate::support::process::Process;
use crate::support::{DEADLINE, Fixture};
use tokio::net::UnixDatagram;
use tokio::time::timeout;

/// The service manager's side.
struct Manager(UnixDatagram);

impl Manager {
    /// Waits for a message of which every part begins a line. Returns the message.
    async fn receives(&self, parts: &[&str]) -> String {
        let receiving = async {
            let mut buffer = [0; 4096];
            loop {
                let length = self.0.recv(&mut buffer).await.unwrap();
                let message = String::from_utf8(buffer[..length].to_vec()).unwrap();
                let has = |part: &&str| message.lines().any(|line| line.starts_with(*part));
                if parts.iter().all(has) {
                    return message;
                }
            }
        };
        timeout(DEADLINE, receiving).await.unwrap_or_else(|_| panic!("no {parts:?}"))
    }
}

#[tokio::test]
async fn systemd_hears_when_it_is_ready_reloads_and_stops() {
    let fixture = Fixture::start().await;
    let path = fixture.path("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "3000000")];
    let folder = tempfile::tempdir().unwrap();
    let mut process =
        Process::start_in(folder.path(), &fixture.configuration(), &environment).await;
    manager.receives(&["READY=1"]).await;
    manager.receives(&["WATCHDOG=1"]).await;
    let status = manager.receives(&["STATUS=ready; token until 2"]).await;
    assert!(status.trim_end().ends_with('Z'), "{status}");
    process.signal("HUP").await;
    manager.receives(&["RELOADING=1", "MONOTONIC_USEC="]).await;
    manager.receives(&["READY=1"]).await;
    process.signal("TERM").await;
    manager.receives(&["STOPPING=1"]).await;
    assert_eq!(process.exit_code().await, Some(0));
}

#[tokio::test]
async fn it_is_ready_for_systemd_without_a_token() {
    let fixture = Fixture::start().await;
    std::fs::write(fixture.path("secret"), "wrong").unwrap();
    let path = fixture.path("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let folder = tempfile::tempdir().unwrap();
    let _process = Process::start_in(folder.path(), &fixture.configuration(), &environment).await;
    manager.receives(&["READY=1"]).await;
    manager.receives(&["STATUS=not ready, pending: token of technical-user: "]).await;
}
