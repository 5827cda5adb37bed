//! The servers of a sidecar, the sidecar in a process of its own, and callers.

use crate::loopback::{answer, answer_all, get, serve, token};
use rustix::process::{Pid, Signal, kill_process};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fs::{self, File};
use std::iter::repeat_with;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

/// The kinds of requests: name and path.
pub(crate) const KINDS: [(&str, &str); 6] = [
    // 1 KB that is searched only for the token, from an upstream without TLS.
    ("plain", "/plain/x"),
    // The same from an upstream with TLS 1.3, as tenants have it.
    ("tls", "/tls/x"),
    // 100 KB from an upstream with TLS 1.3.
    ("tls_100k", "/large/x"),
    // An OData page of 20 KB with a link in each row.
    ("links", "/data/Orders?$top=100"),
    // Twenty reads in one request, each checked.
    ("batch", "/judged/$batch"),
    // The same batch without checks. The difference is the cost of the checks.
    ("batch_unchecked", "/unchecked/$batch"),
];
/// The configuration for [`KINDS`].
pub(crate) const USUAL: &str = "bearerd.yaml";
/// A configuration with many clients, the first of which has the route `/client-0`.
pub(crate) const MANY_CLIENTS: &str = "clients.yaml";
/// The configuration for [`KINDS`], with callers that have names.
pub(crate) const WITH_CALLERS: &str = "callers.yaml";
/// The number of callers in it.
const CALLER_COUNT: usize = 10;
/// What ends the path of a request of the last caller.
const OF_CALLER: &str = "?caller";
/// The number of clients in [`MANY_CLIENTS`].
const CLIENT_COUNT: usize = 32;
/// The number of parts in a batch.
const PARTS: usize = 20;
/// Rows of an OData page of 1 KB, 20 KB and 100 KB.
const ROWS: usize = 4;
const MANY_ROWS: usize = 100;
const VERY_MANY_ROWS: usize = 480;
/// The largest answer.
const LARGEST: usize = 256 * 1024;
/// The file with the only trust anchor, which is the upstream's certificate. The system's anchors
/// would be read again after the start, more often in the long run than in the short one, and would
/// count as requests.
const ANCHORS: &str = "anchors.pem";

/// An OData page with this many rows and a link in each.
fn page(origin: &str, rows: usize) -> String {
    let row = |row| {
        format!(
            r#"{{"@odata.id":"{origin}/data/Orders({row})","OrderID":"{row:010}","Customer":"A customer's name","City":"Walldorf","Amount":12.50,"Quantity":3,"Currency":"EUR","OrderDate":"2024-01-02","Status":"NEW"}}"#
        )
    };
    let rows: Vec<String> = (0..rows).map(row).collect();
    format!(
        r#"{{"@odata.context":"{origin}/data/$metadata#Orders","value":[{}],"@odata.nextLink":"{origin}/data/Orders?$skiptoken=100"}}"#,
        rows.join(",")
    )
}

