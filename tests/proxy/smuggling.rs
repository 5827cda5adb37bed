//! Request smuggling: requests that two servers could parse in different ways.
//!
//! The sidecar adds a token to every request that it forwards. If the upstream parses a request
//! differently, it executes one that no check has seen. A response proves little here: a row says
//! what the upstream must receive, and every byte that it receives is parsed strictly.

mod chunks;
mod framing;
mod hosts;
mod known;
mod lines;
mod methods;
mod targets;

use crate::support::configuration::Configuration;
use crate::support::raw_client::RawClient;
use crate::support::scene::{Scene, unchanged};
use crate::support::strict_upstream::{Request, StrictUpstream};
use crate::support::tls::{Authority, Connection};
use crate::support::{DEADLINE, eventually};
use rustls::pki_types::ServerName;
use std::collections::HashSet;
use std::fmt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// The expected result of a row.
enum Verdict {
    /// A local answer 4xx, or a closed connection, and not one byte for the upstream.
    Refused,
    /// A refusal after the header was forwarded: the upstream gets the beginning of a request but
    /// not its end, and its connection is closed.
    CutOff,
    /// Exactly one request for the upstream, with this line and this body.
    Passes(Vec<u8>, Vec<u8>),
}
use Verdict::{CutOff, Refused};

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused => formatter.write_str("a refusal"),
            CutOff => formatter.write_str("a refusal after the header"),
            Self::Passes(line, body) => {
                write!(formatter, "{} | {}", line.escape_ascii(), body.escape_ascii())
            }
        }
    }
}

/// A raw request, in which `{host}` stands for the sidecar's address, with its expected result.
struct Row {
    name: String,
    bytes: Vec<u8>,
    verdict: Verdict,
    /// Whether the client then closes its side, which ends an incomplete request.
    half_closes: bool,
}

fn row(name: impl Into<String>, bytes: impl Into<Vec<u8>>, verdict: Verdict) -> Row {
    let half_closes = matches!(verdict, CutOff);
    Row { name: name.into(), bytes: bytes.into(), verdict, half_closes }
}

fn passes(line: impl Into<Vec<u8>>) -> Verdict {
    Verdict::Passes(line.into(), Vec::new())
}

/// `POST /free` with this body reaches the upstream.
fn carries(body: &str) -> Verdict {
    Verdict::Passes(b"POST /free HTTP/1.1".to_vec(), body.into())
}

fn get() -> Verdict {
    passes("GET /free HTTP/1.1")
}

/// A request with a valid header and this request line. `rest` holds more header lines, the empty
/// line and a body.
fn with(line: &str, rest: &str) -> String {
    format!("{line}\r\nHost: {{host}}\r\nConnection: close\r\n{rest}")
}

/// A request that the upstream must never execute.
const SECRET: &str = "GET /data/secret HTTP/1.1\r\nHost: {host}\r\n\r\n";

/// A sidecar before a strict upstream, and the TLS of its listener, if it has any.
struct Harness(Scene<StrictUpstream>, Option<TlsConnector>);

impl Harness {
    async fn start() -> Self {
        Self(Self::scene(unchanged).await, None)
    }

    async fn with_tls() -> Self {
        let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
        let tls = authority.listener(folder.path(), "");
        let listen = format!("{{ address: 127.0.0.1:0, tls: {tls} }}");
        let scene = Self::scene(|config| config.key("listen", listen)).await;
        Self(scene, Some(authority.connector(None)))
    }

    async fn scene(change: impl FnOnce(Configuration) -> Configuration) -> Scene<StrictUpstream> {
        Scene::before(StrictUpstream::start().await, |config| {
            let config = change(config);
            config.route("/deep/er", "profile", "odata").route("/free/narrow", "profile", "odata")
        })
        .await
    }

    async fn connect(&self) -> Box<dyn Connection> {
        let stream = TcpStream::connect(self.0.sidecar.host()).await.unwrap();
        match &self.1 {
            None => Box::new(stream),
            Some(tls) => {
                let name = ServerName::try_from("localhost").unwrap();
                Box::new(tls.connect(name, stream).await.unwrap())
            }
        }
    }

    /// Sends these bytes on a new connection and reads until the other side closes.
    async fn send(&self, bytes: &[u8], half_closes: bool) -> Result<String, String> {
        let exchange = async {
            let mut stream = self.connect().await;
            // The connection may be closed before all bytes are sent.
            let _ = stream.write_all(bytes).await;
            let _ = stream.flush().await;
            if half_closes {
                let _ = stream.shutdown().await;
            }
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        };
        timeout(DEADLINE, exchange).await.map_err(|_| "no end of the answer".to_owned())
    }

