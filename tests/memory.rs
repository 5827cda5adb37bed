//! Bodies are streamed: a gibibyte each way leaves the process small.

use crate::support::process::Process;
use crate::support::{Fixture, eventually};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use std::time::Duration;

const GIB: usize = 1 << 30;
const CHUNK: usize = 1 << 20;
const LIMIT_KIB: u64 = 64 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_up_and_one_down_stay_under_64_mib() {
    let fixture = Fixture::start().await;
    let process = Process::start(fixture.folder.path(), &fixture.config("", ""), &[]).await;
    let http =
        reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(300)).build().unwrap();
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
