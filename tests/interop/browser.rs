//! A real browser with foreign pages, which try to use the sidecar by every means that a page has.

use crate::support::issuer;
use crate::support::process::Process;
use crate::support::scene::{Scene, unchanged};
use crate::support::upstream::{Behaviour, Peer, Seen};
use crate::support::{DEADLINE, eventually, http};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

const PAGE: &str = include_str!("browser/attack.html");
/// The upstream's response, which no page may read.
const DATA: &str = "the tenant's data";
/// The names that the browser resolves, all to this machine.
const RESOLVER: &str = "--host-resolver-rules=MAP evil.test 127.0.0.1, MAP rebound.test 127.0.0.1, \
                        MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1";

/// The method of a preflight request (`OPTIONS`) in the access log.
const PREFLIGHT: &str = "other";

/// The page's attempts, and the method of each in the access log if the target has another origin.
const ATTEMPTS: [(&str, &str); 30] = [
    ("fetch", "GET"),
    ("fetch-no-cors", "GET"),
    ("fetch-credentials", "GET"),
    ("fetch-header", PREFLIGHT),
    ("fetch-post", "POST"),
    ("fetch-put", PREFLIGHT),
    ("fetch-delete", PREFLIGHT),
    ("fetch-no-referrer", "GET"),
    ("fetch-redirected", "POST"),
    ("xhr", "GET"),
    ("beacon", "POST"),
    ("event-source", "GET"),
    ("web-socket", "GET"),
    ("image", "GET"),
    ("script", "GET"),
    ("style", "GET"),
    ("prefetch", "GET"),
    ("video", "GET"),
    ("iframe", "GET"),
    ("object", "GET"),
    ("form-get", "GET"),
    ("form-urlencoded", "POST"),
    ("form-multipart", "POST"),
    ("form-text", "POST"),
    ("form-redirected", "POST"),
    ("sandbox-fetch", "GET"),
    ("worker", "GET"),
    ("window", "GET"),
    ("link", "GET"),
    ("ping", "POST"),
];

/// Waits until a condition holds for every attempt.
async fn all(what: &str, mut holds: impl AsyncFnMut(&str) -> bool) {
    for (name, _) in ATTEMPTS {
        eventually(&format!("{what} {name}"), async || holds(name).await).await;
    }
}

/// A browser with a temporary profile.
struct Browser {
    child: Child,
    _profile: TempDir,
}

/// Arguments for every start of the browser.
const ALWAYS: [&str; 5] = [
    "--headless=new",
    "--disable-gpu",
    "--no-first-run",
    "--no-proxy-server",
    // In a container the browser cannot make a sandbox. The pages are the test's own.
    "--no-sandbox",
];

/// Starts the browser by the first of its names that is installed.
fn start(arguments: &[&str], profile: &Path, errors: fn() -> Stdio) -> Child {
    let start = |name: &&str| {
        let started = Command::new(name)
            .args(ALWAYS)
            .arg(format!("--user-data-dir={}", profile.display()))
            .args(arguments)
            .env("HOME", profile)
            .env("TMPDIR", profile)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors())
            .kill_on_drop(true)
            .spawn();
        match started {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            started => Some(started.unwrap()),
        }
    };
    let child = ["chromium", "chromium-browser", "google-chrome"].iter().find_map(start);
    child.expect("there is a browser (scripts/setup.sh --with-browser)")
}

/// The output of a browser.
pub(super) struct Said {
    pub(super) output: String,
    /// Messages in the page's console.
    pub(super) complaints: String,
}

/// Opens a page and waits until the browser ends by itself.
pub(super) async fn headless(url: &str, arguments: &[&str]) -> Said {
    let profile = tempfile::tempdir().unwrap();
    let arguments = [arguments, &["--enable-logging=stderr", url]].concat();
    let browser = start(&arguments, profile.path(), Stdio::piped);
    let ended = timeout(DEADLINE, browser.wait_with_output()).await;
    let said = ended.expect("the browser ends in time").unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let errors = text(&said.stderr);
    let complaints: String = errors.lines().filter(|line| line.contains(":CONSOLE")).collect();
    Said { output: text(&said.stdout), complaints }
}

