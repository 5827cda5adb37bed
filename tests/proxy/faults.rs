//! An upstream, or a forward proxy before it, that fails in every way there is: each request ends in time and in a way that its caller can see, and
//! nothing is left behind. `make faults` goes on for ten minutes; `FAULTS_SEED` repeats a run.

use crate::support::faulty_upstream::{FIRST, FaultyProxy, FaultyUpstream, SECOND, body};
use crate::support::hosts_file::HostsFile;
use crate::support::issuer;
use crate::support::process::Process;
use crate::support::tls::Authority;
use crate::support::{eventually, http};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Connecting and TLS at two addresses, and all the reads of an answer, have a second each: what takes longer has no
/// end.
const LONGEST: Duration = Duration::from_secs(20);
const CALLERS: u64 = 24;
/// How much longer it goes on for what is rare.
const PATIENCE: Duration = Duration::from_secs(60);

fn variable(name: &str, default: u64) -> u64 {
    std::env::var_os(name).map_or(default, |text| text.to_str().unwrap().parse().unwrap())
}

/// How a request ended, for its caller.
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

/// The way to the upstream.
struct Way {
    /// As ALPN names it.
    protocol: &'static str,
    is_proxied: bool,
}

/// Keeps callers busy until the time is up and their requests have ended in all of the expected ways, and tells how
/// often in which.
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

/// Goes this way for a while, and tells how the requests ended: in all of the expected ways and no other.
async fn survive(way: Way, expected: &'static [&'static str]) -> String {
    let seed = variable("FAULTS_SEED", 1);
    let authority = Authority::new();
    let names = Arc::new(HostsFile::new("localhost", &[FIRST, SECOND]));
    // A proxy knows names of its own.
    let moving = (!way.is_proxied).then(|| names.clone());
    let chaos = FaultyUpstream::start(&authority, way.protocol, seed, moving).await;
    let proxy = FaultyProxy::start(seed).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("upstream-ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let issuer = issuer::steady().await;
    let timeouts = "timeouts: { connect: 1s, read: 1s, write: 1s, idle: 2s }";
    let proxied = way.is_proxied.then(|| format!("proxy: \"http://{}\",", proxy.address));
    let config = issuer.config(&chaos.url(), "", "log: { level: info }").replace(
        "timeouts: { connect: 1s, read: 1s }",
        &format!(
            "ca_file: {}, http2: {}, {} {timeouts}",
            ca.display(),
            way.protocol == "h2",
            proxied.unwrap_or_default()
        ),
    );
    let logs = tempfile::tempdir().unwrap();
    let file = folder.path().join("bearerd.yaml");
    std::fs::write(&file, config).unwrap();
    let process = Process::start_among(&names, logs.path(), file.to_str().unwrap()).await;
    eventually("ready", async || request(&process.url, 0).await != "token_unavailable").await;
    let files = process.open_files();

    let ends = ends(&process.url, seed, expected).await;
    let kinds: Vec<_> = ends.keys().map(String::as_str).collect();
    assert_eq!(kinds, expected, "seed {seed}: {ends:?}");
    assert!(ends["whole"] * 2 > ends.values().sum(), "most are whole: {ends:?}");

    // Kept connections end after two seconds.
    eventually("as few open files as before", async || process.open_files() <= files + 2).await;
    let metrics = http().get(format!("{}/metrics", process.admin)).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
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
async fn whatever_the_upstream_does_requests_end_in_time_and_nothing_is_left_behind() {
    println!("{}", survive(Way { protocol: "http/1.1", is_proxied: false }, &DIRECT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_it_does_over_http2_requests_end_in_time_and_nothing_is_left_behind() {
    println!("{}", survive(Way { protocol: "h2", is_proxied: false }, &DIRECT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_forward_proxy_does_requests_end_in_time_and_nothing_is_left_behind() {
    println!("{}", survive(Way { protocol: "http/1.1", is_proxied: true }, &PROXIED).await);
}
