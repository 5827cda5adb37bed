//! The access log: one event for each request, with the ids that find it in other systems.

use crate::support::issuer;
use crate::support::process::{Process, address, bearerd, signal, written};
use crate::support::raw_client::{RawClient, exchange};
use crate::support::scene::{Scene, unchanged};
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{DEADLINE, eventually, http};
use serde_json::Value;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

/// The events of the access log.
fn events(process: &Process) -> Vec<Value> {
    let log = process.log();
    let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["target"] == "bearerd::access").collect()
}

/// The events of the access log, as soon as there are this many.
async fn logged(process: &Process, count: usize) -> Vec<Value> {
    eventually("logged", async || events(process).len() >= count).await;
    events(process)
}

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn a_request_is_logged_once_with_the_ids_that_find_it_elsewhere() {
    let Scene { sidecar: process, upstream, .. } = &Scene::process(unchanged).await;
    let ids = "x-correlationid: c-1\r\nx-vcap-request-id: v-1\r\n";
    upstream.script([
        issuer::status("401 Unauthorized", "", ""),
        issuer::status("201 Created", ids, "made"),
    ]);
    let request = http()
        .put(format!("{}/free/a%20b?$top=1", process.url))
        .header("traceparent", TRACE)
        .header("x-correlationid", "of-the-caller")
        .body("12345");
    assert_eq!(request.send().await.unwrap().status(), 201);
    let logged_events = logged(process, 1).await;
    let event = &logged_events[0];
    for (field, value) in [
        ("route", Value::from("/free")),
        ("method", "PUT".into()),
        ("path", "/free/a%20b".into()),
        ("status", 201.into()),
        ("outcome", "forwarded".into()),
        ("attempt", 2.into()),
        ("heal", "unauthorized".into()),
        ("request_bytes", 5.into()),
        ("response_bytes", 4.into()),
        ("correlation_id", "c-1".into()),
        ("vcap_request_id", "v-1".into()),
        ("trace_id", "0af7651916cd43dd8448eb211c80319c".into()),
    ] {
        assert_eq!(event[field], value, "{field} of {event}");
    }
    let duration = event["duration_ms"].as_f64().unwrap();
    assert!(duration >= event["upstream_ms"].as_f64().unwrap() && duration > 0.0, "{event}");
    assert_eq!(logged_events.len(), 1);
    let seen = upstream.seen();
    assert!(seen.iter().all(|seen| seen.header("traceparent") == [TRACE]), "{seen:?}");
}

#[tokio::test]
async fn a_request_without_a_trace_begins_one_that_is_logged() {
    let Scene { sidecar: process, upstream, .. } = &Scene::process(unchanged).await;
    let get = || http().get(format!("{}/free", process.url)).header("tracestate", "v=1");
    get().send().await.unwrap();
    get().header("traceparent", "nonsense").send().await.unwrap();
    let logged_events = logged(process, 2).await;
    for (event, seen) in logged_events.iter().zip(upstream.seen()) {
        let sent = seen.header("traceparent");
        let trace = event["trace_id"].as_str().unwrap();
        assert!(sent.len() == 1 && sent[0].starts_with(&format!("00-{trace}-")), "{sent:?}");
        assert!(seen.header("tracestate").is_empty(), "it belongs to no trace: {}", seen.head);
    }
    assert_ne!(logged_events[0]["trace_id"], logged_events[1]["trace_id"]);
}

#[tokio::test]
async fn a_request_that_cannot_be_parsed_is_logged_too() {
    let Scene { sidecar: process, .. } = &Scene::process(unchanged).await;
    let host = process.host();
    exchange(host, "GET /free HTTP/1.1\r\nno colon here\r\n\r\n").await;
    let event = logged(process, 1).await.remove(0);
    assert_eq!((&event["outcome"], &event["status"]), (&"bad_request".into(), &400.into()));
    assert!(!process.log().contains("no colon here"), "no part of it is quoted");
}

#[cfg(not(feature = "otlp"))]
#[tokio::test]
async fn a_build_without_otlp_logs_once_that_traces_are_not_exported() {
    let issuer = issuer::steady().await;
    let folder = tempfile::tempdir().unwrap();
    let config = issuer.configuration("https://127.0.0.1:9");
    let named = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
    let environment = named.map(|name| (name, "http://127.0.0.1:9"));
    let process = Process::start_in(folder.path(), &config, &environment).await;
    let log = process.log();
    assert_eq!(log.matches("this build has no OTLP export").count(), 1, "{log}");
}

#[tokio::test]
async fn a_reader_of_the_log_that_stalls_does_not_hold_up_requests_or_the_end() {
    let issuer = issuer::steady().await;
    let upstream = Peer::start(Behaviour::ok("fine")).await;
    let folder = tempfile::tempdir().unwrap();
    let yaml = issuer.configuration(&upstream.url()).key("log", "{ level: info }");
    let config = written(folder.path(), &yaml);
    let mut run = bearerd()
        .args(["run", "--config", config.to_str().unwrap()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(run.stderr.take().unwrap()).lines();
    let url = loop {
        let line = lines.next_line().await.unwrap().expect("it listens");
        if let Some(url) = address(&line, "Listening.") {
            break url;
        }
    };
    // From here on the log is not read, and this is more than its buffers hold.
    let long = "x".repeat(6_000);
    for n in 0..300 {
        let answer = http().get(format!("{url}/free/{n}/{long}")).send().await.unwrap();
        assert_eq!(answer.status(), 200, "request {n}");
    }
    signal(run.id().unwrap(), "TERM").await;
    let ended = timeout(DEADLINE, run.wait()).await.expect("it ends").unwrap();
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test]
async fn log_lines_are_short_whatever_a_request_holds() {
    let Scene { sidecar: process, .. } = &Scene::process(unchanged).await;
    let host = process.host().to_owned();
    let long = "x/".repeat(30_000);
    for (path, host_line) in [
        (format!("/free/{long}"), host.clone()),
        (format!("/none/{long}"), host.clone()),
        ("/free".to_owned(), long.replace('/', "\u{e9}")),
    ] {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host_line}\r\nConnection: close\r\n\r\n");
        let answer = exchange(&host, &request).await;
        assert!(answer.len() < 4_096, "{answer}");
    }
    let events = logged(process, 3).await;
    assert_eq!(
        events[0]["path"].as_str().unwrap(),
        format!("/free/{}... (60006 bytes)", &long[..1018])
    );
    for line in process.log().lines() {
        assert!(line.len() < 4_096, "{} bytes: {line}", line.len());
    }
}

#[tokio::test]
async fn a_refused_caller_that_makes_room_for_others_is_logged_all_the_same() {
    // More connections than this limit of requests allows.
    const CALLERS: usize = 300;
    let scene = Scene::process(|config| {
        config.key("limits", "{ requests: 2 }").key("log", "{ level: info }")
    })
    .await;
    let process = &scene.sidecar;
    let host = process.host();
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let mut caller = RawClient::connect(host).await;
        caller.send("POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n").await;
        callers.push(caller);
    }
    let logged_events = logged(process, CALLERS).await;
    let refused = logged_events.iter().filter(|event| event["outcome"] == "no_route").count();
    assert_eq!((refused, logged_events.len()), (CALLERS, CALLERS));
}
