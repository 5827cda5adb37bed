//! Network paths to the upstream that lose all packets, and upstreams that only stand still.

use crate::support::forward_proxy::ForwardProxy;
use crate::support::http2::Http2Upstream;
use crate::support::issuer;
use crate::support::network::{FAR, Network};
use crate::support::sidecar::Sidecar;
use crate::support::tls::Authority;
use crate::support::upstream::{Behaviour, Peer, read_request};
use crate::support::{accepting, eventually, http};
use futures_util::future::join_all;
use rcgen::{CertificateParams, SanType};
use std::future::pending;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, sink,
};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

/// The time for which a live upstream only acknowledges packets.
const STAND_STILL: Duration = Duration::from_secs(50);
/// A length beyond all buffers.
const LARGE: usize = 48 << 20;

/// Method and path of the requests received.
type Seen = Arc<Mutex<Vec<String>>>;

/// Answers 200 to every request, with two exceptions: the first request for `…/slow` gets no
/// response, and one for `…/half` half of its body.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: Seen) -> Option<()> {
    while let Some(request) = read_request(&mut stream).await {
        let line = request.line().trim_end_matches(" HTTP/1.1").to_owned();
        let is_first = !seen.lock().unwrap().contains(&line);
        seen.lock().unwrap().push(line.clone());
        if line.ends_with("/slow") && is_first {
            pending::<()>().await;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n").await.ok()?;
        let body = if line.starts_with("HEAD ") { "" } else { "fine" };
        let (half, rest) = body.split_at(body.len() / 2);
        stream.write_all(half.as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
        if line.ends_with("/half") {
            pending::<()>().await;
        }
        stream.write_all(rest.as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
    }
    Some(())
}

/// Starts this upstream with or without TLS. Returns its port.
async fn upstream(
    address: Ipv4Addr,
    acceptor: Option<TlsAcceptor>,
    seen: &Seen,
) -> (u16, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = seen.clone();
    let task = accepting(listener, move |stream| {
        let (acceptor, seen) = (acceptor.clone(), seen.clone());
        async move {
            match acceptor {
                Some(acceptor) => serve(acceptor.accept(stream).await.ok()?, seen).await,
                None => serve(stream, seen).await,
            }
        }
    });
    (port, task)
}

/// A request that is sent, or in flight, when the path dies: its method, the end of its path, and
/// the expected result for the caller and for the upstream.
#[derive(Clone, Copy, Debug)]
struct Case {
    method: &'static str,
    end: &'static str,
    is_large: bool,
    /// `None` stands for a body that is cut.
    status: Option<u16>,
    times: usize,
}

const CASES: [Case; 7] = [
    // Over a kept connection.
    Case { method: "GET", end: "", is_large: false, status: Some(200), times: 2 },
    Case { method: "HEAD", end: "", is_large: false, status: Some(200), times: 2 },
    Case { method: "POST", end: "", is_large: false, status: Some(504), times: 1 },
    Case { method: "PUT", end: "", is_large: true, status: Some(504), times: 1 },
    // While the sidecar waits for the response.
    Case { method: "GET", end: "/slow", is_large: false, status: Some(200), times: 2 },
    Case { method: "POST", end: "/slow", is_large: false, status: Some(504), times: 1 },
    // In the middle of the response.
    Case { method: "GET", end: "/half", is_large: false, status: None, times: 1 },
];

/// A case with an upstream of its own.
struct Attempt {
    case: Case,
    path: String,
    seen: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
}

impl Attempt {
    fn request(&self, sidecar: &Sidecar, end: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{}{end}", sidecar.url, self.path);
        let request = http().request(self.case.method.parse().unwrap(), url);
        if self.case.is_large { request.body("x".repeat(100_000)) } else { request }
    }

    /// The status that the caller gets, if the body is complete.
    async fn run(&self, sidecar: &Sidecar) -> Option<u16> {
        let answer = self.request(sidecar, self.case.end).send().await.unwrap();
        let status = answer.status().as_u16();
        answer.bytes().await.is_ok().then_some(status)
    }

    /// The number of times that the upstream received the request.
    fn times(&self) -> usize {
        let line = format!("{} {}{}", self.case.method, self.path, self.case.end);
        (self.seen)().iter().filter(|seen| **seen == line).count()
    }
}

#[tokio::test]
async fn over_a_dead_path_reads_are_answered_and_writes_end_long_before_the_configured_time_outs() {
    const NAME: &str = "proxy::dead_paths::over_a_dead_path_reads_are_answered_and_writes_end_long_before_the_configured_time_outs";
    let Some(network) = Network::for_test(NAME).await else { return };
    let authority = Authority::new();
    let at_far = |params: &mut CertificateParams| {
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(FAR)));
    };
    let tls = |change: &dyn Fn(&mut CertificateParams)| {
        authority.server_of(rustls::ALL_VERSIONS, None, change)
    };
    let seen = Seen::default();
    let acceptor = TlsAcceptor::from(Arc::new(tls(&at_far)));
    let (plain, _plain) = upstream(FAR, None, &seen).await;
    let (secure, _secure) = upstream(FAR, Some(acceptor.clone()), &seen).await;
    let (behind, _behind) = upstream(Ipv4Addr::LOCALHOST, Some(acceptor), &seen).await;
    let proxy = ForwardProxy::start_at(FAR).await;
    let new = Arc::new(Http2Upstream::serving_at(FAR, tls(&at_far), &["h2"], &[]).await);
    let url = |url: String| ("url", format!("'{url}'"));
    let ways = [
        (
            "plain",
            vec![url(format!("http://{FAR}:{plain}")), ("allow_cleartext", "true".to_owned())],
        ),
        ("tls", vec![url(format!("https://{FAR}:{secure}"))]),
        (
            "proxied",
            vec![
                url(format!("https://localhost:{behind}")),
                ("proxy", format!("'http://{}'", proxy.address)),
            ],
        ),
        ("h2", vec![url(new.url()), ("http2", "true".to_owned())]),
    ];

    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let issuer = issuer::steady().await;
    let unused = issuer.configuration("http://127.0.0.1:1");
    let mut config = unused.without_upstreams().without_routes();
    let mut attempts = Vec::new();
    for (way, keys) in &ways {
        for (number, case) in CASES.into_iter().enumerate() {
            if *way == "h2" && !case.end.is_empty() {
                continue;
            }
            // An upstream of its own, so that cases share no connections.
            let name = format!("{way}-{number}");
            config = config.add_upstream(&name).upstream("ca_file", ca.display());
            for (key, value) in keys {
                config = config.upstream(key, value);
            }
            // An upload may stand still for as long as a write.
            config = config
                .upstream("timeouts", "{ write: 16s }")
                .route(&format!("/{name}"), "upstream", &name)
                .route(&format!("/{name}"), "profile", "passthrough");
            let (seen, new) = (seen.clone(), new.clone());
            let seen: Arc<dyn Fn() -> Vec<String> + Send + Sync> = match *way {
                "h2" => Arc::new(move || new.answered()),
                _ => Arc::new(move || seen.lock().unwrap().clone()),
            };
            attempts.push(Attempt { case, path: format!("/{name}"), seen });
        }
    }
    let sidecar = Sidecar::ready(&config).await;

    // Each upstream has a kept connection, and some have a request in flight.
    for answer in join_all(attempts.iter().map(|one| one.request(&sidecar, "/first").send())).await
    {
        assert_eq!(answer.unwrap().status(), 200);
    }
    let (kept, under_way): (Vec<_>, Vec<_>) =
        attempts.iter().partition(|attempt| attempt.case.end.is_empty());
    let slow = join_all(under_way.iter().map(|attempt| attempt.run(&sidecar)));
    let cut = async {
        eventually("all are in flight", async || under_way.iter().all(|one| one.times() == 1))
            .await;
        network.cut().await;
        join_all(kept.iter().map(|attempt| attempt.run(&sidecar))).await
    };
    let (slow, kept_ends) = tokio::join!(slow, cut);

    let attempts = under_way.into_iter().chain(kept);
    for (attempt, got) in attempts.zip(slow.into_iter().chain(kept_ends)) {
        let case = attempt.case;
        assert_eq!(got, case.status, "{}: {case:?}", attempt.path);
        let times = attempt.times();
        // A window of HTTP/2 may have been too small for the whole request.
        let is_fine = times == case.times || case.is_large && times == 0;
        assert!(is_fine, "{}: {case:?}, {times} times", attempt.path);
    }
}

