//! Callers that are refused or that have left: they take no other caller's place, and their
//! requests are not carried out.

use crate::support::configuration::Configuration;
use crate::support::issuer;
use crate::support::raw_client::RawClient;
use crate::support::scene::Scene;
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer, Seen, read_request};
use crate::support::{DEADLINE, eventually, http};
use futures_util::future::join_all;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const KEY: &str = "a-key-of-the-tools";

/// A sidecar with a local API key.
struct KeyedScene {
    scene: Scene,
    _key: NamedTempFile,
}

impl KeyedScene {
    /// A scene with this limit of requests at once.
    async fn start(requests: usize) -> Self {
        let key = NamedTempFile::new().unwrap();
        std::fs::write(key.path(), KEY).unwrap();
        let scene = Scene::with(|config| {
            config
                .key("access", format!("{{ api_key_file: {} }}", key.path().display()))
                .key("limits", format!("{{ requests: {requests} }}"))
                .upstream("timeouts", "{ connect: 1s, read: 60s }")
        })
        .await;
        Self { scene, _key: key }
    }

    /// The status of a request with the right key.
    async fn good(&self) -> u16 {
        let request =
            http().get(format!("{}/free", self.scene.sidecar.url)).header("x-api-key", KEY);
        request.send().await.unwrap().status().as_u16()
    }

    async fn in_flight(&self) -> f64 {
        self.scene.sidecar.metric("bearerd_requests_in_flight").await
    }

    /// Callers that have sent this request and have read its response. They stay connected.
    async fn refused(&self, count: usize, request: &str, status: &str) -> Vec<RawClient> {
        let refused = async |_| {
            let mut caller = RawClient::connect(self.scene.sidecar.host()).await;
            caller.send(request).await;
            let head = caller.head().await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {head}");
            caller
        };
        join_all((0..count).map(refused)).await
    }
}

const MANY: usize = 6;
/// The header of a body that never comes.
const DUE: &str = "Content-Length: 9\r\n\r\n";

#[tokio::test]
async fn refused_callers_with_an_unsent_body_keep_no_other_caller_out() {
    let guarded = KeyedScene::start(2).await;
    let keyed = format!("X-Api-Key: {KEY}\r\n{DUE}");
    for (request, status) in [
        (format!("POST /free HTTP/1.1\r\nHost: localhost\r\n{DUE}"), "403"),
        (
            "POST /free HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
            "403",
        ),
        (format!("POST /free HTTP/1.1\r\nHost: evil.example\r\n{DUE}"), "421"),
        (format!("POST /nowhere HTTP/1.1\r\nHost: localhost\r\n{keyed}"), "404"),
        (format!("PATCH /data HTTP/1.1\r\nHost: localhost\r\n{keyed}"), "405"),
    ] {
        eventually("a good caller beside them", async || {
            let _refused = guarded.refused(MANY, &request, status).await;
            let good = guarded.good().await;
            // If they have left, the status proves nothing.
            let are_there = guarded.in_flight().await >= MANY as f64;
            assert!(good == 200 || !are_there, "{request}: {good}");
            are_there
        })
        .await;
    }
}

#[tokio::test]
async fn callers_beyond_the_limit_keep_no_other_caller_out_once_there_is_room() {
    let guarded = KeyedScene::start(1).await;
    let get = format!("GET /free HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {KEY}\r\n\r\n");
    let post = format!("POST /free HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {KEY}\r\n{DUE}");
    eventually("a good caller beside them", async || {
        let before = guarded.scene.upstream.seen().len();
        guarded.scene.upstream.script([Behaviour::Hang]);
        let mut only = RawClient::connect(guarded.scene.sidecar.host()).await;
        only.send(&get).await;
        eventually("in flight", async || guarded.scene.upstream.seen().len() > before).await;
        let _refused = guarded.refused(MANY, &post, "503").await;
        let left = async || {
            let series = r#"bearerd_requests_total{code_class="none",method="GET","#;
            guarded.scene.sidecar.metric(series).await
        };
        let count = left().await;
        drop(only);
        eventually("it left", async || left().await > count).await;
        let good = guarded.good().await;
        let are_there = guarded.in_flight().await >= MANY as f64;
        assert!(good == 200 || !are_there, "{good}");
        are_there
    })
    .await;
}

