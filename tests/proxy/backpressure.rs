//! Overloaded upstreams: 429 and 503, retries, and the queue.

use crate::support::issuer;
use crate::support::scene::Scene;
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{eventually, http, raw_client::RawClient};
use futures_util::future::join_all;

fn busy(status: &str, retry_after: &str) -> Behaviour {
    issuer::status(status, &format!("retry-after: {retry_after}\r\n"), "busy")
}

/// The status of a request and the value of its `Retry-After`.
async fn send(scene: &Scene, method: &str) -> (u16, Option<String>) {
    let request = http().request(method.parse().unwrap(), format!("{}/free", scene.sidecar.url));
    let response = request.send().await.unwrap();
    let retry_after = response.headers().get("retry-after");
    let retry_after = retry_after.map(|value| value.to_str().unwrap().to_owned());
    (response.status().as_u16(), retry_after)
}

/// A scene with a retry policy on the route.
async fn retrying(policy: &str) -> Scene {
    Scene::with(|config| config.route("/free", "retry", policy)).await
}

/// A scene with a limit of requests to the upstream at once, and a queue.
async fn limited(most: usize, queue: &str) -> Scene {
    Scene::with(|config| config.upstream("max_in_flight", most).upstream("queue", queue)).await
}

#[tokio::test]
async fn without_a_policy_a_429_or_503_passes_through_as_it_came() {
    let scene = Scene::start().await;
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let seen = scene.upstream.seen().len();
        scene.upstream.script([busy(status, "7")]);
        let expected = status[..3].parse().unwrap();
        assert_eq!(send(&scene, "GET").await, (expected, Some("7".into())));
        assert_eq!(scene.upstream.seen().len(), seen + 1);
    }
}

#[tokio::test]
async fn with_a_policy_reads_are_sent_again_and_writes_are_not() {
    let scene = retrying("{ attempts: 3, max_wait: 5s }").await;
    for (method, answers, status, sent) in [
        ("GET", &["429 Too Many Requests", "503 Service Unavailable"][..], 200, 3),
        ("HEAD", &["503 Service Unavailable"], 200, 2),
        ("GET", &["429 Too Many Requests"; 3], 429, 3),
        ("POST", &["429 Too Many Requests"], 429, 1),
        ("PUT", &["503 Service Unavailable"], 503, 1),
        ("DELETE", &["503 Service Unavailable"], 503, 1),
    ] {
        let before = scene.upstream.seen().len();
        scene.upstream.script(answers.iter().map(|answer| busy(answer, "0")));
        assert_eq!(send(&scene, method).await.0, status, "{method} {answers:?}");
        assert_eq!(scene.upstream.seen().len() - before, sent, "{method} {answers:?}");
    }
    // A wait above `max_wait` is left to the client.
    scene.upstream.script([busy("429 Too Many Requests", "6")]);
    assert_eq!(send(&scene, "GET").await, (429, Some("6".into())));
}

#[tokio::test]
async fn as_many_attempts_as_can_be_configured_are_made() {
    let scene = retrying("{ attempts: 10 }").await;
    scene.upstream.script((0..9).map(|_| busy("429 Too Many Requests", "0")));
    assert_eq!(send(&scene, "GET").await.0, 200);
    assert_eq!(scene.upstream.seen().len(), 10);
}

#[tokio::test]
async fn a_wait_is_as_long_as_the_upstream_asks() {
    let scene = retrying("{ attempts: 2, max_wait: 5s }").await;
    scene.upstream.script([busy("429 Too Many Requests", "1")]);
    let since = tokio::time::Instant::now();
    assert_eq!(send(&scene, "GET").await.0, 200);
    assert!(since.elapsed() >= std::time::Duration::from_secs(1));
}

#[tokio::test]
async fn an_upstream_gets_no_more_at_once_than_it_may_and_the_others_wait_their_turn() {
    let scene = limited(3, "{ length: 40, wait: 20s }").await;
    let fine = issuer::status("200 OK", "", "fine");
    let Behaviour::Answer(fine) = fine else { panic!("an answer") };
    scene.upstream.script((0..40).map(|_| Behaviour::Later(fine.clone())));
    let answers = join_all((0..40).map(|_| send(&scene, "GET"))).await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    assert_eq!(scene.upstream.most_at_once(), 3);
    assert_eq!(scene.upstream.seen().len(), 40);
}

