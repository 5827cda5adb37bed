//! Memory of the process under large bodies, slow clients and many connections.

mod growth;

use crate::support::configuration::Configuration;
use crate::support::process::Process;
use crate::support::scene::unchanged;
use crate::support::upstream::Peer;
use crate::support::{Fixture, accepting, eventually, issuer};
use bearerd::http_client::set_up_tls;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

const GIB: usize = 1 << 30;
const CHUNK: usize = 1 << 20;
const LIMIT_KIB: u64 = 64 * 1024;

/// An HTTP client with a timeout of minutes.
fn patient() -> reqwest::Client {
    set_up_tls();
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(300)).build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_up_and_one_down_stay_under_64_mib() {
    let fixture = Fixture::start().await;
    let process = Process::start(fixture.folder.path(), &fixture.configuration()).await;
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
    // More than the system's buffers hold on both sides.
    const LARGE: usize = 16 << 20;
    let fixture = Fixture::start().await;
    let process = Process::start(fixture.folder.path(), &fixture.configuration()).await;
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

#[tokio::test]
async fn the_memory_of_the_start_returns_to_the_system() {
    // More than the certificates of any system. Their text is needed only at the start.
    const COPIES: usize = 4000;
    let fixture = Fixture::start().await;
    let anchors = fixture.folder.path().join("anchors.pem");
    let certificate = std::fs::read_to_string(fixture.path("ca.pem")).unwrap();
    std::fs::write(&anchors, certificate.repeat(COPIES)).unwrap();
    let environment = [("SSL_CERT_FILE", anchors.to_str().unwrap())];
    let folder = fixture.folder.path();
    let process = Process::start_in(folder, &fixture.configuration(), &environment).await;
    let mut peak = 0;
    let is_returned = async || {
        let now = process.anonymous_memory();
        peak = peak.max(now);
        now + 1024 < peak
    };
    eventually("returned", is_returned).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_slow_callers_keep_no_other_caller_waiting() {
    const SLOW: usize = 2_000;
    let fixture = Fixture::start().await;
    let process = Process::start(fixture.folder.path(), &fixture.configuration()).await;
    let http = patient();
    let url =
        format!("{}/api/v1/datasphere/consumption/relational/DEMO/SALES/SALES?$top=1", process.url);
    let honest = async || http.get(&url).send().await.is_ok_and(|answer| answer.status() == 200);
    eventually("served", honest).await;

    let host = process.host();
    let mut slow = Vec::new();
    for number in 0..SLOW {
        let mut stream = TcpStream::connect(host).await.unwrap();
        // Half of them are slow in the header, half in a body that is read before it is sent on.
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

/// A tenant's response.
struct Page {
    /// The header lines without the length.
    header: String,
    start: Vec<u8>,
    /// A mebibyte of the body. It may be repeated.
    middle: Vec<u8>,
    end: Vec<u8>,
}

impl Page {
    /// A page of similar rows, which compresses 300 to 1 or better.
    fn of_rows() -> Self {
        let row = |id: usize| {
            format!(
                r#"{{"ID":{},"Region":"EMEA","Product":"Bicycle","Amount":79.19}},"#,
                1000 + id / 100
            )
        };
        Self::of(&(0..CHUNK / row(0).len()).map(row).collect::<String>())
    }

    /// A page that compresses as well as possible: nearly 1,000 to 1.
    fn of_spaces() -> Self {
        let digits: String =
            (0..40_u64).map(|n| (n.wrapping_mul(0x9e37_79b9) % 10).to_string()).collect();
        Self::of(&format!("\"{digits}\",{}", " ".repeat(CHUNK - 43)))
    }

    fn of(middle: &str) -> Self {
        Self {
            header: "content-type: application/json\r\ncontent-encoding: gzip\r\n".to_owned(),
            start: gzip("{\"value\":["),
            middle: gzip(middle),
            end: gzip("0]}"),
        }
    }

    fn ratio(&self) -> usize {
        CHUNK / self.middle.len()
    }
}

fn gzip(plain: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Pages by the path segment that selects them.
type Pages = Vec<(&'static str, Page)>;

/// A tenant whose paths end with the name of a page and the number of its middle parts. The first
/// page is the default. Of a POST request it reads only the header and never answers. If the path
/// has `drained` in it, it reads the whole body.
struct Flood {
    url: String,
    /// Compressed bytes written so far.
    written: Arc<AtomicUsize>,
    /// Bytes of uploads read so far.
    drained: Arc<AtomicUsize>,
    _serving: AbortOnDropHandle<()>,
}

impl Flood {
    async fn start(pages: Pages) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (pages, written) = (Arc::new(pages), Arc::new(AtomicUsize::new(0)));
        let drained = Arc::new(AtomicUsize::new(0));
        let counted = (written.clone(), drained.clone());
        let serving =
            accepting(listener, move |stream| flood(stream, pages.clone(), counted.clone()));
        Self { url, written, drained, _serving: serving }
    }
}

async fn flood(
    mut stream: TcpStream,
    pages: Arc<Pages>,
    (written, drained): (Arc<AtomicUsize>, Arc<AtomicUsize>),
) -> Option<()> {
    let mut scratch = vec![0; 64 << 10];
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap();
        let target = head.split(' ').nth(1).unwrap();
        if head.starts_with("POST") {
            while target.contains("drained") {
                let count = stream.read(&mut scratch).await.ok().filter(|count| *count > 0)?;
                drained.fetch_add(count, Ordering::Relaxed);
            }
            std::future::pending::<()>().await;
        }
        let target = target.strip_suffix("/$batch").unwrap_or(target);
        let (path, count) = target.rsplit_once('/').unwrap();
        // A path without a number is the fetch of a CSRF token.
        let count: usize = count.parse().unwrap_or(0);
        let named = pages.iter().find(|(name, _)| path.ends_with(name));
        let (_, page) = named.or_else(|| pages.first()).unwrap();
        let length = page.start.len() + count * page.middle.len() + page.end.len();
        let head = format!("HTTP/1.1 200 OK\r\n{}content-length: {length}\r\n\r\n", page.header);
        stream.write_all(&[head.as_bytes(), &page.start].concat()).await.ok()?;
        for _ in 0..count {
            stream.write_all(&page.middle).await.ok()?;
            written.fetch_add(page.middle.len(), Ordering::Relaxed);
        }
        stream.write_all(&page.end).await.ok()?;
    }
}

/// A sidecar in a process of its own before a [`Flood`].
struct MemoryScene {
    process: Process,
    flood: Flood,
    http: reqwest::Client,
    _issuer: Peer,
    _folder: TempDir,
}

/// A number of mebibytes that no client reads to the end.
const ENDLESS: usize = 1 << 20;

impl MemoryScene {
    async fn start(page: Page) -> Self {
        Self::of(vec![("", page)], unchanged).await
    }

    /// Starts a sidecar before a tenant with these pages.
    async fn of(pages: Pages, change: impl FnOnce(Configuration) -> Configuration) -> Self {
        let (issuer, flood) = (issuer::steady().await, Flood::start(pages).await);
        let folder = tempfile::tempdir().unwrap();
        let config = issuer
            .configuration(&flood.url)
            .key("log", "{ level: info }")
            .upstream("timeouts", "{ connect: 1s, read: 60s }");
        let process = Process::start(folder.path(), &change(config)).await;
        let scene = Self { process, flood, http: patient(), _issuer: issuer, _folder: folder };
        let served = async || {
            scene.http.get(scene.url(0)).send().await.is_ok_and(|answer| answer.status() == 200)
        };
        eventually("served", served).await;
        scene
    }

    /// The URL of this many mebibytes.
    fn url(&self, mebibytes: usize) -> String {
        format!("{}/data/{mebibytes}", self.process.url)
    }

    /// Reads this many mebibytes and returns the number of bytes.
    async fn read(&self, mebibytes: usize) -> usize {
        let answer = self.http.get(self.url(mebibytes)).send().await.unwrap();
        answer.bytes_stream().fold(0, async |sum, chunk| sum + chunk.unwrap().len()).await
    }

    /// Waits until the sidecar reads no more from the tenant.
    async fn is_held_up(&self) {
        let mut before = 0;
        eventually("nothing more is read", async || {
            // Work that was ready before this request is done when its response comes.
            self.read(0).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = self.flood.written.load(Ordering::Relaxed);
            std::mem::replace(&mut before, now) == now
        })
        .await;
    }

    /// Sends this header on a new connection and does not read.
    async fn send(&self, head: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.process.host()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    /// A client that requests a page without end and does not read it.
    async fn deaf(&self) -> TcpStream {
        self.send(&format!("GET /data/{ENDLESS} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
    }

    /// A client that sends this chunk again and again.
    async fn upload(&self, path: &str, content_type: &str, chunk: String) -> AbortOnDropHandle<()> {
        self.upload_with(path, content_type, "", chunk).await
    }

    /// An upload with another first chunk, if that is not empty.
    async fn upload_with(
        &self,
        path: &str,
        content_type: &str,
        first: &str,
        chunk: String,
    ) -> AbortOnDropHandle<()> {
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        if !first.is_empty() {
            head += &format!("{:x}\r\n{first}\r\n", first.len());
        }
        let mut stream = self.send(&head).await;
        let written = self.flood.written.clone();
        let chunk = format!("{:x}\r\n{chunk}\r\n", chunk.len());
        AbortOnDropHandle::new(tokio::spawn(async move {
            while stream.write_all(chunk.as_bytes()).await.is_ok() {
                written.fetch_add(chunk.len(), Ordering::Relaxed);
            }
        }))
    }

    /// An upload whose content the sidecar does not read.
    async fn plain_upload(&self) -> AbortOnDropHandle<()> {
        self.upload("/free/x", "application/octet-stream", "x".repeat(16 << 10)).await
    }

    /// An endless batch of reads.
    async fn batch(&self) -> AbortOnDropHandle<()> {
        let name = "x".repeat(1000);
        let part = format!(
            "--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\nGET http://localhost/data/{name} HTTP/1.1\r\nAccept: application/json\r\n\r\n\r\n"
        );
        self.upload("/data/$batch", "multipart/mixed; boundary=b", part.repeat(14)).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_callers_of_any_kind_leave_it_under_64_mib() {
    const CALLERS: usize = 8;
    for (page, ratios) in [(Page::of_rows(), 300..1000), (Page::of_spaces(), 900..1000)] {
        assert!(ratios.contains(&page.ratio()), "{}", page.ratio());
        let scene = MemoryScene::start(page).await;
        // The first mebibytes of a page may have any compression ratio.
        let readers = join_all((0..CALLERS).map(|_| scene.read(40))).await;
        assert!(readers.iter().all(|bytes| *bytes > 39 * CHUNK), "{readers:?}");
        let _deaf = join_all((0..CALLERS).map(|_| scene.deaf())).await;
        scene.is_held_up().await;
        let peak = scene.process.peak_memory();
        assert!(peak < LIMIT_KIB, "the highest resident memory was {peak} KiB");
    }
    let scene = MemoryScene::start(Page::of_rows()).await;
    let mut uploads = join_all((0..CALLERS / 2).map(|_| scene.plain_upload())).await;
    uploads.extend(join_all((0..CALLERS / 2).map(|_| scene.batch())).await);
    scene.is_held_up().await;
    let peak = scene.process.peak_memory();
    assert!(peak < LIMIT_KIB, "the highest resident memory was {peak} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_further_caller_of_any_kind_costs_less_than_a_mebibyte() {
    const FURTHER: u64 = 48;
    for kind in ["deaf to rows", "deaf to spaces", "fast", "upload", "batch"] {
        let page = if kind == "deaf to spaces" { Page::of_spaces() } else { Page::of_rows() };
        let scene = MemoryScene::start(page).await;
        scene.read(1).await;
        let before = scene.process.peak_memory();
        let (mut deaf, mut uploads) = (Vec::new(), Vec::new());
        for _ in 0..FURTHER {
            match kind {
                "upload" => uploads.push(scene.plain_upload().await),
                "batch" => uploads.push(scene.batch().await),
                "fast" => {}
                _ => deaf.push(scene.deaf().await),
            }
        }
        if kind == "fast" {
            join_all((0..FURTHER).map(|_| scene.read(4))).await;
        }
        scene.is_held_up().await;
        let each = (scene.process.peak_memory() - before) / FURTHER;
        assert!(each < 1024, "{kind}: {each} KiB");
    }
}

/// Callers that read as fast as they can.
const READERS: usize = 4;

/// The median of the bytes that [`READERS`] fast readers of this URL get while another caller waits
/// for its response.
async fn read_by_others(scene: &Arc<MemoryScene>, url: &str) -> usize {
    const ASKED: usize = 20;
    let read = Arc::new(AtomicUsize::new(0));
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let (scene, read, url) = (scene.clone(), read.clone(), url.to_owned());
        readers.spawn(async move {
            let mut stream = scene.http.get(url).send().await.unwrap().bytes_stream();
            while let Some(chunk) = stream.next().await {
                read.fetch_add(chunk.unwrap().len(), Ordering::Relaxed);
            }
        });
    }
    eventually("they read", async || read.load(Ordering::Relaxed) > READERS * CHUNK).await;
    let mut beside = Vec::new();
    for _ in 0..ASKED {
        let before = read.load(Ordering::Relaxed);
        scene.read(0).await;
        beside.push(read.load(Ordering::Relaxed) - before);
    }
    beside.sort_unstable();
    beside[ASKED / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fast_readers_of_what_inflates_do_not_starve_another_caller() {
    let scene = Arc::new(MemoryScene::start(Page::of_rows()).await);
    let usually = read_by_others(&scene, &scene.url(ENDLESS)).await;
    assert!(usually < READERS * 8 * CHUNK, "{usually} bytes were read by others during a request");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fast_uploads_that_are_rewritten_do_not_starve_another_caller() {
    const UPLOADS: usize = 4;
    const ASKED: usize = 20;
    let links = r#""//localhost/a","#.repeat(1000);
    let part = "--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\nGET //localhost/data/y HTTP/1.1\r\nAccept: application/json\r\n\r\n\r\n";
    let request = r#"{"id":"1","method":"GET","url":"//localhost/data/y"},"#;
    let json = "application/json\r\nX-Csrf-Token: own";
    for (path, content_type, first, chunk) in [
        ("/users/drained", json, r#"{"a@odata.bind":["#, links.repeat(4)),
        ("/data/drained/$batch", json, r#"{"requests":["#, request.repeat(300)),
        ("/data/drained/$batch", "multipart/mixed; boundary=b", "", part.repeat(100)),
    ] {
        let scene = MemoryScene::start(Page::of_rows()).await;
        let mut uploads = Vec::new();
        for _ in 0..UPLOADS {
            uploads.push(scene.upload_with(path, content_type, first, chunk.clone()).await);
        }
        let sent = || scene.flood.drained.load(Ordering::Relaxed);
        eventually("they send", async || sent() > UPLOADS * 2 * CHUNK).await;
        // The bytes that are sent for them while another caller waits for its response.
        let mut beside = Vec::new();
        for _ in 0..ASKED {
            let before = sent();
            scene.read(0).await;
            beside.push(sent() - before);
        }
        assert!(uploads.iter().all(|upload| !upload.is_finished()), "{path}");
        beside.sort_unstable();
        let usually = beside[ASKED / 2];
        assert!(
            usually < UPLOADS * CHUNK / 8,
            "{path}: {usually} bytes were sent during a request"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fast_uploads_that_are_refused_do_not_starve_another_caller() {
    const UPLOADS: usize = 4;
    const ASKED: usize = 10;
    let scene = MemoryScene::start(Page::of_rows()).await;
    let sent = || scene.flood.written.load(Ordering::Relaxed);
    let mut beside = Vec::new();
    for _ in 0..ASKED {
        let mut uploads = Vec::new();
        let begun = sent();
        for _ in 0..UPLOADS {
            let upload = scene.upload("/nowhere", "text/plain", "x".repeat(16 << 10));
            uploads.push(upload.await);
        }
        // More than all buffers hold, so the sidecar reads it.
        eventually("they send", async || sent() - begun > UPLOADS * 16 * CHUNK).await;
        // The bytes that are read of them while another caller waits for its response.
        let before = sent();
        scene.read(0).await;
        beside.push(sent() - before);
    }
    beside.sort_unstable();
    let usually = beside[ASKED / 2];
    assert!(
        usually < UPLOADS * 4 * CHUNK,
        "{usually} bytes were sent during a request: {beside:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_beyond_the_memory_of_the_manifests_are_answered_503() {
    // The values of deploy/, which tests/ship/configurations.rs compares.
    const REQUESTS: usize = 48;
    const MANIFEST_KIB: u64 = 128 * 1024;
    let scene = MemoryScene::of(vec![("", Page::of_rows())], |config| {
        config.key("limits", "{ requests: 48 }")
    })
    .await;
    let mut deaf = join_all((0..REQUESTS).map(|_| scene.deaf())).await;
    for caller in &mut deaf {
        let mut status = [0; 12];
        caller.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
    }
    for _ in 0..REQUESTS {
        let answer = scene.http.get(scene.url(1)).send().await.unwrap();
        assert_eq!(answer.status(), 503);
        assert!(answer.headers().contains_key("retry-after"));
    }
    // Headers without an end, on more connections than the sidecar keeps.
    let header = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(60 << 10));
    let connections = (0..600).map(async |_| {
        let mut stream = TcpStream::connect(scene.process.host()).await.unwrap();
        // The sidecar may close the connection.
        let _ = stream.write_all(header.as_bytes()).await;
        stream
    });
    let connections = join_all(connections).await;
    scene.is_held_up().await;
    let peak = scene.process.peak_memory();
    assert!(peak < MANIFEST_KIB, "the highest resident memory was {peak} KiB");
    drop((deaf, connections));
    let served = async || scene.http.get(scene.url(0)).send().await.unwrap().status() == 200;
    eventually("served again", served).await;
}
