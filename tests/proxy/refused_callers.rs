//! Callers that are refused, or that have left: they keep nobody out, and what they asked for is not done.

use crate::support::issuer;
use crate::support::raw_client::RawClient;
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer, Seen, read_request};
use crate::support::{DEADLINE, eventually, http};
use futures_util::future::join_all;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const KEY: &str = "a-key-of-the-tools";

/// A sidecar in front of an upstream, with a local API key.
struct World {
    sidecar: Sidecar,
    upstream: Peer,
    _issuer: Peer,
    _key: NamedTempFile,
}

impl World {
    async fn start(rest: &str) -> Self {
        let (issuer, upstream) = (issuer::steady().await, Peer::start(Behaviour::ok("fine")).await);
        let key = NamedTempFile::new().unwrap();
        std::fs::write(key.path(), KEY).unwrap();
        let access = format!("access: {{ api_key_file: {} }}\n{rest}", key.path().display());
        let config = issuer.config(&upstream.url(), "", &access).replace("read: 1s", "read: 60s");
        let sidecar = Sidecar::ready(&config).await;
        Self { sidecar, upstream, _issuer: issuer, _key: key }
    }

    /// The status that a caller gets who may call.
    async fn good(&self) -> u16 {
        let request = http().get(format!("{}/free", self.sidecar.url)).header("x-api-key", KEY);
        request.send().await.unwrap().status().as_u16()
    }

    async fn in_flight(&self) -> f64 {
        self.sidecar.metric("bearerd_requests_in_flight").await
    }

    /// Callers that have sent this, and have the answer to it. They stay.
    async fn refused(&self, count: usize, request: &str, status: &str) -> Vec<RawClient> {
        let refused = async |_| {
            let mut caller = RawClient::connect(self.sidecar.host()).await;
            caller.send(request).await;
            let head = caller.head().await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {head}");
            caller
        };
        join_all((0..count).map(refused)).await
    }
}

const MANY: usize = 6;
/// A body that is announced and never comes.
const DUE: &str = "Content-Length: 9\r\n\r\n";

#[tokio::test]
async fn who_is_refused_and_owes_a_body_keeps_nobody_out() {
    let world = World::start("limits: { requests: 2 }").await;
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
            let _refused = world.refused(MANY, &request, status).await;
            let good = world.good().await;
            // Otherwise they have left, and it says nothing.
            let are_there = world.in_flight().await >= MANY as f64;
            assert!(good == 200 || !are_there, "{request}: {good}");
            are_there
        })
        .await;
    }
}

#[tokio::test]
async fn who_is_too_many_keeps_nobody_out_once_there_is_room() {
    let world = World::start("limits: { requests: 1 }").await;
    let get = format!("GET /free HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {KEY}\r\n\r\n");
    let post = format!("POST /free HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {KEY}\r\n{DUE}");
    eventually("a good caller beside them", async || {
        let before = world.upstream.seen().len();
        world.upstream.script([Behaviour::Hang]);
        let mut only = RawClient::connect(world.sidecar.host()).await;
        only.send(&get).await;
        eventually("under way", async || world.upstream.seen().len() > before).await;
        let _refused = world.refused(MANY, &post, "503").await;
        let left = async || {
            let series = r#"bearerd_requests_total{code_class="none",method="GET","#;
            world.sidecar.metric(series).await
        };
        let count = left().await;
        drop(only);
        eventually("it has left", async || left().await > count).await;
        let good = world.good().await;
        let are_there = world.in_flight().await >= MANY as f64;
        assert!(good == 200 || !are_there, "{good}");
        are_there
    })
    .await;
}

#[tokio::test]
async fn who_is_refused_and_owes_a_body_makes_room_for_other_connections() {
    // More than there is room for with so few requests.
    const STRANGERS: usize = 300;
    let world = World::start("limits: { requests: 2 }").await;
    let request = format!("POST /free HTTP/1.1\r\nHost: localhost\r\n{DUE}");
    eventually("a good caller beside them", async || {
        let mut strangers = Vec::new();
        for _ in 0..STRANGERS {
            let mut stranger = RawClient::connect(world.sidecar.host()).await;
            stranger.send(&request).await;
            strangers.push(stranger);
        }
        // It is behind them all.
        let good = world.good().await;
        let are_there = world.in_flight().await >= 200.0;
        assert!(good == 200 || !are_there, "{good}");
        are_there
    })
    .await;
}

#[tokio::test]
async fn who_hears_that_the_upstream_cannot_be_reached_gives_its_slot_back_at_once() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let issuer = issuer::steady().await;
    let config = issuer.config(&closed, "", "");
    let config = config.replace("timeouts:", "max_in_flight: 1, queue: { length: 0 }, timeouts:");
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

/// A sidecar in front of an upstream that is played by hand, and that is slow to give CSRF tokens.
struct Slow {
    sidecar: Sidecar,
    upstream: TcpListener,
    _issuer: Peer,
}

/// A request at the upstream, and its connection.
struct Received(Seen, TcpStream);

