//! Limits of threads and of open files: without a free one the sidecar goes on with what it has,
//! and it recovers when there are free ones again.

use crate::support::process::{Process, bearerd, starting};
use crate::support::raw_client::RawClient;
use crate::support::{Fixture, USERS, eventually, http};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// The first user id for these tests. The limit of processes counts all processes of a user.
const FIRST_USER: u32 = 61_000;

/// Sets a limit of a running process.
fn limit(program: &[&str], pid: u32, limit: &str) {
    let pid = pid.to_string();
    let arguments = [program, &["prlimit", "--pid", &pid, limit]].concat();
    let set = Command::new(arguments[0]).args(&arguments[1..]).status().unwrap();
    assert!(set.success(), "{limit}");
}

async fn status(url: &str, path: &str) -> u16 {
    http().get(format!("{url}{path}")).send().await.unwrap().status().as_u16()
}

async fn ready(process: &Process) -> bool {
    status(&process.admin, "/readyz").await == 200
}

fn logged(process: &Process, what: &str) -> usize {
    process.log().matches(what).count()
}

/// The number of threads of a process.
fn threads(process: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap().count()
}

#[tokio::test]
async fn without_a_free_thread_everything_goes_on() {
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: only root can start a process of another user");
        return;
    }
    let fixture = Fixture::start().await;
    for path in [fixture.folder.path().to_owned(), fixture.path("secret"), fixture.path("ca.pem")] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let user = FIRST_USER + std::process::id() % 1_000;
    let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
    let as_user = ["setpriv", &uid, &gid, "--clear-groups"];
    let mut command = starting(as_user[0]);
    command.args(&as_user[1..]).arg(bearerd().as_std().get_program());
    let config = fixture.configuration();
    let process = Process::start_by(command, fixture.folder.path(), &config).await;
    eventually("ready", async || ready(&process).await).await;

    limit(&as_user, process.pid(), "--nproc=1:");
    let before = threads(&process);
    assert_eq!(status(&process.url, USERS).await, 200, "the first request to the upstream");
    process.signal("HUP").await;
    eventually("asked", async || logged(&process, "The configuration has not changed") > 0).await;

    // A new name to look up, and new files to read.
    let capitals = |url: String| url.replace("localhost", "LOCALHOST");
    let renamed = config
        .rename_upstream("another")
        .client("token_url", capitals(fixture.tenant.token_url()))
        .upstream("url", capitals(fixture.tenant.url()));
    std::fs::write(fixture.path("bearerd.yaml"), renamed.to_string()).unwrap();
    eventually("taken", async || logged(&process, "The new configuration is in force") > 0).await;
    assert_eq!(status(&process.url, USERS).await, 200, "{}", process.log());

    std::fs::write(fixture.path("secret"), fixture.tenant.rotate_client_secret()).unwrap();
    eventually("taken", async || logged(&process, "The new credential is in use") > 0).await;
    assert_eq!(status(&process.url, USERS).await, 200, "{}", process.log());
    assert!(threads(&process) <= before, "it started none");
    assert!(!process.log().contains("panicked"), "{}", process.log());

    process.signal("TERM").await;
    let mut process = process;
    assert_eq!(process.exit_code().await, Some(0));
}

/// The lowest file descriptor that is free in a process.
fn least_free(process: &Process) -> u32 {
    let folder = std::fs::read_dir(format!("/proc/{}/fd", process.pid())).unwrap();
    let open: Vec<u32> =
        folder.map(|file| file.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    (0..).find(|number| !open.contains(number)).unwrap()
}

#[tokio::test]
async fn without_a_free_file_kept_connections_go_on_and_everything_recovers() {
    let fixture = Fixture::start().await;
    let process = Process::start(fixture.folder.path(), &fixture.configuration()).await;
    eventually("ready", async || ready(&process).await).await;
    let host = process.host();
    let mut caller = RawClient::connect(host).await;
    let request = format!("HEAD {USERS} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    caller.send(&request).await;
    assert!(caller.head().await.starts_with("HTTP/1.1 200"));

    limit(&[], process.pid(), &format!("--nofile={}:", least_free(&process)));
    for _ in 0..3 {
        caller.send(&request).await;
        assert!(caller.head().await.starts_with("HTTP/1.1 200"), "{}", process.log());
    }
    process.signal("HUP").await;
    eventually("asked", async || logged(&process, "Keeping the old configuration") > 0).await;
    // A new connection takes the place of an idle one, even before it sends anything.
    let mut others = Vec::new();
    eventually("no file left", async || {
        others.push(RawClient::connect(host).await);
        logged(&process, "closing idle ones") > 0
    })
    .await;
    let mut late = others.pop().unwrap();
    process.signal("HUP").await;
    eventually("asked", async || logged(&process, "Keeping the old configuration") > 1).await;
    late.send(&request).await;
    assert!(late.head().await.starts_with("HTTP/1.1 200"), "{}", process.log());
    assert!(!process.log().contains("panicked"), "{}", process.log());

    limit(&[], process.pid(), "--nofile=10000:");
    eventually("ready", async || ready(&process).await).await;
    assert_eq!(status(&process.url, USERS).await, 200);
    let renamed = fixture.configuration().rename_upstream("another");
    std::fs::write(fixture.path("bearerd.yaml"), renamed.to_string()).unwrap();
    eventually("taken", async || logged(&process, "The new configuration is in force") > 0).await;
    assert_eq!(status(&process.url, USERS).await, 200, "{}", process.log());
}
