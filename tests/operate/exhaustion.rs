//! When the system has no thread or no file to give any more: nothing ends, what is known stays in use, and
//! all is well again when it has.

use crate::support::process::{Process, bearerd, starting};
use crate::support::raw_client::RawClient;
use crate::support::{Fixture, eventually, http};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const USERS: &str = "/api/v1/scim2/Users";
/// Nobody else's, so that its limit of processes counts this process alone.
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

fn told(process: &Process, what: &str) -> usize {
    process.log().matches(what).count()
}

/// Its threads.
fn threads(process: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap().count()
}

#[tokio::test]
async fn without_a_thread_to_have_everything_goes_on() {
    if !rustix::process::getuid().is_root() {
        eprintln!("only root can start a process of another user: nothing to see");
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
    let config = fixture.config("", "");
    let process = Process::start_by(command, fixture.folder.path(), &config).await;
    eventually("ready", async || ready(&process).await).await;

    limit(&as_user, process.pid(), "--nproc=1:");
    let before = threads(&process);
    assert_eq!(status(&process.url, USERS).await, 200, "the first request to the upstream");
    process.signal("HUP").await;
    eventually("asked", async || told(&process, "The configuration has not changed") > 0).await;

    // A name that was never looked up, and files that were never read.
    let renamed = config.replace("datasphere:", "another:").replace("localhost", "LOCALHOST");
    std::fs::write(fixture.path("bearerd.yaml"), renamed).unwrap();
    eventually("taken", async || told(&process, "The new configuration is in force") > 0).await;
    assert_eq!(status(&process.url, USERS).await, 200, "{}", process.log());

    std::fs::write(fixture.path("secret"), fixture.tenant.rotate_client_secret()).unwrap();
    eventually("taken", async || told(&process, "The new credential is in use") > 0).await;
    assert_eq!(status(&process.url, USERS).await, 200, "{}", process.log());
    assert!(threads(&process) <= before, "it did not need any");
    assert!(!process.log().contains("panicked"), "{}", process.log());

    process.signal("TERM").await;
    let mut process = process;
    assert_eq!(process.exit_code().await, Some(0));
}

/// The least number that no open file of a process has.
fn least_free(process: &Process) -> u32 {
    let folder = std::fs::read_dir(format!("/proc/{}/fd", process.pid())).unwrap();
    let open: Vec<u32> =
        folder.map(|file| file.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    (0..).find(|number| !open.contains(number)).unwrap()
}

#[tokio::test]
async fn with_the_files_used_up_kept_connections_go_on_and_all_recovers() {
    let fixture = Fixture::start().await;
    let process = Process::start(fixture.folder.path(), &fixture.config("", ""), &[]).await;
    eventually("ready", async || ready(&process).await).await;
    let host = process.url.strip_prefix("http://").unwrap();
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
    eventually("asked", async || told(&process, "Keeping the configuration in force") > 0).await;
    // Who comes now takes the place of one that is idle, and may take its time.
    let mut others = Vec::new();
    eventually("no file left", async || {
        others.push(RawClient::connect(host).await);
        told(&process, "closing idle ones") > 0
    })
    .await;
    let mut late = others.pop().unwrap();
    process.signal("HUP").await;
    eventually("asked", async || told(&process, "Keeping the configuration in force") > 1).await;
    late.send(&request).await;
    assert!(late.head().await.starts_with("HTTP/1.1 200"), "{}", process.log());
    assert!(!process.log().contains("panicked"), "{}", process.log());

    limit(&[], process.pid(), "--nofile=10000:");
    eventually("ready", async || ready(&process).await).await;
    assert_eq!(status(&process.url, USERS).await, 200);
    let renamed = fixture.config("", "").replace("datasphere:", "another:");
    std::fs::write(fixture.path("bearerd.yaml"), renamed).unwrap();
    eventually("taken", async || told(&process, "The new configuration is in force") > 0).await;
    assert_eq!(status(&process.url, USERS).await, 200, "{}", process.log());
}
