//! The service manager: what it is sent, and sockets that it passes. The tests stand for systemd.

use crate::support::process::{Process, output, starting, written};
use crate::support::{DEADLINE, Fixture, eventually, http};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::UnixDatagram;
use tokio::process::Command;
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

/// A command that becomes bearerd with this listening socket, as systemd passes it.
fn with_socket(listener: &TcpListener) -> Command {
    // systemd puts the first socket at number 3.
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"";
    let mut command = starting("/bin/sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_bearerd")]);
    command.stdin(OwnedFd::from(listener.try_clone().unwrap()));
    command
}

/// Starts bearerd with this listening socket.
async fn start_with_socket(fixture: &Fixture, folder: &Path, listener: &TcpListener) -> Process {
    let config = fixture.configuration().key("listen", listener.local_addr().unwrap());
    Process::start_by(with_socket(listener), folder, &config).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_caller_is_refused_while_it_restarts_with_a_socket_of_systemd() {
    const CALLS: usize = 400;
    let fixture = Fixture::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api/v1/scim2/Users", listener.local_addr().unwrap());
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut first = start_with_socket(&fixture, folders[0].path(), &listener).await;
    let called = Arc::new(AtomicUsize::new(0));
    let counter = called.clone();
    let calls = tokio::spawn(async move {
        for _ in 0..CALLS {
            let answer = http().get(&url).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    eventually("some calls", async || called.load(Ordering::Relaxed) > CALLS / 4).await;
    first.signal("TERM").await;
    assert_eq!(first.exit_code().await, Some(0));
    let before = called.load(Ordering::Relaxed);
    assert!(before < CALLS, "the restart came too late");
    let _second = start_with_socket(&fixture, folders[1].path(), &listener).await;
    timeout(DEADLINE, calls).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_socket_that_the_configuration_does_not_name_is_refused() {
    let fixture = Fixture::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = written(fixture.folder.path(), &fixture.configuration());
    let ran = output(with_socket(&listener).args(["run", "--config"]).arg(config)).await;
    let errors = String::from_utf8(ran.stderr).unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(ran.status.code(), Some(1), "{errors}");
    let message = format!("systemd passed a socket for {address}, which is neither in `listen`");
    assert!(errors.contains(&message), "{errors}");
}
