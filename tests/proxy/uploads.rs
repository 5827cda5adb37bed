//! Uploads: those that ask first, those that are refused in the middle, those whose sender leaves.

use crate::support::forward_proxy::ForwardProxy;
use crate::support::issuer;
use crate::support::raw_client::RawClient;
use crate::support::sidecar::Sidecar;
use crate::support::tls::Authority;
use crate::support::upstream::Peer;
use crate::support::{DEADLINE, eventually, http};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// A sidecar in front of an upstream that is played by hand.
struct World {
    sidecar: Sidecar,
    upstream: TcpListener,
    _issuer: Peer,
}

/// A connection of the sidecar's to the upstream.
struct Upstream(TcpStream);

async fn world() -> World {
    world_with("").await
}

/// The same with more keys for the upstream.
async fn world_with(keys: &str) -> World {
    let issuer = issuer::steady().await;
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", upstream.local_addr().unwrap());
    let config = issuer.config(&url, "", "").replace("read: 1s", "read: 20s");
    let config = config.replace("timeouts:", &format!("{keys} timeouts:"));
    World { sidecar: Sidecar::ready(&config).await, upstream, _issuer: issuer }
}

impl World {
    /// A caller that has sent the header of an upload with these header lines.
    async fn caller(&self, lines: &str) -> RawClient {
        self.caller_of("HTTP/1.1", lines).await
    }

    /// The same of a version.
    async fn caller_of(&self, version: &str, lines: &str) -> RawClient {
        let mut caller = RawClient::connect(self.sidecar.host()).await;
        caller.send(&format!("PUT /free {version}\r\nHost: localhost\r\n{lines}\r\n")).await;
        caller
    }

    async fn accepted(&self) -> Upstream {
        Upstream(timeout(DEADLINE, self.upstream.accept()).await.unwrap().unwrap().0)
    }
}

impl Upstream {
    /// Reads until this has come, and returns all that has.
    async fn until(&mut self, wanted: &str) -> String {
        let reading = async {
            let (mut bytes, mut text) = (Vec::new(), String::new());
            while !text.contains(wanted) {
                assert!(self.0.read_buf(&mut bytes).await.unwrap() > 0, "closed after {text}");
                text = String::from_utf8(bytes.clone()).unwrap();
            }
            text
        };
        timeout(DEADLINE, reading).await.expect("it comes in time")
    }

    async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }
}

const ASKS: &str = "Expect: 100-continue\r\nContent-Length: 5\r\n";

