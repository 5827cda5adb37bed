//! Upstreams that have no time: what passes through, what is sent again, what stands in a queue.

use crate::support::http;
use crate::support::issuer;
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{eventually, raw_client::RawClient};
use futures_util::future::join_all;

struct World {
    sidecar: Sidecar,
    upstream: Peer,
    _issuer: Peer,
}

/// A sidecar with more keys for the route `/free`, and more for the upstream.
async fn world(route: &str, upstream_keys: &str) -> World {
    let issuer = issuer::steady().await;
    let upstream = Peer::start(Behaviour::ok("fine")).await;
    let config = issuer
        .config(&upstream.url(), "", "")
        .replace("path: /free,", &format!("path: /free, {route}"))
        .replace("timeouts: {", &format!("{upstream_keys} timeouts: {{"));
    World { sidecar: Sidecar::ready(&config).await, upstream, _issuer: issuer }
}

fn busy(status: &str, retry_after: &str) -> Behaviour {
    issuer::status(status, &format!("retry-after: {retry_after}\r\n"), "busy")
}

impl World {
    async fn send(&self, method: &str) -> (u16, Option<String>) {
        let request = http().request(method.parse().unwrap(), format!("{}/free", self.sidecar.url));
        let answer = request.send().await.unwrap();
        let asked = answer.headers().get("retry-after");
        let asked = asked.map(|value| value.to_str().unwrap().to_owned());
        (answer.status().as_u16(), asked)
    }
}

#[tokio::test]
async fn without_a_policy_a_429_or_503_passes_through_as_it_came() {
    let world = world("", "").await;
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let seen = world.upstream.seen().len();
        world.upstream.script([busy(status, "7")]);
        let expected = status[..3].parse().unwrap();
        assert_eq!(world.send("GET").await, (expected, Some("7".into())));
        assert_eq!(world.upstream.seen().len(), seen + 1);
    }
}

#[tokio::test]
async fn with_a_policy_reads_are_sent_again_and_writes_are_not() {
    let world = world("retry: { attempts: 3, max_wait: 5s },", "").await;
    for (method, answers, status, sent) in [
        ("GET", &["429 Too Many Requests", "503 Service Unavailable"][..], 200, 3),
        ("HEAD", &["503 Service Unavailable"], 200, 2),
        ("GET", &["429 Too Many Requests"; 3], 429, 3),
        ("POST", &["429 Too Many Requests"], 429, 1),
        ("PUT", &["503 Service Unavailable"], 503, 1),
        ("DELETE", &["503 Service Unavailable"], 503, 1),
    ] {
        let before = world.upstream.seen().len();
        world.upstream.script(answers.iter().map(|answer| busy(answer, "0")));
        assert_eq!(world.send(method).await.0, status, "{method} {answers:?}");
        assert_eq!(world.upstream.seen().len() - before, sent, "{method} {answers:?}");
    }
    // What would be too long is the caller's to decide.
    world.upstream.script([busy("429 Too Many Requests", "6")]);
    assert_eq!(world.send("GET").await, (429, Some("6".into())));
}

#[tokio::test]
async fn as_many_attempts_as_can_be_configured_are_made() {
    let world = world("retry: { attempts: 10 },", "").await;
    world.upstream.script((0..9).map(|_| busy("429 Too Many Requests", "0")));
    assert_eq!(world.send("GET").await.0, 200);
    assert_eq!(world.upstream.seen().len(), 10);
}

#[tokio::test]
async fn a_wait_is_as_long_as_the_upstream_asks() {
    let world = world("retry: { attempts: 2, max_wait: 5s },", "").await;
    world.upstream.script([busy("429 Too Many Requests", "1")]);
    let since = tokio::time::Instant::now();
    assert_eq!(world.send("GET").await.0, 200);
    assert!(since.elapsed() >= std::time::Duration::from_secs(1));
}

#[tokio::test]
async fn an_upstream_gets_no_more_at_once_than_it_may_and_the_others_wait_their_turn() {
    let world = world("", "max_in_flight: 3, queue: { length: 40, wait: 20s },").await;
    let fine = issuer::status("200 OK", "", "fine");
    let Behaviour::Answer(fine) = fine else { panic!("an answer") };
    world.upstream.script((0..40).map(|_| Behaviour::Later(fine.clone())));
    let answers = join_all((0..40).map(|_| world.send("GET"))).await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    assert_eq!(world.upstream.most_at_once(), 3);
    assert_eq!(world.upstream.seen().len(), 40);
}

