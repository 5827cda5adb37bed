//! Uploads: with `Expect: 100-continue`, with an early response, and with a client that leaves.

use crate::support::configuration::Configuration;
use crate::support::forward_proxy::ForwardProxy;
use crate::support::raw_client::RawClient;
use crate::support::scene::{Scene, Upstream, unchanged};
use crate::support::tls::Authority;
use crate::support::{DEADLINE, eventually, http};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// A connection from the sidecar, which the test reads and answers.
struct Connection(TcpStream);

/// A scene whose upstream the test plays.
async fn start() -> Scene<TcpListener> {
    start_with(unchanged).await
}

async fn start_with(change: impl FnOnce(Configuration) -> Configuration) -> Scene<TcpListener> {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let timeouts = "{ connect: 1s, read: 20s }";
    Scene::before(upstream, |config| change(config.upstream("timeouts", timeouts))).await
}

/// A client that has sent the header of an upload with these header lines.
async fn upload<U>(scene: &Scene<U>, lines: &str) -> RawClient {
    upload_by(scene, "HTTP/1.1", lines).await
}

/// A client of this HTTP version that has sent the header of an upload.
async fn upload_by<U>(scene: &Scene<U>, version: &str, lines: &str) -> RawClient {
    let mut client = RawClient::connect(scene.sidecar.host()).await;
    client.send(&format!("PUT /free {version}\r\nHost: localhost\r\n{lines}\r\n")).await;
    client
}

async fn accept(listener: &TcpListener) -> TcpStream {
    timeout(DEADLINE, listener.accept()).await.unwrap().unwrap().0
}

async fn accepted(scene: &Scene<TcpListener>) -> Connection {
    Connection(accept(&scene.upstream).await)
}