#[tokio::test]
async fn a_request_that_finds_the_queue_full_or_waits_too_long_is_answered_503_with_retry_after() {
    let scene = limited(1, "{ length: 1, wait: 300ms }").await;
    // The first request gets no response, and its client stays.
    scene.upstream.script([Behaviour::Hang]);
    let mut first = RawClient::connect(scene.sidecar.host()).await;
    first.send("GET /free HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    eventually("in flight", async || scene.upstream.seen().len() == 1).await;
    let overloaded = (503, Some("1".to_owned()));
    let (second, third) = tokio::join!(send(&scene, "GET"), send(&scene, "GET"));
    assert_eq!((second, third), (overloaded.clone(), overloaded));
    assert_eq!(scene.upstream.seen().len(), 1);
    let series = r#"bearerd_requests_total{code_class="5xx",method="GET",outcome="overloaded""#;
    eventually("counted", async || scene.sidecar.metric(series).await == 2.0).await;
    // The timeout of the first request frees its slot.
    eventually("served", async || send(&scene, "GET").await.0 == 200).await;
}

const LEFT: &str = r#"outcome="downstream_closed",route="/free""#;

/// The number of clients that left.
async fn left(sidecar: &Sidecar, method: &str) -> f64 {
    let head = r#"bearerd_requests_total{code_class="none",method="#;
    sidecar.metric(&format!("{head}\"{method}\",{LEFT}")).await
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_frees_its_place_whatever_it_has_sent() {
    let scene = limited(1, "{ length: 1, wait: 600s }").await;
    scene.upstream.script([Behaviour::Hang]);
    let mut first = RawClient::connect(scene.sidecar.host()).await;
    first.send("GET /free HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    eventually("in flight", async || scene.upstream.seen().len() == 1).await;
    let post = "POST /free HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n";
    for (count, rest) in [(1.0, ""), (2.0, "half"), (3.0, "all of it")] {
        let mut second = RawClient::connect(scene.sidecar.host()).await;
        second.send(post).await;
        // The queue has one place.
        eventually("in the queue", async || send(&scene, "GET").await.0 == 503).await;
        second.send(rest).await;
        drop(second);
        eventually("noticed", async || left(&scene.sidecar, "POST").await == count).await;
    }
    assert_eq!(scene.upstream.seen().len(), 1, "no part of it went upstream");
}

#[tokio::test]
async fn a_client_that_leaves_before_the_next_attempt_is_noticed_at_once() {
    let scene = retrying("{ attempts: 2, max_wait: 300s }").await;
    scene.upstream.script([busy("429 Too Many Requests", "300")]);
    let mut caller = RawClient::connect(scene.sidecar.host()).await;
    caller.send("GET /free HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    eventually("refused", async || scene.upstream.seen().len() == 1).await;
    // These bytes are the beginning of its next request.
    caller.send("GET /free HTTP/1.1\r\n").await;
    drop(caller);
    eventually("noticed", async || left(&scene.sidecar, "GET").await == 1.0).await;
}

#[tokio::test]
async fn a_client_that_leaves_before_there_is_a_token_is_noticed_at_once() {
    let issuer = Peer::start(Behaviour::Hang).await;
    let upstream = Peer::start(Behaviour::ok("fine")).await;
    let config = issuer.configuration(&upstream.url()).client("wait", "60s");
    let sidecar = Sidecar::start(&config);
    let mut caller = RawClient::connect(sidecar.host()).await;
    caller.send("GET /free HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    eventually("waits", async || sidecar.metric("bearerd_requests_in_flight").await == 1.0).await;
    drop(caller);
    eventually("noticed", async || left(&sidecar, "GET").await == 1.0).await;
}

#[tokio::test]
async fn a_request_that_is_sent_again_with_a_new_token_stands_in_the_queue_once_more() {
    let scene = limited(1, "{ length: 40, wait: 20s }").await;
    let Behaviour::Answer(fine) = issuer::status("200 OK", "", "fine") else { panic!("an answer") };
    let page = "<html><script>location='/oauth/authorize?x'</script></html>";
    let login = issuer::status("200 OK", "content-type: text/html\r\n", page);
    scene.upstream.script([login]);
    scene.upstream.script((0..20).map(|_| Behaviour::Later(fine.clone())));
    let answers = join_all((0..10).map(|_| send(&scene, "GET"))).await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    assert_eq!(scene.upstream.most_at_once(), 1);
}
