//! Floods of connections that send nothing, send little, or do not read: they cost little and keep
//! no caller out.

use crate::support::process::{Process, with_files};
use crate::support::scene::{DemoScene, unchanged};
use crate::support::{DEADLINE, Fixture, USERS, http};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// The limit that the tests of the shipped manifests set for the whole process.
const MOST_KIB: u64 = 64 * 1024;
/// A limit of open files that leaves room for few callers.
const FILES: u32 = 160;
/// A time well below the timeout of idle connections, which is a minute on the main listener.
const AT_ONCE: Duration = Duration::from_secs(20);

async fn start(files: u32) -> (Fixture, Process) {
    let scene = DemoScene::process_by(with_files(files), unchanged).await;
    (scene.fixture, scene.sidecar)
}

async fn status(url: &str) -> Option<u16> {
    let asked = timeout(AT_ONCE, http().get(url).send()).await.ok()?;
    asked.ok().map(|answer| answer.status().as_u16())
}

/// This many connections that have sent these bytes and do not read.
async fn connections(url: &str, count: usize, sends: &[u8]) -> Vec<TcpStream> {
    let host = url.strip_prefix("http://").unwrap();
    let mut connections = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(host).await.unwrap();
        // A connection may be closed while it sends.
        let _ = stream.write_all(sends).await;
        connections.push(stream);
    }
    connections
}

/// Whether the other side closes the connection in time.
async fn is_cut(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn idle_connections_to_the_admin_listener_cost_little_memory_and_keep_no_probe_waiting() {
    let (_fixture, process) = start(4096).await;
    let unfinished = format!("GET /livez HTTP/1.1\r\nX: {}", "x".repeat(400_000));
    let mut held = connections(&process.admin, 500, unfinished.as_bytes()).await;
    held.extend(connections(&process.admin, 200, b"").await);
    let scrapes = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(400);
    held.extend(connections(&process.admin, 100, scrapes.as_bytes()).await);
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(status(&format!("{}{path}", process.admin)).await, Some(200), "{path}");
    }
    assert_eq!(status(&format!("{}{USERS}", process.url)).await, Some(200));
    let peak = process.peak_memory();
    assert!(peak < MOST_KIB, "the highest resident memory was {peak} KiB");
    assert!(process.open_files() < 200, "{} files are open", process.open_files());
    let begin = Instant::now();
    for stream in &mut held[..700] {
        assert!(is_cut(stream).await, "a connection without a request is closed");
    }
    assert!(begin.elapsed() < DEADLINE);
}

#[tokio::test]
async fn idle_connections_to_the_admin_listener_leave_enough_files_for_callers() {
    let (_fixture, process) = start(FILES).await;
    let _held = connections(&process.admin, 300, b"GET /livez HTTP/1.1\r\n").await;
    // Each request has a connection of its own.
    for _ in 0..5 {
        assert_eq!(status(&format!("{}{USERS}", process.url)).await, Some(200));
    }
    assert_eq!(status(&format!("{}/livez", process.admin)).await, Some(200));
    let log = process.log();
    assert!(!log.contains("Cannot accept a connection"), "{log}");
}

#[tokio::test]
async fn idle_connections_to_the_main_listener_make_room_for_callers() {
    let (_fixture, process) = start(FILES).await;
    let mut held = connections(&process.url, 300, b"").await;
    held.extend(connections(&process.url, 100, b"GET / HTTP/1.1\r\nHost: ").await);
    for _ in 0..5 {
        assert_eq!(status(&format!("{}{USERS}", process.url)).await, Some(200));
    }
    assert_eq!(status(&format!("{}/livez", process.admin)).await, Some(200));
    assert!(is_cut(&mut held[0]).await, "the oldest connection is closed first");
    process.logged("closing idle ones").await;
}

#[tokio::test]
async fn a_caller_is_refused_only_if_all_other_connections_are_busy() {
    let (fixture, process) = start(FILES).await;
    let slow = bearerd::demo::DemoFaults { tenant_delay_ms: 3_000, ..Default::default() };
    fixture.tenant.set_faults(slow);
    let request = format!("GET {USERS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut busy = connections(&process.url, 60, request.as_bytes()).await;
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
    let is_known = |answer: &String| {
        !answer.contains(" 503 ") || answer.contains("error=connection_limit_reached")
    };
    assert!(answers.iter().all(is_known), "{answers:?}");
}
