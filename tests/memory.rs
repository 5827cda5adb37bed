//! What streams, and who dawdles, leaves the process small.

use crate::support::process::Process;
use crate::support::{Fixture, eventually};
use bearerd::http_client::set_up_tls;
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const GIB: usize = 1 << 30;
const CHUNK: usize = 1 << 20;
const LIMIT_KIB: u64 = 64 * 1024;

/// A caller that waits for minutes.
fn patient() -> reqwest::Client {
    set_up_tls();
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(300)).build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_up_and_one_down_stay_under_64_mib() {
    let fixture = Fixture::start().await;
    let process = Process::start(fixture.folder.path(), &fixture.config("", ""), &[]).await;
    let http = patient();
    let admin = format!("{}/readyz", process.admin);
    eventually("ready", async || http.get(&admin).send().await.unwrap().status() == 200).await;

    let chunk = Bytes::from(vec![42; CHUNK]);
    let chunks =
        stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone())).take(GIB / CHUNK);
    let upload = http
        .post(format!("{}/api/v1/content/jobs", process.url))
        .body(reqwest::Body::wrap_stream(chunks));
    let job: serde_json::Value = upload.send().await.unwrap().json().await.unwrap();
    assert_eq!(job["bytes"], GIB);

    let path = format!("{}/api/v1/content/packages/large?bytes={GIB}", process.url);
    let download = http.get(path).send().await.unwrap();
    let received =
        download.bytes_stream().fold(0, async |sum, chunk| sum + chunk.unwrap().len()).await;
    assert_eq!(received, GIB);

    let peak = process.peak_memory();
    assert!(peak < LIMIT_KIB, "the highest resident memory was {peak} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_does_not_read_its_answer_costs_less_than_a_mebibyte() {
    const SLOW: u64 = 48;
    // More than the system's buffers take on both sides.
    const LARGE: usize = 16 << 20;
    let fixture = Fixture::start().await;
    let process = Process::start(fixture.folder.path(), &fixture.config("", ""), &[]).await;
    let http = patient();
    let url = format!("{}/api/v1/content/packages/large?bytes={LARGE}", process.url);
    let answered = async || http.get(&url).send().await.is_ok_and(|answer| answer.status() == 200);
    eventually("served", answered).await;
    let before = process.peak_memory();
    let slow = join_all((0..SLOW).map(|_| http.get(&url).send())).await;
    for answer in slow {
        assert_eq!(answer.unwrap().bytes().await.unwrap().len(), LARGE);
    }
    let each = (process.peak_memory() - before) / SLOW;
    assert!(each < 1024, "{each} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_callers_that_dawdle_keep_nobody_waiting() {
    const SLOW: usize = 2_000;
    let fixture = Fixture::start().await;
    let process = Process::start(fixture.folder.path(), &fixture.config("", ""), &[]).await;
    let http = patient();
    let url =
        format!("{}/api/v1/datasphere/consumption/relational/DEMO/SALES/SALES?$top=1", process.url);
    let honest = async || http.get(&url).send().await.is_ok_and(|answer| answer.status() == 200);
    eventually("served", honest).await;

    let host = process.url.strip_prefix("http://").unwrap();
    let mut slow = Vec::new();
    for number in 0..SLOW {
        let mut stream = TcpStream::connect(host).await.unwrap();
        // Half of them in the header, half in a body that is read before it is sent on.
        let head = if number % 2 == 0 {
            "GET /api/v1/dwc HTTP/1.1\r\nX-Slow: ".to_owned()
        } else {
            format!(
                "POST /api/v1/scim2/Users HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n"
            )
        };
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let mut second = tokio::time::interval(Duration::from_secs(1));
    for _ in 0..5 {
        second.tick().await;
        for stream in &mut slow {
            stream.write_all(b" ").await.unwrap();
        }
        assert!(honest().await, "an honest caller is served");
    }
    let peak = process.peak_memory();
    assert!(peak < 2 * LIMIT_KIB, "the highest resident memory was {peak} KiB");
}
