//! Instructions per request: a guard against slow code that the load of the machine does not
//! affect.
//!
//! The binary runs under valgrind's callgrind, once for few requests and once for many, so that the
//! start and the end cancel out. `make instructions` compares with `instructions.yaml`. The binary
//! is built alone: a build with tests and benches adds features of libraries, for example tokio's
//! clock that can be paused.
//!
//! Without `--measure`, as `cargo test` runs it, one request of each kind is sent and not counted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout)]

mod loopback;

use loopback::{answer, get, serve, token};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, File};
use std::iter::repeat_with;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

/// The kinds of requests: name and path.
const KINDS: [(&str, &str); 4] = [
    // 1 KB that is searched only for the token.
    ("plain", "/plain/x"),
    // An OData page of 20 KB with a link in each row.
    ("links", "/data/Orders?$top=100"),
    // Twenty reads in one request, each checked.
    ("batch", "/judged/$batch"),
    // The same batch without checks. The difference is the cost of the checks.
    ("batch_unchecked", "/unchecked/$batch"),
];
/// The number of parts in a batch.
const PARTS: usize = 20;
/// The file with a single trust anchor. The system's anchors would be read again after the start,
/// more often in the long run than in the short one, and would count as requests.
const ANCHORS: &str = "anchors.pem";
/// The numbers of requests in the short and the long run. The figure varies by a few thousandths.
const FEW: u32 = 200;
const MANY: u32 = 1200;
/// The smallest change of a figure that counts. A smaller one can come from the compiler.
const TOLERANCE: f64 = 0.05;
/// The smallest change that counts with another compiler or tool.
const LOOSE: f64 = 0.25;
/// The longest run on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

const FIGURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.yaml");
const HEAD: &str = "\
# Instructions that one request takes, by its kind in benches/instructions.rs. `make instructions` compares;
# `make instructions RENEW=1` writes this file anew. A commit that makes a figure grow says what for.
";

/// The content of `instructions.yaml`.
#[derive(Deserialize)]
struct Figures {
    /// The properties of the machine that decide which instructions run. Figures of others don't
    /// compare.
    machine: String,
    /// The tools that change the figures slightly.
    tools: String,
    instructions: BTreeMap<String, u64>,
}

impl Figures {
    fn read() -> Self {
        serde_saphyr::from_str(&fs::read_to_string(FIGURES).unwrap()).unwrap()
    }

    /// Empty figures for this machine and its tools.
    async fn here() -> Self {
        let rustc = version_of("rustc", &["--version"]).await;
        let rustc = rustc.split(" (").next().unwrap();
        let libc = version_of("getconf", &["GNU_LIBC_VERSION"]).await;
        let valgrind = version_of("valgrind", &["--version"]).await;
        Self {
            machine: machine(),
            tools: format!("{rustc}, {libc}, {valgrind}"),
            instructions: BTreeMap::new(),
        }
    }

    fn write(&self) {
        let mut text = format!("{HEAD}machine: {}\ntools: {}\n", self.machine, self.tools);
        text.push_str("instructions:\n");
        for (kind, count) in &self.instructions {
            writeln!(text, "  {kind}: {count}").unwrap();
        }
        fs::write(FIGURES, text).unwrap();
    }

    /// Whether `self`, measured now, is no worse than `before`. Prints the comparison.
    fn are_as_good_as(&self, before: &Self) -> bool {
        if self.machine != before.machine {
            println!(
                "Not compared: the figures are of {}, this is {}.",
                before.machine, self.machine
            );
            return true;
        }
        let tolerance = if self.tools == before.tools {
            TOLERANCE
        } else {
            println!("The figures are by {}, these by {}: renew them.", before.tools, self.tools);
            LOOSE
        };
        let mut good = true;
        for (kind, now) in &self.instructions {
            let Some(before) = before.instructions.get(kind).copied() else {
                println!(
                    "{kind}: {now} instructions a request, and no figure: `make instructions RENEW=1`."
                );
                good = false;
                continue;
            };
            let change = *now as f64 / before as f64 - 1.0;
            println!(
                "{kind}: {now} instructions a request, where {before} are known ({:+.1} %)",
                change * 100.0
            );
            if change > tolerance {
                println!("  More than {:.0} % too many; see where they are:", tolerance * 100.0);
                println!("  callgrind_annotate {}", profile(kind).display());
                good = false;
            } else if change < -tolerance {
                println!("  The figure should be renewed: `make instructions RENEW=1`.");
            }
        }
        good
    }
}

/// The first line of a command's output.
async fn version_of(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).output().await;
    let output = output.unwrap_or_else(|error| panic!("{command}: {error}"));
    String::from_utf8(output.stdout).unwrap().lines().next().unwrap_or_default().to_owned()
}

/// AVX2 in the processor. valgrind shows the same processor everywhere except for AVX2, which
/// memchr and the C library use.
fn machine() -> String {
    #[cfg(target_arch = "x86_64")]
    let avx2 = if is_x86_feature_detected!("avx2") { " with AVX2" } else { " without AVX2" };
    #[cfg(not(target_arch = "x86_64"))]
    let avx2 = "";
    format!("{}{avx2}", std::env::consts::ARCH)
}