/// A configuration with many clients for one upstream, each with a route.
fn many_clients(issuer: SocketAddr, upstream: SocketAddr) -> String {
    let client = |index| {
        format!(
            "  c{index}: {{ token_url: \"http://{issuer}/oauth/token\", client_id: id, client_secret: s, wait: 60s }}\n"
        )
    };
    let route = |index| {
        format!("  - {{ path: /client-{index}, client: c{index}, profile: passthrough }}\n")
    };
    let clients: String = (0..CLIENT_COUNT).map(client).collect();
    let routes: String = (0..CLIENT_COUNT).map(route).collect();
    format!(
        "listen: 127.0.0.1:0
admin: {{ listen: 127.0.0.1:0 }}
clients:
{clients}upstreams:
  u: {{ url: \"http://{upstream}\", client: c0 }}
routes:
{routes}sandbox: off
"
    )
}

/// The key of a caller.
fn key(index: usize) -> String {
    format!("{index}-is-a-key-of-more-than-32-characters")
}

/// A batch of reads, as OData clients write it.
fn batch() -> String {
    let part = "--batch\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n\
                GET Orders?$top=100&$filter=Status%20eq%20'NEW' HTTP/1.1\r\nAccept: application/json\r\n\r\n\r\n";
    format!("{}--batch--\r\n", part.repeat(PARTS))
}

/// The sidecar's servers: an issuer, and an upstream for each kind of request.
pub(crate) struct World {
    folder: TempDir,
    pages: SocketAddr,
}

impl World {
    pub(crate) async fn start() -> Self {
        // It is as long and as random as SAP's tokens: every response is searched for it.
        let mut random = fastrand::Rng::with_seed(42);
        let letters: String = repeat_with(|| random.alphanumeric()).take(2000).collect();
        let issuer = serve(|_| token(&letters)).await;
        let small = || answer(&page("https://elsewhere.example", ROWS));
        let plain = serve(|_| small()).await;
        let pages = serve(|address| answer(&page(&format!("http://{address}"), MANY_ROWS))).await;
        let folder = tempfile::tempdir().unwrap();
        let (acceptor, anchor) = tls();
        fs::write(folder.path().join(ANCHORS), anchor).unwrap();
        let tls = serve_tls(acceptor.clone(), small()).await.port();
        let large = answer(&page("https://elsewhere.example", VERY_MANY_ROWS));
        let large = serve_tls(acceptor, large).await.port();
        // callgrind writes its figures at the end of the process, which the sandbox would not
        // allow.
        let yaml = format!(
            "listen: 127.0.0.1:0
admin: {{ listen: 127.0.0.1:0 }}
clients:
  c: {{ token_url: \"http://{issuer}/oauth/token\", client_id: id, client_secret: s, wait: 60s }}
upstreams:
  plain: {{ url: \"http://{plain}\" }}
  pages: {{ url: \"http://{pages}\" }}
  tls: {{ url: \"https://localhost:{tls}\" }}
  large: {{ url: \"https://localhost:{large}\" }}
routes:
  - {{ path: /plain, upstream: plain, profile: passthrough }}
  - {{ path: /tls, upstream: tls, profile: passthrough }}
  - {{ path: /large, upstream: large, profile: passthrough }}
  - {{ path: /data, upstream: pages, profile: odata }}
  - {{ path: /judged, upstream: plain, profile: odata }}
  - {{ path: /unchecked, upstream: plain, profile: odata, unchecked_batches: on }}
sandbox: off
"
        );
        fs::write(folder.path().join(USUAL), &yaml).unwrap();
        let mut with_callers = yaml + "callers:\n";
        for index in 0..CALLER_COUNT {
            let file = folder.path().join(format!("key-{index}"));
            fs::write(&file, key(index)).unwrap();
            with_callers += &format!("  caller-{index}: {{ api_key_file: {} }}\n", file.display());
        }
        fs::write(folder.path().join(WITH_CALLERS), with_callers).unwrap();
        fs::write(folder.path().join(MANY_CLIENTS), many_clients(issuer, plain)).unwrap();
        Self { folder, pages }
    }

    /// The path of a file in the scratch folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the sidecar before these servers. There is no readiness probe, which the instruction
    /// guard would count: the first request waits for the token.
    pub(crate) async fn start_sidecar(&self, mut command: Command, configuration: &str) -> Sidecar {
        command.env("SSL_CERT_FILE", self.file(ANCHORS));
        Sidecar::start(command, self.folder.path(), configuration).await
    }

    /// Sends this many requests over a connection, one after the other.
    pub(crate) async fn send(&self, sidecar: &Sidecar, path: &str, requests: u32) {
        let target = &sidecar.target;
        let mut stream = TcpStream::connect(target).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (method, of_body, body) = if path.ends_with("/$batch") {
            let body = batch();
            let of_body = format!(
                "Content-Type: multipart/mixed; boundary=batch\r\nContent-Length: {}\r\n",
                body.len()
            );
            ("POST", of_body, body)
        } else {
            ("GET", String::new(), String::new())
        };
        let of_caller = match path.ends_with(OF_CALLER) {
            true => format!("X-Api-Key: {}\r\n", key(CALLER_COUNT - 1)),
            false => String::new(),
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: python-requests/2.32.5\r\n\
             Accept-Encoding: gzip, deflate\r\nAccept: application/json\r\nConnection: keep-alive\r\n\
             Authorization: Basic dG9vbDpwYXNzd29yZA==\r\nX-Forwarded-For: 10.0.0.7\r\n\
             OData-MaxVersion: 4.0\r\n{of_body}{of_caller}\r\n{body}"
        );
        let mut buffer = vec![0; LARGEST];
        for _ in 0..requests {
            let body = get(&mut stream, request.as_bytes(), &mut buffer).await;
            let body = String::from_utf8_lossy(body);
            assert!(!body.contains(&self.pages.to_string()), "links are rewritten: {body}");
        }
    }
}

/// A running sidecar.
pub(crate) struct Sidecar {
    process: Child,
    /// Its address, without a scheme.
    pub(crate) target: String,
}

impl Sidecar {
    /// Starts a sidecar with a configuration in this folder, and waits until it listens.
    pub(crate) async fn start(mut command: Command, folder: &Path, configuration: &str) -> Self {
        // Several sidecars may run at the same time.
        static STARTS: AtomicU32 = AtomicU32::new(0);
        let log = folder.join(format!("log-{}", STARTS.fetch_add(1, Ordering::Relaxed)));
        let mut process = command
            .args(["run", "--config"])
            .arg(folder.join(configuration))
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let target = loop {
            if let Some(target) = address(&fs::read_to_string(&log).unwrap()) {
                break target;
            }
            assert!(process.try_wait().unwrap().is_none(), "{}", fs::read_to_string(&log).unwrap());
            sleep(Duration::from_millis(20)).await;
        };
        Self { process, target }
    }

    /// Ends the sidecar as an orchestrator does.
    pub(crate) async fn end(mut self) {
        let pid = Pid::from_raw(self.process.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        assert!(self.process.wait().await.unwrap().success());
    }
}

/// The sidecar's address in a line of its log.
fn address(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains(r#""message":"Listening.""#))?;
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(event.get("address")?.as_str()?.to_owned())
}

/// A server's side of TLS 1.3, and its self-signed certificate in PEM.
fn tls() -> (TlsAcceptor, String) {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], PrivateKeyDer::from(key))
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), signed.cert.pem())
}

/// Answers every request on every TLS connection in the same way.
async fn serve_tls(acceptor: TlsAcceptor, answer: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            tokio::spawn(async move {
                answer_all(acceptor.accept(stream).await.unwrap(), &answer).await;
            });
        }
    });
    address
}