#[tokio::test]
async fn refused_callers_with_an_unsent_body_make_room_for_other_connections() {
    // More connections than this limit of requests allows.
    const CALLERS: usize = 300;
    let guarded = KeyedScene::start(2).await;
    let request = format!("POST /free HTTP/1.1\r\nHost: localhost\r\n{DUE}");
    eventually("a good caller beside them", async || {
        let mut callers = Vec::new();
        for _ in 0..CALLERS {
            let mut caller = RawClient::connect(guarded.scene.sidecar.host()).await;
            caller.send(&request).await;
            callers.push(caller);
        }
        // It connects after all of them.
        let good = guarded.good().await;
        let are_there = guarded.in_flight().await >= 200.0;
        assert!(good == 200 || !are_there, "{good}");
        are_there
    })
    .await;
}

#[tokio::test]
async fn a_request_whose_upstream_cannot_be_reached_frees_its_slot_at_once() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let issuer = issuer::steady().await;
    let config = issuer.configuration(&closed);
    let config = config.upstream("max_in_flight", 1).upstream("queue", "{ length: 0 }");
    let sidecar = Sidecar::ready(&config).await;
    eventually("another caller beside it", async || {
        let mut caller = RawClient::connect(sidecar.host()).await;
        caller.send(&format!("POST /free HTTP/1.1\r\nHost: localhost\r\n{DUE}")).await;
        assert!(caller.head().await.starts_with("HTTP/1.1 502 "));
        let other = sidecar.get("/free").await.status().as_u16();
        let is_there = sidecar.metric("bearerd_requests_in_flight").await >= 1.0;
        assert!(other == 502 || !is_there, "{other}");
        is_there
    })
    .await;
}

/// A scene whose upstream the test plays, so that CSRF tokens can come late.
struct SlowScene(Scene<TcpListener>);

/// A request at the upstream, and its connection.
struct Received(Seen, TcpStream);

impl SlowScene {
    async fn start(change: impl FnOnce(Configuration) -> Configuration) -> Self {
        Self::start_with(issuer::steady().await, change).await
    }

    async fn start_with(issuer: Peer, change: impl FnOnce(Configuration) -> Configuration) -> Self {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scene = Scene::between(issuer, upstream, |config| {
            change(config.upstream("timeouts", "{ connect: 1s, read: 60s }"))
        });
        Self(scene.await)
    }

    /// A caller that has sent a whole request.
    async fn caller(&self, method: &str, path: &str) -> RawClient {
        let mut caller = RawClient::connect(self.0.sidecar.host()).await;
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}");
        caller.send(&request).await;
        caller
    }

    /// The next request on a new connection.
    async fn received(&self) -> Received {
        let receiving = async {
            let mut stream = self.0.upstream.accept().await.unwrap().0;
            Received(read_request(&mut stream).await.unwrap(), stream)
        };
        timeout(DEADLINE, receiving).await.expect("a request in time")
    }

    /// The next request, which must be the fetch of a CSRF token.
    async fn fetch(&self) -> Received {
        let fetch = self.received().await;
        assert_eq!(fetch.0.header("x-csrf-token"), ["fetch"], "{}", fetch.0.head);
        fetch
    }

    async fn left(&self) -> f64 {
        let series =
            r#"bearerd_requests_total{code_class="none",method="POST",outcome="downstream_closed""#;
        self.0.sidecar.metric(series).await
    }
}