    /// Sends a row and checks its result.
    async fn check(&self, row: &Row) -> Result<(), String> {
        let before = self.0.upstream.total();
        let cut_before = self.0.upstream.cut_off();
        let host = self.0.sidecar.host();
        let answer =
            self.send(&replace(&row.bytes, b"{host}", host.as_bytes()), row.half_closes).await?;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        let is_local = answer.to_lowercase().contains("\r\nproxy-status: bearerd; error=");
        let is_refusal = answer.is_empty() || status.starts_with('4') && is_local;
        if matches!(row.verdict, CutOff) {
            eventually(&row.name, async || self.0.upstream.cut_off() > cut_before).await;
        }
        let cut = self.0.upstream.cut_off() - cut_before;
        let after = with("GET /free/after HTTP/1.1", "\r\n").replace("{host}", host);
        let works = self.send(after.as_bytes(), false).await?;
        if !works.starts_with("HTTP/1.1 200") {
            return Err(format!("afterwards: {works}"));
        }
        let mut received = self.0.upstream.since(&before)?;
        let is_after = |request: &Request| request.line() == b"GET /free/after HTTP/1.1";
        let after = received.whole.iter().position(is_after);
        received.whole.remove(after.ok_or("the request afterwards never came")?);
        for request in received.whole.iter().chain(&received.begun) {
            request.check(&self.0.upstream.host())?;
        }
        let is_right = match (&row.verdict, received.whole.as_slice(), received.begun.as_slice()) {
            (Refused, [], []) => is_refusal && cut == 0,
            (CutOff, [], [begun]) => {
                is_refusal && cut == 1 && begun.line() == b"POST /free HTTP/1.1"
            }
            (Verdict::Passes(line, body), [one], []) => {
                let is_as_wanted = one.line() == *line && one.payload == *body;
                let is_one_answer = status == "200" && answer.matches("HTTP/1.1 ").count() == 1;
                is_as_wanted && is_one_answer && cut == 0
            }
            _ => false,
        };
        let seen = received.whole.iter().chain(&received.begun).map(Request::to_string);
        let seen: Vec<_> = seen.collect();
        if is_right {
            Ok(())
        } else {
            Err(format!("answer {answer:?}, upstream {seen:?}, cut {cut}"))
        }
    }

    /// Checks all rows and fails with a list of the wrong ones.
    async fn check_all(&self, rows: &[Row]) {
        let mut wrong = Vec::new();
        for row in rows {
            if let Err(why) = self.check(row).await {
                let bytes = row.bytes.get(..300).unwrap_or(&row.bytes).escape_ascii();
                wrong.push(format!("{}: {bytes}\n  wanted {}\n  {why}", row.name, row.verdict));
            }
        }
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    }
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}

#[tokio::test]
async fn malformed_and_ambiguous_requests_never_reach_the_upstream() {
    never_reach_the_upstream(&Harness::start().await).await;
}

#[tokio::test]
async fn neither_do_they_over_tls() {
    never_reach_the_upstream(&Harness::with_tls().await).await;
}

async fn never_reach_the_upstream(harness: &Harness) {
    let corpus = [
        framing::framing(),
        framing::pipelines(),
        chunks::chunks(),
        lines::lines(),
        hosts::hosts(),
        methods::request_lines(),
        targets::targets(),
        lines::nominations(),
        methods::methods(),
    ];
    let rows: Vec<Row> = corpus.into_iter().flatten().collect();
    let distinct: HashSet<&[u8]> = rows.iter().map(|row| row.bytes.as_slice()).collect();
    assert!(distinct.len() == rows.len() && rows.len() > 300, "{} rows", rows.len());
    harness.check_all(&rows).await;
}

#[tokio::test]
async fn malformed_requests_that_pingora_repairs_arrive_repaired() {
    Harness::start().await.check_all(&known::known()).await;
}

/// A request that follows the response to the one before it on the same connection. It is checked
/// like any other.
#[tokio::test]
async fn a_second_request_on_a_connection_is_checked_by_itself() {
    let harness = Harness::start().await;
    let host = harness.0.sidecar.host();
    let before = harness.0.upstream.total();
    let mut caller = RawClient::connect(host).await;
    let chunked = "POST /free HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nAuthorization: evil\r\n\r\n";
    for (request, status) in [
        (chunked, "200"),
        (SECRET, "200"),
        (SECRET, "200"),
        ("DELETE /data/secret HTTP/1.1\r\nHost: {host}\r\n\r\n", "405"),
    ] {
        caller.send(&request.replace("{host}", host)).await;
        let head = caller.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {head}");
    }
    let requests = harness.0.upstream.since(&before).unwrap().whole;
    for request in &requests {
        request.check(&harness.0.upstream.host()).unwrap();
    }
    let secret = b"GET /data/secret HTTP/1.1".as_slice();
    let lines: Vec<_> = requests.iter().map(Request::line).collect();
    assert_eq!(lines, [b"POST /free HTTP/1.1", secret, secret]);
}