impl Browser {
    fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let arguments = [
            // Switches off the browser's own protection of local ports, so that only the guard
            // protects.
            "--disable-features=LocalNetworkAccessChecks",
            "--disable-popup-blocking",
            RESOLVER,
            url,
        ];
        let child = start(&arguments, profile.path(), Stdio::null);
        Self { child, _profile: profile }
    }

    /// Ends the browser. When its output ends, no process writes to the profile any more.
    async fn close(self) {
        let pid = self.child.id().expect("the browser runs").to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().await.unwrap().success());
        let ended = timeout(DEADLINE, self.child.wait_with_output()).await;
        ended.expect("the browser ends in time").unwrap();
    }
}

/// A foreign web server.
struct Evil {
    server: Peer,
}

impl Evil {
    /// Starts a server with a page that attacks URLs that begin with `target`.
    async fn start(target: &str) -> Self {
        let server = Peer::start(Behaviour::ok("")).await;
        let html = "content-type: text/html\r\nconnection: close";
        let length = PAGE.len();
        let page = format!("HTTP/1.1 200 OK\r\n{html}\r\ncontent-length: {length}\r\n\r\n{PAGE}");
        server.always("/attack?", Behaviour::AnswerAndClose(page));
        for (name, _) in ATTEMPTS {
            let location = format!("location: {target}{name}\r\n");
            let redirect = issuer::status("307 Temporary Redirect", &location, "");
            server.always(&format!("/redirect/{name} "), redirect);
        }
        Self { server }
    }

    /// Opens the page at this `host:port`. Returns the text that each attempt could read, and the
    /// browser, whose requests may still be in flight.
    async fn attack(&self, host: &str, target: &str) -> (Browser, BTreeMap<String, String>) {
        let reports_url = format!("http://evil.test:{}/report/", self.server.address.port());
        let browser =
            Browser::open(&format!("http://{host}/attack?target={target}&report={reports_url}"));
        let report = |seen: &Seen| {
            let name = seen.line().strip_prefix("POST /report/")?.split(' ').next()?.to_owned();
            Some((name, String::from_utf8(seen.payload()).unwrap()))
        };
        let reports = || self.server.seen().iter().filter_map(report).collect::<BTreeMap<_, _>>();
        all("the page's report of", async |name| reports().contains_key(name)).await;
        let read = reports();
        assert_eq!(read.len(), ATTEMPTS.len(), "{read:?}");
        (browser, read)
    }
}

/// A port that leads to `page` until its page is loaded, and then to `target`.
async fn rebinding(page: SocketAddr, target: SocketAddr) -> (u16, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(relay(stream, page, target));
        }
    });
    (port, AbortOnDropHandle::new(serving))
}

async fn relay(mut stream: TcpStream, page: SocketAddr, target: SocketAddr) {
    let mut first = [0; 11];
    let read = stream.peek(&mut first).await.unwrap_or(0);
    let address = if first[..read] == *b"GET /attack" { page } else { target };
    let mut other = TcpStream::connect(address).await.unwrap();
    // Either side may break the connection.
    let _ = copy_bidirectional(&mut stream, &mut other).await;
}

/// A sidecar that pages attack.
struct Target(Scene<Peer, Process>);

impl Target {
    async fn start() -> Self {
        let scene = Scene::process(unchanged).await;
        scene.upstream.always("/", Behaviour::ok(DATA));
        Self(scene)
    }

    fn address(url: &str) -> SocketAddr {
        url.strip_prefix("http://").unwrap().parse().unwrap()
    }

    /// The method, status and outcome of an attempt in the access log.
    fn logged(&self, name: &str) -> Option<(String, u64, String)> {
        let log = self.0.sidecar.log();
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let is_it = |event: &Value| event["path"].as_str()?.rsplit('/').next().map(|of| of == name);
        let event = events.into_iter().find(|event| is_it(event) == Some(true))?;
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        Some((text("method"), event["status"].as_u64()?, text("outcome")))
    }