/// The upstream says that it takes the body, and the caller sends it.
async fn go_on(caller: &mut RawClient, upstream: &mut Upstream) {
    upstream.say("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert!(caller.head().await.starts_with("HTTP/1.1 100 "));
    caller.send("hello").await;
    assert_eq!(upstream.until("hello").await, "hello");
    upstream.say("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await;
    assert!(caller.head().await.starts_with("HTTP/1.1 201 "));
}

#[tokio::test]
async fn a_caller_that_asks_first_hears_the_upstreams_own_word() {
    let world = world().await;
    let mut caller = world.caller(ASKS).await;
    let mut upstream = world.accepted().await;
    let head = upstream.until("\r\n\r\n").await.to_lowercase();
    assert!(
        head.contains("expect: 100-continue") && head.contains("authorization: bearer"),
        "{head}"
    );
    go_on(&mut caller, &mut upstream).await;
}

#[tokio::test]
async fn a_caller_that_asks_first_and_is_refused_has_sent_nothing() {
    let world = world().await;
    let mut caller = world.caller(ASKS).await;
    let mut upstream = world.accepted().await;
    upstream.until("\r\n\r\n").await;
    upstream.say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n").await;
    assert!(caller.head().await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn a_refused_token_is_healed_while_a_caller_still_waits_for_the_word() {
    let world = world().await;
    let mut caller = world.caller(ASKS).await;
    let mut upstream = world.accepted().await;
    upstream.until("\r\n\r\n").await;
    upstream.say("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").await;
    let mut upstream = world.accepted().await;
    upstream.until("\r\n\r\n").await;
    go_on(&mut caller, &mut upstream).await;
}

#[tokio::test]
async fn an_error_in_the_middle_of_an_upload_reaches_its_sender() {
    for closes in [false, true] {
        let world = world().await;
        let mut caller = world.caller("Content-Length: 1000000000\r\n").await;
        caller.send(&"x".repeat(100_000)).await;
        let mut upstream = world.accepted().await;
        upstream.until("\r\n\r\n").await;
        upstream.say("HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlarge").await;
        let kept = (!closes).then_some(upstream);
        assert!(caller.head().await.starts_with("HTTP/1.1 413 "), "closes: {closes}");
        drop(kept);
    }
}

#[tokio::test]
async fn a_sender_that_leaves_takes_the_upstreams_request_along() {
    let world = world().await;
    let mut caller = world.caller("Content-Length: 1000000\r\n").await;
    caller.send("hello").await;
    let mut upstream = world.accepted().await;
    upstream.until("hello").await;
    drop(caller);
    let mut rest = Vec::new();
    // An end or a reset; but no more bytes, and no waiting.
    let ended = timeout(DEADLINE, upstream.0.read_to_end(&mut rest)).await;
    assert!(ended.is_ok() && rest.is_empty(), "{ended:?} {rest:?}");
    let series =
        r#"bearerd_requests_total{code_class="none",method="PUT",outcome="downstream_closed""#;
    eventually("counted", async || world.sidecar.metric(series).await == 1.0).await;
}

#[tokio::test]
async fn a_caller_that_is_answered_early_and_sends_no_more_is_not_waited_for() {
    let world = world().await;
    let mut open = Vec::new();
    for (version, lines) in [
        ("HTTP/1.1", ASKS),
        ("HTTP/1.1", "Content-Length: 1000\r\n"),
        ("HTTP/1.1", "Transfer-Encoding: chunked\r\n"),
        ("HTTP/1.0", "Content-Length: 1000\r\n"),
    ] {
        for answer in ["Content-Length: 5\r\n\r\nlarge", "Content-Length: 0\r\n\r\n"] {
            let caller = world.caller_of(version, lines).await;
            let mut upstream = world.accepted().await;
            upstream.until("\r\n\r\n").await;
            upstream.say(&format!("HTTP/1.1 413 Content Too Large\r\n{answer}")).await;
            open.push((caller, upstream, answer));
        }
    }
    let count = open.len() as f64;
    for (mut caller, _upstream, answer) in open {
        let said = caller.rest().await;
        assert!(said.starts_with("HTTP/1.1 413 "), "{said}");
        assert!(answer.ends_with(said.rsplit("\r\n\r\n").next().unwrap()), "{said}");
    }
    let series = r#"bearerd_requests_total{code_class="4xx",method="PUT",outcome="forwarded""#;
    eventually("counted", async || world.sidecar.metric(series).await == count).await;
    assert_eq!(world.sidecar.metric("bearerd_requests_in_flight").await, 0.0);
}

#[tokio::test]
async fn once_the_answer_is_whole_another_request_gets_its_turn() {
    let world = world_with("max_in_flight: 1,").await;
    let mut first = world.caller("Content-Length: 1000\r\n").await;
    let mut upstream = world.accepted().await;
    upstream.until("\r\n\r\n").await;
    upstream.say("HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok").await;
    assert!(first.head().await.starts_with("HTTP/1.1 202 "));
    // The first one may still send its body.
    let _second = world.caller("Content-Length: 0\r\n").await;
    world.accepted().await.until("\r\n\r\n").await;
}

/// A stream of any kind.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// The ways to an upstream that is played by hand: without TLS, with it, and through a proxy.
const WAYS: [(bool, bool); 3] = [(false, false), (true, false), (true, true)];

/// A world whose upstream speaks TLS or not, behind a proxy or not.
struct FarWorld {
    world: World,
    acceptor: Option<TlsAcceptor>,
    _proxy: ForwardProxy,
    _folder: tempfile::TempDir,
}

impl FarWorld {
    async fn start((is_tls, is_proxied): (bool, bool)) -> Self {
        let authority = Authority::new();
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, &authority.pem).unwrap();
        let proxy = ForwardProxy::start().await;
        let (issuer, upstream) =
            (issuer::steady().await, TcpListener::bind("127.0.0.1:0").await.unwrap());
        let port = upstream.local_addr().unwrap().port();
        let scheme = if is_tls { "https" } else { "http" };
        let config = issuer.config(&format!("{scheme}://localhost:{port}"), "", "");
        let mut keys = format!("ca_file: {},", ca.display());
        if is_proxied {
            keys += &format!(" proxy: \"http://{}\",", proxy.address);
        }
        let config = config.replace(
            "timeouts: { connect: 1s, read: 1s }",
            &format!("{keys} timeouts: {{ read: 120s }}"),
        );
        let world = World { sidecar: Sidecar::ready(&config).await, upstream, _issuer: issuer };
        let acceptor = is_tls.then(|| TlsAcceptor::from(Arc::new(authority.server())));
        Self { world, acceptor, _proxy: proxy, _folder: folder }
    }

    async fn accepted(&self) -> Box<dyn Stream> {
        let stream = self.world.accepted().await.0;
        match &self.acceptor {
            Some(acceptor) => Box::new(acceptor.accept(stream).await.unwrap()),
            None => Box::new(stream),
        }
    }
}

/// Answers early, and neither reads on nor closes.
async fn answer_early(upstream: &mut Box<dyn Stream>, status: &str) {
    upstream.read_exact(&mut [0; 4]).await.unwrap();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\nlarge");
    upstream.write_all(answer.as_bytes()).await.unwrap();
    upstream.flush().await.unwrap();
}

/// More than all buffers hold.
const LARGE: usize = 100 << 20;

#[tokio::test]
async fn an_early_answer_is_heard_although_the_upstream_then_neither_reads_nor_closes() {
    for way in WAYS {
        for framing in ["Content-Length: 1000000000", "Transfer-Encoding: chunked"] {
            for status in ["413 Content Too Large", "200 OK"] {
                let world = FarWorld::start(way).await;
                let stream = TcpStream::connect(world.world.sidecar.host()).await.unwrap();
                let (mut read, mut write) = stream.into_split();
                let head = format!("PUT /free HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n");
                write.write_all(head.as_bytes()).await.unwrap();
                // It sends until it has its answer, whatever becomes of that.
                let piece = [b"10000\r\n".as_slice(), &[b'x'; 65536], b"\r\n"].concat();
                let sending = async { while write.write_all(&piece).await.is_ok() {} };
                let answered = async {
                    let mut upstream = world.accepted().await;
                    // The body is on its way, and fills what there is.
                    upstream.read_exact(&mut vec![0; 4 << 20]).await.unwrap();
                    answer_early(&mut upstream, status).await;
                    let mut answer = vec![0; 12];
                    timeout(DEADLINE, read.read_exact(&mut answer)).await.expect("heard").unwrap();
                    (upstream, String::from_utf8(answer).unwrap())
                };
                tokio::select! {
                    () = sending => panic!("{way:?} {framing}: closed before an answer"),
                    (_upstream, answer) = answered => {
                        assert_eq!(answer, format!("HTTP/1.1 {}", &status[..3]), "{way:?} {framing}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn who_sends_all_before_it_listens_hears_an_early_answer_too() {
    for way in WAYS {
        for status in ["413 Content Too Large", "200 OK"] {
            let world = FarWorld::start(way).await;
            let lines = format!("Content-Length: {LARGE}\r\n");
            let mut caller = world.world.caller(&lines).await;
            let sending = async {
                caller.send(&"x".repeat(LARGE)).await;
                caller.rest().await
            };
            let answering = async {
                let mut upstream = world.accepted().await;
                answer_early(&mut upstream, status).await;
                upstream
            };
            let both = async { tokio::join!(sending, answering) };
            let (said, mut upstream) = timeout(DEADLINE, both).await.expect("heard in time");
            assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{way:?}: {said}");
            assert!(said.ends_with("\r\n\r\nlarge"), "{way:?}: {said}");
            // What was dropped makes no whole request.
            let mut got = Vec::new();
            let _ = upstream.read_to_end(&mut got).await;
            assert!(got.len() < LARGE, "{way:?}: {}", got.len());
        }
    }
}

#[tokio::test]
async fn an_upload_arrives_whole_at_whatever_pace_it_is_read() {
    const LENGTH: usize = 20 << 20;
    let body: Vec<u8> = (0..LENGTH).map(|at| (at / 7 % 251) as u8).collect();
    for way in WAYS {
        let world = FarWorld::start(way).await;
        let url = format!("{}/free", world.world.sidecar.url);
        let upload = http().put(url).body(body.clone()).send();
        let reading = async {
            let mut upstream = world.accepted().await;
            let mut got = Vec::new();
            let mut piece = vec![0; 1 << 20];
            while got.len() < LENGTH + 4 || !got.ends_with(&body[LENGTH - 64..]) {
                // In small pieces, in large ones, and with pauses.
                let most = 1 + (got.len() * 31) % piece.len();
                let count = upstream.read(&mut piece[..most]).await.unwrap();
                assert!(count > 0, "{way:?}: closed after {}", got.len());
                got.extend_from_slice(&piece[..count]);
                tokio::task::yield_now().await;
            }
            upstream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            upstream.flush().await.unwrap();
            got
        };
        let (answer, got) = tokio::join!(upload, reading);
        assert_eq!(answer.unwrap().status(), 201, "{way:?}");
        assert!(got.ends_with(&body), "{way:?}");
    }
}

#[tokio::test]
async fn what_is_sent_is_not_sent_on_if_its_caller_leaves_while_the_upstream_is_connected_to() {
    for way in WAYS.into_iter().filter(|(is_tls, _)| *is_tls) {
        let world = FarWorld::start(way).await;
        for (count, length) in [(1.0, 5), (2.0, LARGE)] {
            let mut caller = world.world.caller(&format!("Content-Length: {length}\r\n")).await;
            caller.send("hello").await;
            let stream = world.world.accepted().await.0;
            drop(caller);
            // Less counts as no wait.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            let acceptor = world.acceptor.as_ref().unwrap();
            let mut upstream = acceptor.accept(stream).await.unwrap();
            let mut got = Vec::new();
            let reading = upstream.read_to_end(&mut got);
            // An end of whatever kind.
            let _ = timeout(DEADLINE, reading).await.expect("it is closed");
            let got = String::from_utf8_lossy(&got);
            assert_eq!(got, "", "{way:?} {length}");
            let series = r#"bearerd_requests_total{code_class="none",method="PUT",outcome="downstream_closed""#;
            eventually("counted", async || world.world.sidecar.metric(series).await == count).await;
        }
    }
}