#[tokio::test]
async fn who_finds_the_queue_full_or_waits_too_long_is_told_to_come_again() {
    let world = world("", "max_in_flight: 1, queue: { length: 1, wait: 300ms },").await;
    // It never answers, and its caller stays.
    world.upstream.script([Behaviour::Hang]);
    let mut first = RawClient::connect(world.sidecar.host()).await;
    first.send("GET /free HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    eventually("in flight", async || world.upstream.seen().len() == 1).await;
    let overloaded = (503, Some("1".to_owned()));
    let (second, third) = tokio::join!(world.send("GET"), world.send("GET"));
    assert_eq!((second, third), (overloaded.clone(), overloaded));
    assert_eq!(world.upstream.seen().len(), 1);
    let series = r#"bearerd_requests_total{code_class="5xx",method="GET",outcome="overloaded""#;
    eventually("counted", async || world.sidecar.metric(series).await == 2.0).await;
    // Nobody waits for the first one's answer any more, and its slot is free.
    eventually("served", async || world.send("GET").await.0 == 200).await;
}

const LEFT: &str = r#"outcome="downstream_closed",route="/free""#;

/// How many callers have left.
async fn left(world: &World, method: &str) -> f64 {
    let head = r#"bearerd_requests_total{code_class="none",method="#;
    world.sidecar.metric(&format!("{head}\"{method}\",{LEFT}")).await
}

#[tokio::test]
async fn who_leaves_the_queue_frees_its_place_whatever_it_has_sent() {
    let world = world("", "max_in_flight: 1, queue: { length: 1, wait: 600s },").await;
    world.upstream.script([Behaviour::Hang]);
    let mut first = RawClient::connect(world.sidecar.host()).await;
    first.send("GET /free HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    eventually("in flight", async || world.upstream.seen().len() == 1).await;
    let post = "POST /free HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n";
    for (count, rest) in [(1.0, ""), (2.0, "half"), (3.0, "all of it")] {
        let mut second = RawClient::connect(world.sidecar.host()).await;
        second.send(post).await;
        // Its place is the only one.
        eventually("in the queue", async || world.send("GET").await.0 == 503).await;
        second.send(rest).await;
        drop(second);
        eventually("missed", async || left(&world, "POST").await == count).await;
    }
    assert_eq!(world.upstream.seen().len(), 1, "nothing of it went upstream");
}

#[tokio::test]
async fn who_leaves_before_the_next_attempt_is_missed_at_once() {
    let world = world("retry: { attempts: 2, max_wait: 300s },", "").await;
    world.upstream.script([busy("429 Too Many Requests", "300")]);
    let mut caller = RawClient::connect(world.sidecar.host()).await;
    caller.send("GET /free HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    eventually("refused", async || world.upstream.seen().len() == 1).await;
    // What it sends meanwhile is the beginning of its next request.
    caller.send("GET /free HTTP/1.1\r\n").await;
    drop(caller);
    eventually("missed", async || left(&world, "GET").await == 1.0).await;
}

#[tokio::test]
async fn who_leaves_before_there_is_a_token_is_missed_at_once() {
    let issuer = Peer::start(Behaviour::Hang).await;
    let upstream = Peer::start(Behaviour::ok("fine")).await;
    let config = issuer.config(&upstream.url(), "wait: 60s", "");
    let world = World { sidecar: Sidecar::start(&config), upstream, _issuer: issuer };
    let mut caller = RawClient::connect(world.sidecar.host()).await;
    caller.send("GET /free HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    eventually("waits", async || world.sidecar.metric("bearerd_requests_in_flight").await == 1.0)
        .await;
    drop(caller);
    eventually("missed", async || left(&world, "GET").await == 1.0).await;
}

#[tokio::test]
async fn a_request_that_is_sent_again_with_a_new_token_stands_in_the_queue_once_more() {
    let world = world("", "max_in_flight: 1, queue: { length: 40, wait: 20s },").await;
    let Behaviour::Answer(fine) = issuer::status("200 OK", "", "fine") else { panic!("an answer") };
    let page = "<html><script>location='/oauth/authorize?x'</script></html>";
    let login = issuer::status("200 OK", "content-type: text/html\r\n", page);
    world.upstream.script([login]);
    world.upstream.script((0..20).map(|_| Behaviour::Later(fine.clone())));
    let answers = join_all((0..10).map(|_| world.send("GET"))).await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    assert_eq!(world.upstream.most_at_once(), 1);
}