    /// Waits until every attempt has arrived, and checks that it was refused.
    async fn refused_all(&self, status: u64, kind: &str) {
        all("at the sidecar,", async |name| self.logged(name).is_some()).await;
        for (name, _) in ATTEMPTS {
            let (_, logged, outcome) = self.logged(name).unwrap();
            assert_eq!((logged, &*outcome), (status, kind), "{name}");
        }
        let (_, metrics) = self.0.sidecar.probe("/metrics").await;
        let series = format!("bearerd_requests_rejected_total{{kind=\"{kind}\"}} ");
        let count = metrics.lines().find_map(|line| line.strip_prefix(&series));
        assert!(count.unwrap().parse::<f64>().unwrap() >= ATTEMPTS.len() as f64, "{count:?}");
    }

    /// Checks that no request has gone upstream, and that a tool's request does.
    async fn serves_a_tool_alone(&self) {
        assert!(self.0.upstream.seen().is_empty(), "{:?}", self.0.upstream.seen());
        let answer = http().get(format!("{}/free/tool", self.0.sidecar.url)).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), DATA);
        assert_eq!(self.0.upstream.seen().len(), 1);
    }
}

#[tokio::test]
#[ignore = "needs Chromium; make test installs it and runs this"]
async fn a_page_of_another_origin_gets_nothing_upstream_and_reads_nothing() {
    // Another site, the same site on another port, and another name of this machine.
    for (page, name) in [
        ("evil.test", "127.0.0.1"),
        ("evil.test", "localhost"),
        ("localhost", "localhost"),
        ("localhost", "127.0.0.1"),
    ] {
        let attacked = Target::start().await;
        let target =
            format!("http://{name}:{}/free/", Target::address(&attacked.0.sidecar.url).port());
        let evil = Evil::start(&target).await;
        let host = format!("{page}:{}", evil.server.address.port());
        let (browser, read) = evil.attack(&host, &target).await;
        attacked.refused_all(403, "cross_site").await;
        browser.close().await;
        for (name, method) in ATTEMPTS {
            assert_eq!(attacked.logged(name).unwrap().0, method, "{name}");
        }
        assert!(read.values().all(String::is_empty), "{read:?}");
        attacked.serves_a_tool_alone().await;
    }
}

#[tokio::test]
#[ignore = "needs Chromium; make test installs it and runs this"]
async fn a_page_whose_name_is_rebound_gets_nothing_upstream_and_reads_refusals() {
    let attacked = Target::start().await;
    let evil = Evil::start("").await;
    let sidecar = Target::address(&attacked.0.sidecar.url);
    let (port, _serving) = rebinding(evil.server.address, sidecar).await;
    let host = format!("rebound.test:{port}");
    let (browser, read) = evil.attack(&host, &format!("http://{host}/free/")).await;
    attacked.refused_all(421, "host_not_allowed").await;
    browser.close().await;
    for name in ["fetch", "fetch-put", "fetch-delete", "iframe", "form-text", "worker"] {
        assert!(read[name].contains("host_not_allowed"), "same origin to the browser: {read:?}");
    }
    let is_refusal = |text: &String| text.is_empty() || text.contains("host_not_allowed");
    assert!(read.values().all(is_refusal), "{read:?}");
    attacked.serves_a_tool_alone().await;
}

#[tokio::test]
#[ignore = "needs Chromium; make test installs it and runs this"]
async fn pages_read_nothing_from_the_admin_listener_by_its_address_or_a_rebound_name() {
    let attacked = Target::start().await;
    let admin = Target::address(&attacked.0.sidecar.admin);

    let target = format!("{}/metrics?", attacked.0.sidecar.admin);
    let evil = Evil::start(&target).await;
    let host = format!("evil.test:{}", evil.server.address.port());
    let (browser, read) = evil.attack(&host, &target).await;
    browser.close().await;
    assert!(read.values().all(|text| text.is_empty() || text == "loaded"), "{read:?}");

    let evil = Evil::start("").await;
    let (port, _serving) = rebinding(evil.server.address, admin).await;
    let host = format!("rebound.test:{port}");
    let (browser, read) = evil.attack(&host, &format!("http://{host}/metrics?")).await;
    browser.close().await;
    assert!(read["fetch"].starts_with("421 "), "same origin to the browser: {read:?}");
    let is_refusal = |text: &String| text.is_empty() || text.contains("access.hosts");
    assert!(read.values().all(is_refusal), "{read:?}");
}