/// Answers an upload long after it began to read it.
async fn stand_still(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<()> {
    let mut first = [0; 1];
    stream.read_exact(&mut first).await.ok()?;
    sleep(STAND_STILL).await;
    let mut head = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        head.read_line(&mut line).await.ok()?;
    }
    tokio::io::copy(&mut (&mut head).take(LARGE as u64), &mut sink()).await.ok()?;
    head.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await.ok()?;
    head.flush().await.ok()
}

#[tokio::test]
async fn a_peer_that_acknowledges_but_reads_nothing_for_50_s_is_not_cut() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(authority.server()));
    let listeners = [bound().await, bound().await];
    let [plain, secure] = [0, 1].map(|number| listeners[number].local_addr().unwrap().port());
    let [here, there] = listeners;
    let _plain = accepting(here, stand_still);
    let _secure = accepting(there, move |stream| {
        let acceptor = acceptor.clone();
        async move { stand_still(acceptor.accept(stream).await.ok()?).await }
    });
    let issuer = issuer::steady().await;
    let config = issuer
        .configuration("http://127.0.0.1:1")
        .without_upstreams()
        .without_routes()
        .add_upstream("plain")
        .upstream("url", format!("'http://127.0.0.1:{plain}'"))
        .add_upstream("tls")
        .upstream("url", format!("'https://localhost:{secure}'"))
        .upstream("ca_file", ca.display())
        .route("/plain", "upstream", "plain")
        .route("/plain", "profile", "passthrough")
        .route("/tls", "upstream", "tls")
        .route("/tls", "profile", "passthrough");
    let sidecar = Sidecar::ready(&config).await;
    // reqwest's own timeout would be too short.
    let http = reqwest::Client::builder().no_proxy().tcp_user_timeout(None).build().unwrap();
    let upload = async |path: &str| {
        let request = http.put(format!("{}{path}", sidecar.url)).body(vec![b'x'; LARGE]);
        request.timeout(STAND_STILL * 2).send().await.unwrap().status().as_u16()
    };
    assert_eq!(tokio::join!(upload("/plain"), upload("/tls")), (201, 201));
}

