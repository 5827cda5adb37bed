//! Strangers on the listeners: one that connects and says nothing, little, or reads nothing, costs little and
//! shuts nobody out.

use crate::support::process::{Process, with_files};
use crate::support::{DEADLINE, Fixture, eventually, http};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

const USERS: &str = "/api/v1/scim2/Users";
/// As much as the shipped manifests' tests allow the whole process.
const MOST_KIB: u64 = 64 * 1024;
/// Files for a process with room for few callers.
const FILES: u32 = 160;
/// Well below the time-outs of connections that say nothing, which are a minute on the main listener.
const AT_ONCE: Duration = Duration::from_secs(20);

async fn start(files: u32) -> (Fixture, Process) {
    let fixture = Fixture::start().await;
    let process =
        Process::start_by(with_files(files), fixture.folder.path(), &fixture.config("", "")).await;
    let ready = format!("{}/readyz", process.admin);
    eventually("ready", async || status(&ready).await == Some(200)).await;
    (fixture, process)
}

async fn status(url: &str) -> Option<u16> {
    let asked = timeout(AT_ONCE, http().get(url).send()).await.ok()?;
    asked.ok().map(|answer| answer.status().as_u16())
}

/// So many connections that have sent this and read nothing.
async fn strangers(url: &str, count: usize, sends: &[u8]) -> Vec<TcpStream> {
    let host = url.strip_prefix("http://").unwrap();
    let mut strangers = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(host).await.unwrap();
        // One that is cut off while it sends has had its turn, too.
        let _ = stream.write_all(sends).await;
        strangers.push(stream);
    }
    strangers
}

/// Whether the other side ends the connection in time.
async fn is_cut(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn strangers_on_the_admin_listener_cost_little_memory_and_keep_no_probe_waiting() {
    let (_fixture, process) = start(4096).await;
    let unfinished = format!("GET /livez HTTP/1.1\r\nX: {}", "x".repeat(400_000));
    let mut held = strangers(&process.admin, 500, unfinished.as_bytes()).await;
    held.extend(strangers(&process.admin, 200, b"").await);
    let scrapes = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(400);
    held.extend(strangers(&process.admin, 100, scrapes.as_bytes()).await);
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(status(&format!("{}{path}", process.admin)).await, Some(200), "{path}");
    }
    assert_eq!(status(&format!("{}{USERS}", process.url)).await, Some(200));
    let peak = process.peak_memory();
    assert!(peak < MOST_KIB, "the highest resident memory was {peak} KiB");
    assert!(process.open_files() < 200, "{} files are open", process.open_files());
    let begin = Instant::now();
    for stream in &mut held[..700] {
        assert!(is_cut(stream).await, "who asks for nothing is cut off");
    }
    assert!(begin.elapsed() < DEADLINE);
}

#[tokio::test]
async fn strangers_on_the_admin_listener_leave_callers_the_files_that_these_need() {
    let (_fixture, process) = start(FILES).await;
    let _held = strangers(&process.admin, 300, b"GET /livez HTTP/1.1\r\n").await;
    // Each on a connection of its own.
    for _ in 0..5 {
        assert_eq!(status(&format!("{}{USERS}", process.url)).await, Some(200));
    }
    assert_eq!(status(&format!("{}/livez", process.admin)).await, Some(200));
    let log = process.log();
    assert!(!log.contains("open files too low"), "{log}");
}

#[tokio::test]
async fn idle_strangers_on_the_main_listener_make_room_for_callers() {
    let (_fixture, process) = start(FILES).await;
    let mut held = strangers(&process.url, 300, b"").await;
    held.extend(strangers(&process.url, 100, b"GET / HTTP/1.1\r\nHost: ").await);
    for _ in 0..5 {
        assert_eq!(status(&format!("{}{USERS}", process.url)).await, Some(200));
    }
    assert_eq!(status(&format!("{}/livez", process.admin)).await, Some(200));
    assert!(is_cut(&mut held[0]).await, "the first to come are the first to go");
    assert!(process.log().contains("closing idle ones"), "{}", process.log());
}

#[tokio::test]
async fn a_caller_is_refused_only_where_all_others_are_busy() {
    let (fixture, process) = start(FILES).await;
    let slow = bearerd::demo::Faults { tenant_delay_ms: 3_000, ..Default::default() };
    fixture.tenant.set_faults(slow);
    let request = format!("GET {USERS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut busy = strangers(&process.url, 60, request.as_bytes()).await;
    let mut answers = Vec::new();
    for stream in &mut busy {
        let mut answer = String::new();
        timeout(DEADLINE, stream.read_to_string(&mut answer)).await.expect("in time").unwrap();
        answers.push(answer);
    }
    let begins = |with: &str| answers.iter().filter(|answer| answer.starts_with(with)).count();
    let (served, refused) = (begins("HTTP/1.1 200 "), begins("HTTP/1.1 503 "));
    assert!(served >= 8 && refused > 0, "{served} served, {refused} refused");
    assert_eq!(served + refused, answers.len(), "{answers:?}");
    let is_ours = |answer: &String| {
        !answer.contains(" 503 ") || answer.contains("error=connection_limit_reached")
    };
    assert!(answers.iter().all(is_ours), "{answers:?}");
}