impl Received {
    async fn answer(&mut self, header: &str) {
        let answer = format!("HTTP/1.1 200 OK\r\n{header}Content-Length: 0\r\n\r\n");
        self.1.write_all(answer.as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn a_write_whose_caller_leaves_during_the_fetch_of_a_csrf_token_is_not_sent() {
    const GONE: usize = 3;
    let slow =
        SlowScene::start(|config| config.key("limits", format!("{{ requests: {GONE} }}"))).await;
    let first = slow.caller("POST", "/users/gone").await;
    let mut fetch = slow.fetch().await;
    let mut gone = vec![first];
    for _ in 1..GONE {
        gone.push(slow.caller("POST", "/users/gone").await);
    }
    let all = async || slow.0.sidecar.metric("bearerd_requests_in_flight").await == GONE as f64;
    eventually("all wait", all).await;
    drop(gone);
    eventually("noticed", async || slow.left().await == GONE as f64).await;
    // There is room again, and the next request uses the fetched token.
    let mut there = slow.caller("POST", "/users/there").await;
    eventually("it waits", async || {
        slow.0.sidecar.metric("bearerd_requests_in_flight").await == 1.0
    })
    .await;
    fetch.answer("x-csrf-token: abcdefgh1234\r\n").await;
    let mut sent = slow.received().await;
    assert!(sent.0.line().contains("/there"), "{}", sent.0.head);
    assert_eq!(sent.0.header("x-csrf-token"), ["abcdefgh1234"]);
    sent.answer("").await;
    assert!(there.head().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_write_that_waits_for_a_csrf_token_holds_no_slot() {
    let slow = SlowScene::start(|config| {
        config.upstream("max_in_flight", 1).upstream("queue", "{ length: 0 }")
    })
    .await;
    let mut write = slow.caller("POST", "/users/x").await;
    let mut fetch = slow.fetch().await;
    let mut read = slow.caller("GET", "/free").await;
    tokio::select! {
        mut sent = slow.received() => {
            assert!(sent.0.line().starts_with("GET /free"), "{}", sent.0.head);
            sent.answer("").await;
        }
        refusal = read.head() => panic!("{refusal}"),
    }
    assert!(read.head().await.starts_with("HTTP/1.1 200 "));
    fetch.answer("x-csrf-token: abcdefgh1234\r\n").await;
    let mut sent = slow.received().await;
    assert_eq!(sent.0.header("x-csrf-token"), ["abcdefgh1234"]);
    sent.answer("").await;
    assert!(write.head().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_write_whose_turn_comes_with_another_token_is_sent_with_a_csrf_token_for_it() {
    let issuer = Peer::start(issuer::token("second", 3600)).await;
    issuer.script([issuer::token("first", 4)]);
    let slow = SlowScene::start_with(issuer, |config| {
        config.upstream("max_in_flight", 1).upstream("queue", "{ length: 1, wait: 30s }")
    })
    .await;
    let mut read = slow.caller("GET", "/free").await;
    let mut held = slow.received().await;
    let mut write = slow.caller("POST", "/users/x").await;
    let mut fetch = slow.fetch().await;
    assert_eq!(fetch.0.header("authorization"), ["Bearer first"]);
    fetch.answer("x-csrf-token: abcdefgh1\r\n").await;
    eventually("another token", async || {
        slow.0.sidecar.metric("bearerd_token_generation").await >= 2.0
    })
    .await;
    held.answer("Connection: close\r\n").await;
    assert!(read.head().await.starts_with("HTTP/1.1 200 "));
    let mut fetch = slow.fetch().await;
    assert_eq!(fetch.0.header("authorization"), ["Bearer second"]);
    fetch.answer("x-csrf-token: abcdefgh2\r\n").await;
    let mut sent = slow.received().await;
    let pair = [sent.0.header("authorization"), sent.0.header("x-csrf-token")];
    assert_eq!(pair, [["Bearer second"], ["abcdefgh2"]]);
    sent.answer("").await;
    assert!(write.head().await.starts_with("HTTP/1.1 200 "));
}
