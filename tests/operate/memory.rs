//! What streams, and who dawdles, leaves the process small.

mod growth;

use crate::support::process::Process;
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

/// What a tenant answers.
struct Page {
    /// The lines of its header, apart from the length.
    header: String,
    start: Vec<u8>,
    /// A mebibyte of it, which may come as often as one likes.
    middle: Vec<u8>,
    end: Vec<u8>,
}

impl Page {
    /// Of rows that are like each other: 300 to 1 and more.
    fn of_rows() -> Self {
        let row = |id: usize| {
            format!(
                r#"{{"ID":{},"Region":"EMEA","Product":"Bicycle","Amount":79.19}},"#,
                1000 + id / 100
            )
        };
        Self::of(&(0..CHUNK / row(0).len()).map(row).collect::<String>())
    }

    /// As compressible as a page can be: nearly 1,000 to 1.
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

/// Pages, each under a segment of a path.
type Pages = Vec<(&'static str, Page)>;

/// A tenant that answers with the page that a path names, or the first one, and as often as it ends with, its middle. Of
/// what is sent to it, it reads the header only, and never answers; but all of what is sent to a path with `drained` in
/// it.
struct Flood {
    url: String,
    /// How many compressed bytes have been written.
    written: Arc<AtomicUsize>,
    /// How many bytes of uploads have been read.
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
        // One that is no number is the fetch of a CSRF token.
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

/// A sidecar as a process of its own in front of such a tenant.
struct World {
    process: Process,
    flood: Flood,
    http: reqwest::Client,
    _issuer: Peer,
    _folder: TempDir,
}

/// More than anybody reads.
const ENDLESS: usize = 1 << 20;

impl World {
    async fn start(page: Page) -> Self {
        Self::start_with(page, "").await
    }

    /// The same with more keys in the configuration.
    async fn start_with(page: Page, keys: &str) -> Self {
        Self::of(vec![("", page)], keys, "").await
    }

    /// The same with these pages and more routes.
    async fn of(pages: Pages, keys: &str, routes: &str) -> Self {
        let (issuer, flood) = (issuer::steady().await, Flood::start(pages).await);
        let folder = tempfile::tempdir().unwrap();
        let config = issuer.config(&flood.url, "", &format!("log: {{ level: info }}\n{keys}"));
        let config = config.replace("read: 1s", "read: 60s");
        let config = config.replace("routes:\n", &format!("routes:\n{routes}"));
        let process = Process::start(folder.path(), &config, &[]).await;
        let world = Self { process, flood, http: patient(), _issuer: issuer, _folder: folder };
        let served = async || {
            world.http.get(world.url(0)).send().await.is_ok_and(|answer| answer.status() == 200)
        };
        eventually("served", served).await;
        world
    }

    /// Where so many mebibytes are.
    fn url(&self, mebibytes: usize) -> String {
        format!("{}/data/{mebibytes}", self.process.url)
    }

    fn host(&self) -> &str {
        self.process.url.strip_prefix("http://").unwrap()
    }

    /// Reads so many mebibytes, and returns how many bytes there were.
    async fn read(&self, mebibytes: usize) -> usize {
        let answer = self.http.get(self.url(mebibytes)).send().await.unwrap();
        answer.bytes_stream().fold(0, async |sum, chunk| sum + chunk.unwrap().len()).await
    }

    /// Waits until no more is read of what is there for it.
    async fn is_held_up(&self) {
        let mut before = 0;
        eventually("nothing more is read", async || {
            // What was ready when this was asked has had its turn when it is answered.
            self.read(0).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = self.flood.written.load(Ordering::Relaxed);
            std::mem::replace(&mut before, now) == now
        })
        .await;
    }

    /// Sends this and reads nothing.
    async fn send(&self, head: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.host()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    /// A caller that asks for a page without end, and reads nothing of it.
    async fn deaf(&self) -> TcpStream {
        self.send(&format!("GET /data/{ENDLESS} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
    }

    /// A caller that sends a body in chunks of 16 KiB, as often as they are taken.
    async fn upload(&self, path: &str, content_type: &str, chunk: String) -> AbortOnDropHandle<()> {
        self.upload_with(path, content_type, "", chunk).await
    }

    /// The same with another first chunk, if it is not empty.
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

    /// An upload of any kind of content.
    async fn plain_upload(&self) -> AbortOnDropHandle<()> {
        self.upload("/free/x", "application/octet-stream", "x".repeat(16 << 10)).await
    }

    /// A batch of reads without end.
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
        let world = World::start(page).await;
        // The first mebibytes of a page may be as compressible as they like.
        let readers = join_all((0..CALLERS).map(|_| world.read(40))).await;
        assert!(readers.iter().all(|bytes| *bytes > 39 * CHUNK), "{readers:?}");
        let _deaf = join_all((0..CALLERS).map(|_| world.deaf())).await;
        world.is_held_up().await;
        let peak = world.process.peak_memory();
        assert!(peak < LIMIT_KIB, "the highest resident memory was {peak} KiB");
    }
    let world = World::start(Page::of_rows()).await;
    let mut uploads = join_all((0..CALLERS / 2).map(|_| world.plain_upload())).await;
    uploads.extend(join_all((0..CALLERS / 2).map(|_| world.batch())).await);
    world.is_held_up().await;
    let peak = world.process.peak_memory();
    assert!(peak < LIMIT_KIB, "the highest resident memory was {peak} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_further_caller_of_any_kind_costs_less_than_a_mebibyte() {
    const FURTHER: u64 = 48;
    for kind in ["deaf to rows", "deaf to spaces", "fast", "upload", "batch"] {
        let page = if kind == "deaf to spaces" { Page::of_spaces() } else { Page::of_rows() };
        let world = World::start(page).await;
        world.read(1).await;
        let before = world.process.peak_memory();
        let (mut deaf, mut uploads) = (Vec::new(), Vec::new());
        for _ in 0..FURTHER {
            match kind {
                "upload" => uploads.push(world.plain_upload().await),
                "batch" => uploads.push(world.batch().await),
                "fast" => {}
                _ => deaf.push(world.deaf().await),
            }
        }
        if kind == "fast" {
            join_all((0..FURTHER).map(|_| world.read(4))).await;
        }
        world.is_held_up().await;
        let each = (world.process.peak_memory() - before) / FURTHER;
        assert!(each < 1024, "{kind}: {each} KiB");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fast_readers_of_what_inflates_do_not_starve_another_caller() {
    const READERS: usize = 4;
    const ASKED: usize = 20;
    let world = Arc::new(World::start(Page::of_rows()).await);
    let read = Arc::new(AtomicUsize::new(0));
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let (world, read) = (world.clone(), read.clone());
        readers.spawn(async move {
            let answer = world.http.get(world.url(ENDLESS)).send().await.unwrap();
            let mut stream = answer.bytes_stream();
            while let Some(chunk) = stream.next().await {
                read.fetch_add(chunk.unwrap().len(), Ordering::Relaxed);
            }
        });
    }
    eventually("they read", async || read.load(Ordering::Relaxed) > READERS * CHUNK).await;
    // What they get while another caller waits for its answer.
    let mut meanwhile = Vec::new();
    for _ in 0..ASKED {
        let before = read.load(Ordering::Relaxed);
        world.read(0).await;
        meanwhile.push(read.load(Ordering::Relaxed) - before);
    }
    meanwhile.sort_unstable();
    let usually = meanwhile[ASKED / 2];
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
        let world = World::start(Page::of_rows()).await;
        let mut uploads = Vec::new();
        for _ in 0..UPLOADS {
            uploads.push(world.upload_with(path, content_type, first, chunk.clone()).await);
        }
        let sent = || world.flood.drained.load(Ordering::Relaxed);
        eventually("they send", async || sent() > UPLOADS * 2 * CHUNK).await;
        // What is sent for them while another caller waits for its answer.
        let mut beside = Vec::new();
        for _ in 0..ASKED {
            let before = sent();
            world.read(0).await;
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
    let world = World::start(Page::of_rows()).await;
    let sent = || world.flood.written.load(Ordering::Relaxed);
    let mut beside = Vec::new();
    for _ in 0..ASKED {
        let mut uploads = Vec::new();
        let begun = sent();
        for _ in 0..UPLOADS {
            let upload = world.upload("/nowhere", "text/plain", "x".repeat(16 << 10));
            uploads.push(upload.await);
        }
        // More than all buffers hold: it is read.
        eventually("they send", async || sent() - begun > UPLOADS * 16 * CHUNK).await;
        // What is read of them while another caller waits for its answer.
        let before = sent();
        world.read(0).await;
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
async fn what_is_too_much_for_the_memory_of_the_manifests_is_answered_503() {
    // As in deploy/; tests/operate/commands.rs compares the two.
    const REQUESTS: usize = 48;
    const MANIFEST_KIB: u64 = 128 * 1024;
    let world = World::start_with(Page::of_rows(), "limits: { requests: 48 }").await;
    let mut deaf = join_all((0..REQUESTS).map(|_| world.deaf())).await;
    for caller in &mut deaf {
        let mut status = [0; 12];
        caller.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
    }
    for _ in 0..REQUESTS {
        let answer = world.http.get(world.url(1)).send().await.unwrap();
        assert_eq!(answer.status(), 503);
        assert!(answer.headers().contains_key("retry-after"));
    }
    // Headers that do not end, on more connections than are kept.
    let header = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(60 << 10));
    let strangers = (0..600).map(async |_| {
        let mut stream = TcpStream::connect(world.host()).await.unwrap();
        // Some are refused.
        let _ = stream.write_all(header.as_bytes()).await;
        stream
    });
    let strangers = join_all(strangers).await;
    world.is_held_up().await;
    let peak = world.process.peak_memory();
    assert!(peak < MANIFEST_KIB, "the highest resident memory was {peak} KiB");
    drop((deaf, strangers));
    let served = async || world.http.get(world.url(0)).send().await.unwrap().status() == 200;
    eventually("served again", served).await;
}