impl Connection {
    /// Reads until this text has come, and returns all text so far.
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

/// Header lines of an upload that waits for 100.
const EXPECTS: &str = "Expect: 100-continue\r\nContent-Length: 5\r\n";

/// Lets the upstream answer 100, the caller send the body, and the upstream answer 201.
async fn continue_upload(caller: &mut RawClient, upstream: &mut Connection) {
    upstream.say("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert!(caller.head().await.starts_with("HTTP/1.1 100 "));
    caller.send("hello").await;
    assert_eq!(upstream.until("hello").await, "hello");
    upstream.say("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await;
    assert!(caller.head().await.starts_with("HTTP/1.1 201 "));
}

#[tokio::test]
async fn a_caller_that_expects_100_gets_the_upstreams_own_response() {
    let scene = start().await;
    let mut caller = upload(&scene, EXPECTS).await;
    let mut upstream = accepted(&scene).await;
    let head = upstream.until("\r\n\r\n").await.to_lowercase();
    assert!(
        head.contains("expect: 100-continue") && head.contains("authorization: bearer"),
        "{head}"
    );
    continue_upload(&mut caller, &mut upstream).await;
}

#[tokio::test]
async fn a_caller_that_expects_100_and_is_refused_has_sent_no_body() {
    let scene = start().await;
    let mut caller = upload(&scene, EXPECTS).await;
    let mut upstream = accepted(&scene).await;
    upstream.until("\r\n\r\n").await;
    upstream.say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n").await;
    assert!(caller.head().await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn a_refused_token_is_healed_while_a_caller_still_waits_for_100() {
    let scene = start().await;
    let mut caller = upload(&scene, EXPECTS).await;
    let mut upstream = accepted(&scene).await;
    upstream.until("\r\n\r\n").await;
    upstream.say("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").await;
    let mut upstream = accepted(&scene).await;
    upstream.until("\r\n\r\n").await;
    continue_upload(&mut caller, &mut upstream).await;
}

#[tokio::test]
async fn an_error_in_the_middle_of_an_upload_reaches_its_sender() {
    for closes in [false, true] {
        let scene = start().await;
        let mut caller = upload(&scene, "Content-Length: 1000000000\r\n").await;
        caller.send(&"x".repeat(100_000)).await;
        let mut upstream = accepted(&scene).await;
        upstream.until("\r\n\r\n").await;
        upstream.say("HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlarge").await;
        let kept = (!closes).then_some(upstream);
        assert!(caller.head().await.starts_with("HTTP/1.1 413 "), "closes: {closes}");
        drop(kept);
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_request_to_the_upstream() {
    let scene = start().await;
    let mut caller = upload(&scene, "Content-Length: 1000000\r\n").await;
    caller.send("hello").await;
    let mut upstream = accepted(&scene).await;
    upstream.until("hello").await;
    drop(caller);
    let mut rest = Vec::new();
    // The connection ends, or is reset, without more bytes.
    let ended = timeout(DEADLINE, upstream.0.read_to_end(&mut rest)).await;
    assert!(ended.is_ok() && rest.is_empty(), "{ended:?} {rest:?}");
    let series =
        r#"bearerd_requests_total{code_class="none",method="PUT",outcome="downstream_closed""#;
    eventually("counted", async || scene.sidecar.metric(series).await == 1.0).await;
}

#[tokio::test]
async fn a_caller_that_is_answered_early_and_sends_no_more_is_not_waited_for() {
    let scene = start().await;
    let mut open = Vec::new();
    for (version, lines) in [
        ("HTTP/1.1", EXPECTS),
        ("HTTP/1.1", "Content-Length: 1000\r\n"),
        ("HTTP/1.1", "Transfer-Encoding: chunked\r\n"),
        ("HTTP/1.0", "Content-Length: 1000\r\n"),
    ] {
        for answer in ["Content-Length: 5\r\n\r\nlarge", "Content-Length: 0\r\n\r\n"] {
            let caller = upload_by(&scene, version, lines).await;
            let mut upstream = accepted(&scene).await;
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
    eventually("counted", async || scene.sidecar.metric(series).await == count).await;
    assert_eq!(scene.sidecar.metric("bearerd_requests_in_flight").await, 0.0);
}

#[tokio::test]
async fn once_the_answer_is_whole_another_request_gets_its_turn() {
    let scene = start_with(|config| config.upstream("max_in_flight", 1)).await;
    let mut first = upload(&scene, "Content-Length: 1000\r\n").await;
    let mut upstream = accepted(&scene).await;
    upstream.until("\r\n\r\n").await;
    upstream.say("HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok").await;
    assert!(first.head().await.starts_with("HTTP/1.1 202 "));
    // The first client may still send its body.
    let _second = upload(&scene, "Content-Length: 0\r\n").await;
    accepted(&scene).await.until("\r\n\r\n").await;
}

/// A stream of any kind.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Whether the path to the upstream has TLS, and whether it goes through a proxy.
const PATHS: [(bool, bool); 3] = [(false, false), (true, false), (true, true)];

/// A server that the test plays, with the host name by which the sidecar connects to it.
struct NamedListener {
    listener: TcpListener,
    scheme: &'static str,
}

impl Upstream for NamedListener {
    fn url(&self) -> String {
        format!("{}://localhost:{}", self.scheme, self.listener.local_addr().unwrap().port())
    }
}

/// A scene whose upstream the test plays, over one of the paths.
struct PathScene {
    scene: Scene<NamedListener>,
    acceptor: Option<TlsAcceptor>,
    _proxy: ForwardProxy,
}

impl PathScene {
    async fn start((is_tls, is_proxied): (bool, bool)) -> Self {
        let authority = Authority::new();
        let proxy = ForwardProxy::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if is_tls { "https" } else { "http" };
        let upstream = NamedListener { listener, scheme };
        let scene = Scene::trusting(&authority, upstream, |config| {
            let config = config.upstream("timeouts", "{ read: 120s }");
            if !is_proxied {
                return config;
            }
            config.upstream("proxy", format!("\"http://{}\"", proxy.address))
        })
        .await;
        let acceptor = is_tls.then(|| TlsAcceptor::from(Arc::new(authority.server())));
        Self { scene, acceptor, _proxy: proxy }
    }

    async fn accepted(&self) -> Box<dyn Stream> {
        let stream = accept(&self.scene.upstream.listener).await;
        match &self.acceptor {
            Some(acceptor) => Box::new(acceptor.accept(stream).await.unwrap()),
            None => Box::new(stream),
        }
    }
}

/// Sends an early response. It does not read on or close the connection.
async fn answer_early(upstream: &mut Box<dyn Stream>, status: &str) {
    upstream.read_exact(&mut [0; 4]).await.unwrap();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\nlarge");
    upstream.write_all(answer.as_bytes()).await.unwrap();
    upstream.flush().await.unwrap();
}

/// A length beyond all buffers.
const LARGE: usize = 100 << 20;
/// Time that the upstream takes for its side of the TLS handshake.
const LONG_CONNECT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn an_early_response_arrives_even_if_the_upstream_then_does_not_read_or_close() {
    for way in PATHS {
        for framing in ["Content-Length: 1000000000", "Transfer-Encoding: chunked"] {
            for status in ["413 Content Too Large", "200 OK"] {
                let path_scene = PathScene::start(way).await;
                let stream = TcpStream::connect(path_scene.scene.sidecar.host()).await.unwrap();
                let (mut read, mut write) = stream.into_split();
                let head = format!("PUT /free HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n");
                write.write_all(head.as_bytes()).await.unwrap();
                // The client sends until it has its response.
                let piece = [b"10000\r\n".as_slice(), &[b'x'; 65536], b"\r\n"].concat();
                let sending = async { while write.write_all(&piece).await.is_ok() {} };
                let answered = async {
                    let mut upstream = path_scene.accepted().await;
                    // The body fills all buffers.
                    upstream.read_exact(&mut vec![0; 4 << 20]).await.unwrap();
                    answer_early(&mut upstream, status).await;
                    let mut answer = vec![0; 12];
                    timeout(DEADLINE, read.read_exact(&mut answer))
                        .await
                        .expect("a response")
                        .unwrap();
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
async fn a_client_that_sends_its_body_before_it_reads_gets_an_early_response_too() {
    for way in PATHS {
        for status in ["413 Content Too Large", "200 OK"] {
            let path_scene = PathScene::start(way).await;
            let lines = format!("Content-Length: {LARGE}\r\n");
            let mut caller = upload(&path_scene.scene, &lines).await;
            let sending = async {
                caller.send(&"x".repeat(LARGE)).await;
                caller.rest().await
            };
            let answering = async {
                let mut upstream = path_scene.accepted().await;
                answer_early(&mut upstream, status).await;
                upstream
            };
            let both = async { tokio::join!(sending, answering) };
            let (said, mut upstream) = timeout(DEADLINE, both).await.expect("a response in time");
            assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{way:?}: {said}");
            assert!(said.ends_with("\r\n\r\nlarge"), "{way:?}: {said}");
            // The upstream does not receive the whole request.
            let mut got = Vec::new();
            let _ = upstream.read_to_end(&mut got).await;
            assert!(got.len() < LARGE, "{way:?}: {}", got.len());
        }
    }
}

#[tokio::test]
async fn an_upload_arrives_whole_at_any_pace_of_reading() {
    const LENGTH: usize = 20 << 20;
    let body: Vec<u8> = (0..LENGTH).map(|at| (at / 7 % 251) as u8).collect();
    for way in PATHS {
        let path_scene = PathScene::start(way).await;
        let url = format!("{}/free", path_scene.scene.sidecar.url);
        let upload = http().put(url).body(body.clone()).send();
        let reading = async {
            let mut upstream = path_scene.accepted().await;
            let mut got = Vec::new();
            let mut piece = vec![0; 1 << 20];
            while got.len() < LENGTH + 4 || !got.ends_with(&body[LENGTH - 64..]) {
                // In small and large pieces, with pauses.
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
async fn an_upload_is_not_sent_on_if_its_client_leaves_while_the_sidecar_connects() {
    for way in PATHS.into_iter().filter(|(is_tls, _)| *is_tls) {
        let path_scene = PathScene::start(way).await;
        for (count, length) in [(1.0, 5), (2.0, LARGE)] {
            let mut caller =
                upload(&path_scene.scene, &format!("Content-Length: {length}\r\n")).await;
            caller.send("hello").await;
            let stream = accept(&path_scene.scene.upstream.listener).await;
            drop(caller);
            // bearerd looks for a disconnect only if connecting took longer than 50 ms.
            tokio::time::sleep(LONG_CONNECT).await;
            let acceptor = path_scene.acceptor.as_ref().unwrap();
            let mut upstream = acceptor.accept(stream).await.unwrap();
            let mut got = Vec::new();
            let reading = upstream.read_to_end(&mut got);
            // The connection may end in any way.
            let _ = timeout(DEADLINE, reading).await.expect("it is closed");
            let got = String::from_utf8_lossy(&got);
            assert_eq!(got, "", "{way:?} {length}");
            let series = r#"bearerd_requests_total{code_class="none",method="PUT",outcome="downstream_closed""#;
            eventually("counted", async || path_scene.scene.sidecar.metric(series).await == count)
                .await;
        }
    }
}