impl Slow {
    async fn start(keys: &str, rest: &str) -> Self {
        Self::start_with(issuer::steady().await, keys, rest).await
    }

    async fn start_with(issuer: Peer, keys: &str, rest: &str) -> Self {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", upstream.local_addr().unwrap());
        let config = issuer.config(&url, "", rest).replace("read: 1s", "read: 60s");
        let config = config.replace("timeouts:", &format!("{keys} timeouts:"));
        Self { sidecar: Sidecar::ready(&config).await, upstream, _issuer: issuer }
    }

    /// A caller that has sent a whole request.
    async fn caller(&self, method: &str, path: &str) -> RawClient {
        let mut caller = RawClient::connect(self.sidecar.host()).await;
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}");
        caller.send(&request).await;
        caller
    }

    /// The next request on a new connection.
    async fn received(&self) -> Received {
        let receiving = async {
            let mut stream = self.upstream.accept().await.unwrap().0;
            Received(read_request(&mut stream).await.unwrap(), stream)
        };
        timeout(DEADLINE, receiving).await.expect("a request in time")
    }

    /// The same, which is the fetch of a CSRF token.
    async fn fetch(&self) -> Received {
        let fetch = self.received().await;
        assert_eq!(fetch.0.header("x-csrf-token"), ["fetch"], "{}", fetch.0.head);
        fetch
    }

    async fn left(&self) -> f64 {
        let series =
            r#"bearerd_requests_total{code_class="none",method="POST",outcome="downstream_closed""#;
        self.sidecar.metric(series).await
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
    let world = Slow::start("", &format!("limits: {{ requests: {GONE} }}")).await;
    let first = world.caller("POST", "/users/gone").await;
    let mut fetch = world.fetch().await;
    let mut gone = vec![first];
    for _ in 1..GONE {
        gone.push(world.caller("POST", "/users/gone").await);
    }
    let all = async || world.sidecar.metric("bearerd_requests_in_flight").await == GONE as f64;
    eventually("all wait", all).await;
    drop(gone);
    eventually("missed", async || world.left().await == GONE as f64).await;
    // There is room again, and what was asked for is of use to the next one.
    let mut there = world.caller("POST", "/users/there").await;
    eventually("it waits", async || {
        world.sidecar.metric("bearerd_requests_in_flight").await == 1.0
    })
    .await;
    fetch.answer("x-csrf-token: abcdefgh1234\r\n").await;
    let mut sent = world.received().await;
    assert!(sent.0.line().contains("/there"), "{}", sent.0.head);
    assert_eq!(sent.0.header("x-csrf-token"), ["abcdefgh1234"]);
    sent.answer("").await;
    assert!(there.head().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_write_that_waits_for_a_csrf_token_holds_no_slot() {
    let world = Slow::start("max_in_flight: 1, queue: { length: 0 },", "").await;
    let mut write = world.caller("POST", "/users/x").await;
    let mut fetch = world.fetch().await;
    let mut read = world.caller("GET", "/free").await;
    tokio::select! {
        mut sent = world.received() => {
            assert!(sent.0.line().starts_with("GET /free"), "{}", sent.0.head);
            sent.answer("").await;
        }
        refusal = read.head() => panic!("{refusal}"),
    }
    assert!(read.head().await.starts_with("HTTP/1.1 200 "));
    fetch.answer("x-csrf-token: abcdefgh1234\r\n").await;
    let mut sent = world.received().await;
    assert_eq!(sent.0.header("x-csrf-token"), ["abcdefgh1234"]);
    sent.answer("").await;
    assert!(write.head().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_write_whose_turn_comes_with_another_token_is_sent_with_a_csrf_token_of_that() {
    let issuer = Peer::start(issuer::token("second", 3600)).await;
    issuer.script([issuer::token("first", 4)]);
    let keys = "max_in_flight: 1, queue: { length: 1, wait: 30s },";
    let world = Slow::start_with(issuer, keys, "").await;
    let mut read = world.caller("GET", "/free").await;
    let mut held = world.received().await;
    let mut write = world.caller("POST", "/users/x").await;
    let mut fetch = world.fetch().await;
    assert_eq!(fetch.0.header("authorization"), ["Bearer first"]);
    fetch.answer("x-csrf-token: abcdefgh1\r\n").await;
    eventually("another token", async || {
        world.sidecar.metric("bearerd_token_generation").await >= 2.0
    })
    .await;
    held.answer("Connection: close\r\n").await;
    assert!(read.head().await.starts_with("HTTP/1.1 200 "));
    let mut fetch = world.fetch().await;
    assert_eq!(fetch.0.header("authorization"), ["Bearer second"]);
    fetch.answer("x-csrf-token: abcdefgh2\r\n").await;
    let mut sent = world.received().await;
    let pair = [sent.0.header("authorization"), sent.0.header("x-csrf-token")];
    assert_eq!(pair, [["Bearer second"], ["abcdefgh2"]]);
    sent.answer("").await;
    assert!(write.head().await.starts_with("HTTP/1.1 200 "));
}