/// The file of callgrind's figures.
fn profile(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("instructions-{kind}.callgrind"))
}

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

/// A batch of reads, as OData clients write it.
fn batch() -> String {
    let part = "--batch\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n\
                GET Orders?$top=100&$filter=Status%20eq%20'NEW' HTTP/1.1\r\nAccept: application/json\r\n\r\n\r\n";
    format!("{}--batch--\r\n", part.repeat(PARTS))
}

/// The sidecar's servers: an issuer, and an upstream for each kind of request.
struct World {
    folder: TempDir,
    pages: SocketAddr,
}

impl World {
    async fn start() -> Self {
        // It is as long and as random as SAP's tokens: every response is searched for it.
        let mut random = fastrand::Rng::with_seed(42);
        let letters: String = repeat_with(|| random.alphanumeric()).take(2000).collect();
        let issuer = serve(|_| token(&letters)).await;
        let plain = serve(|_| answer(&page("https://elsewhere.example", 4))).await;
        let pages = serve(|address| answer(&page(&format!("http://{address}"), 100))).await;
        let folder = tempfile::tempdir().unwrap();
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
routes:
  - {{ path: /plain, upstream: plain, profile: passthrough }}
  - {{ path: /data, upstream: pages, profile: odata }}
  - {{ path: /judged, upstream: plain, profile: odata }}
  - {{ path: /unchecked, upstream: plain, profile: odata, unchecked_batches: on }}
sandbox: off
"
        );
        fs::write(folder.path().join("bearerd.yaml"), yaml).unwrap();
        let anchor = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(folder.path().join(ANCHORS), anchor.cert.pem()).unwrap();
        Self { folder, pages }
    }

    /// Starts the sidecar, sends this many requests one after the other, and ends it. There is no
    /// readiness probe, which would count: the first request waits for the token.
    async fn run(&self, mut command: Command, path: &str, requests: u32) {
        let log = self.folder.path().join("log");
        let mut sidecar = command
            .args(["run", "--config"])
            .arg(self.folder.path().join("bearerd.yaml"))
            .env_clear()
            .env("SSL_CERT_FILE", self.folder.path().join(ANCHORS))
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let target = loop {
            if let Some(address) = address(&fs::read_to_string(&log).unwrap()) {
                break address;
            }
            assert!(sidecar.try_wait().unwrap().is_none(), "{}", fs::read_to_string(&log).unwrap());
            sleep(Duration::from_millis(20)).await;
        };
        let mut stream = TcpStream::connect(&target).await.unwrap();
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
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: python-requests/2.32.5\r\n\
             Accept-Encoding: gzip, deflate\r\nAccept: application/json\r\nConnection: keep-alive\r\n\
             Authorization: Basic dG9vbDpwYXNzd29yZA==\r\nX-Forwarded-For: 10.0.0.7\r\n\
             OData-MaxVersion: 4.0\r\n{of_body}\r\n{body}"
        );
        let mut buffer = vec![0; 64 * 1024];
        for _ in 0..requests {
            let body = get(&mut stream, request.as_bytes(), &mut buffer).await;
            let body = String::from_utf8_lossy(body);
            assert!(!body.contains(&self.pages.to_string()), "links are rewritten: {body}");
        }
        let pid = Pid::from_raw(sidecar.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        assert!(sidecar.wait().await.unwrap().success());
    }

    /// The instructions of a whole run.
    async fn count(&self, binary: &str, (kind, path): (&str, &str), requests: u32) -> u64 {
        let profile = profile(kind);
        let mut command = Command::new("valgrind");
        command.arg("--tool=callgrind");
        command.arg(format!("--callgrind-out-file={}", profile.display()));
        // Not into the sidecar's log.
        command.arg(format!("--log-file={}", self.folder.path().join("valgrind").display()));
        command.arg(binary);
        timeout(DEADLINE, self.run(command, path, requests)).await.expect("it ends in time");
        let counted = fs::read_to_string(profile).unwrap();
        let total = counted.lines().find_map(|line| line.strip_prefix("totals: "));
        total.unwrap().parse().unwrap()
    }
}

/// The sidecar's address in a line of its log.
fn address(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains(r#""message":"Listening.""#))?;
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(event.get("address")?.as_str()?.to_owned())
}

#[tokio::main]
async fn main() -> ExitCode {
    let before = Figures::read();
    let world = World::start().await;
    let mut arguments = std::env::args().skip_while(|argument| argument != "--measure").skip(1);
    let Some(binary) = arguments.next() else {
        for (_, path) in KINDS {
            world.run(Command::new(env!("CARGO_BIN_EXE_bearerd")), path, 1).await;
        }
        return ExitCode::SUCCESS;
    };
    let mut now = Figures::here().await;
    for kind in KINDS {
        let few = world.count(&binary, kind, FEW).await;
        let many = world.count(&binary, kind, MANY).await;
        now.instructions.insert(kind.0.to_owned(), (many - few) / u64::from(MANY - FEW));
    }
    if arguments.any(|argument| argument == "--renew") {
        now.write();
        println!("{}", fs::read_to_string(FIGURES).unwrap());
        return ExitCode::SUCCESS;
    }
    if now.are_as_good_as(&before) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
