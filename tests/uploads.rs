//! Uploads: those that ask first, those that are refused in the middle, those whose sender leaves.

use crate::support::caller::Caller;
use crate::support::issuer;
use crate::support::sidecar::Sidecar;
use crate::support::upstream::Peer;
use crate::support::{DEADLINE, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

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
    async fn caller(&self, lines: &str) -> Caller {
        self.caller_of("HTTP/1.1", lines).await
    }

    /// The same of a version.
    async fn caller_of(&self, version: &str, lines: &str) -> Caller {
        let mut caller = Caller::connect(self.sidecar.host()).await;
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
async fn go_on(caller: &mut Caller, upstream: &mut Upstream) {
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