async fn bound() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// Waits for an idle connection to this port, and returns the time until its next keep-alive probe.
pub(crate) async fn probed_in(port: u16) -> Duration {
    let mut found = None;
    eventually("an idle connection", async || {
        let connections = std::fs::read_to_string("/proc/net/tcp").unwrap();
        found = connections.lines().skip(1).find_map(|line| {
            let field: Vec<&str> = line.split_whitespace().collect();
            let is_there = field[2].ends_with(&format!(":{port:04X}")) && field[3] == "01";
            // The keep-alive timer, in hundredths of a second (proc_net_tcp).
            let timer = field[5].strip_prefix("02:").filter(|_| is_there)?;
            Some(Duration::from_millis(u64::from_str_radix(timer, 16).unwrap() * 10))
        });
        found.is_some()
    })
    .await;
    found.unwrap()
}

/// The longest time until a probe. reqwest's own is 15 s.
pub(crate) const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn bearerds_own_requests_go_over_connections_with_keep_alive_probes_too() {
    let issuer = Peer::start(Behaviour::Hang).await;
    let _waiting = Sidecar::start(&issuer.configuration("http://127.0.0.1:1"));
    assert!(probed_in(issuer.address.port()).await <= SOON, "a token request");

    let (issuer, upstream) = (issuer::steady().await, Peer::start(Behaviour::Hang).await);
    let config = issuer.configuration(&upstream.url());
    let sidecar = Sidecar::ready(&config.upstream("timeouts", "{ read: 60s }")).await;
    let write = http().post(format!("{}/users/Users", sidecar.url)).body("{}").send();
    tokio::select! {
        probed = probed_in(upstream.address.port()) => assert!(probed <= SOON, "a CSRF fetch"),
        answer = write => panic!("{answer:?}"),
    }
}
