//! An upstream, or a forward proxy, with random faults: each request ends in time and in a way that
//! its caller can notice, and nothing leaks. `make faults` runs for ten minutes. `FAULTS_SEED`
//! repeats a run.

use crate::support::faulty_upstream::{FIRST, FaultyProxy, FaultyUpstream, SECOND, body};
use crate::support::hosts_file::HostsFile;
use crate::support::issuer;
use crate::support::process::{Process, written};
use crate::support::tls::Authority;
use crate::support::{eventually, http};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// The longest request. Connecting and TLS at two addresses, and each read of a response, take at
/// most a second each.
const LONGEST: Duration = Duration::from_secs(20);
const CALLERS: u64 = 24;
/// The extra time for rare results.
const PATIENCE: Duration = Duration::from_secs(60);

fn variable(name: &str, default: u64) -> u64 {
    std::env::var_os(name).map_or(default, |text| text.to_str().unwrap().parse().unwrap())
}

/// The result of a request for its caller.
async fn request(url: &str, number: u64) -> String {
    let is_write = number % 4 == 3;
    let client = http();
    let url = format!("{url}/free/{number}");
    let request = if is_write { client.post(url).body(body(number)) } else { client.get(url) };
    let Ok(answer) = request.send().await else { return "no answer".into() };
    let status = answer.status();
    let expected = body(number);
    match (status.as_u16(), answer.bytes().await) {
        (200, Ok(bytes)) => {
            assert!(bytes == expected, "{number}: {} of {} bytes", bytes.len(), expected.len());
            "whole".into()
        }
        (200, Err(_)) => "cut, and the caller sees it".into(),
        (_, Ok(bytes)) => {
            let problem: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            problem["kind"].as_str().unwrap().to_owned()
        }
        (_, Err(error)) => panic!("{number}: {status} without its body: {error}"),
    }
}

/// The path to the upstream.
struct Way {
    /// The protocol's ALPN name.
    protocol: &'static str,
    is_proxied: bool,
}

/// Sends requests until the time is up and each expected result has occurred. Returns the number of
/// each result.
async fn ends(url: &str, seed: u64, expected: &'static [&'static str]) -> BTreeMap<String, u64> {
    let until = Instant::now() + Duration::from_secs(variable("FAULTS_SECONDS", 15));
    let ends = Arc::new(Mutex::new(BTreeMap::new()));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (url, ends) = (url.to_owned(), ends.clone());
        callers.spawn(async move {
            let is_over = || {
                let now = Instant::now();
                let is_complete =
                    expected.iter().all(|kind| ends.lock().unwrap().contains_key(*kind));
                now >= until && is_complete || now >= until + PATIENCE
            };
            let mut number = caller;
            while !is_over() {
                let ended = timeout(LONGEST, request(&url, number)).await;
                let ended = ended.unwrap_or_else(|_| panic!("request {number} has no end"));
                *ends.lock().unwrap().entry(ended).or_insert(0) += 1;
                number += CALLERS;
            }
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    ends.lock().unwrap().clone()
}

/// Sends requests over this path. Checks that each expected result occurs and no other. Returns a
/// summary.
async fn survive(way: Way, expected: &'static [&'static str]) -> String {
    let seed = variable("FAULTS_SEED", 1);
    let authority = Authority::new();
    let names = Arc::new(HostsFile::new("localhost", &[FIRST, SECOND]));
    // A proxy resolves names by itself.
    let moving = (!way.is_proxied).then(|| names.clone());
    let upstream = FaultyUpstream::start(&authority, way.protocol, seed, moving).await;
    let proxy = FaultyProxy::start(seed).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = authority.write_pem(folder.path());
    let issuer = issuer::steady().await;
    let config = issuer
        .configuration(&upstream.url())
        .key("log", "{ level: info }")
        .upstream("ca_file", ca)
        .upstream("http2", way.protocol == "h2")
        .upstream("timeouts", "{ connect: 1s, read: 1s, write: 1s, idle: 2s }");
    let config = match way.is_proxied {
        true => config.upstream("proxy", format!("\"http://{}\"", proxy.address)),
        false => config,
    };
    let logs = tempfile::tempdir().unwrap();
    let file = written(folder.path(), &config);
    let process = Process::start_among(&names, logs.path(), &file).await;
    eventually("ready", async || request(&process.url, 0).await != "token_unavailable").await;
    let files = process.open_files();

    let ends = ends(&process.url, seed, expected).await;
    let kinds: Vec<_> = ends.keys().map(String::as_str).collect();
    assert_eq!(kinds, expected, "seed {seed}: {ends:?}");
    assert!(ends["whole"] * 2 > ends.values().sum(), "most are whole: {ends:?}");

    // Kept connections end after two seconds.
    eventually("as few open files as before", async || process.open_files() <= files + 2).await;
    let (_, metrics) = process.probe("/metrics").await;
    assert!(metrics.contains("\nbearerd_requests_in_flight 0\n"), "{metrics}");
    let memory = process.peak_memory();
    assert!(memory < 96 << 10, "{memory} KiB");
    format!("{}, seed {seed}: {ends:?}, at most {memory} KiB", way.protocol)
}

const DIRECT: [&str; 5] = [
    "cut, and the caller sees it",
    "upstream_timeout",
    "upstream_tls",
    "upstream_unreachable",
    "whole",
];
const PROXIED: [&str; 6] = [
    "cut, and the caller sees it",
    "upstream_proxy",
    "upstream_timeout",
    "upstream_tls",
    "upstream_unreachable",
    "whole",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_upstream_does_requests_end_in_time_and_nothing_leaks() {
    println!("{}", survive(Way { protocol: "http/1.1", is_proxied: false }, &DIRECT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_it_does_over_http2_requests_end_in_time_and_nothing_leaks() {
    println!("{}", survive(Way { protocol: "h2", is_proxied: false }, &DIRECT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_forward_proxy_does_requests_end_in_time_and_nothing_leaks() {
    println!("{}", survive(Way { protocol: "http/1.1", is_proxied: true }, &PROXIED).await);
}
