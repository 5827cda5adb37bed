//! Local answers, which bearerd gives by itself: status, headers, body, and that nothing went
//! upstream.

use crate::support::issuer;
use crate::support::raw_client::exchange;
use crate::support::scene::{Scene, unchanged};
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{DEADLINE, eventually, http};
use bearerd::error::ErrorKind;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::timeout;

/// Checks the form of a local answer and returns its detail.
async fn problem(answer: reqwest::Response, kind: ErrorKind) -> String {
    assert_eq!(answer.status(), kind.status(), "{kind:?}");
    let header =
        |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(header("content-type").unwrap(), "application/problem+json");
    let proxy_status = format!("bearerd; error={}", kind.proxy_error());
    assert_eq!(header("proxy-status").unwrap(), proxy_status);
    assert_eq!(header("retry-after").is_some(), kind.status() == 503, "{kind:?}");
    assert_eq!(header("allow").is_some(), kind == ErrorKind::MethodNotAllowed);
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(body["status"], kind.status().as_u16());
    assert_eq!(body["kind"], kind.label());
    assert_eq!(body["title"], kind.title());
    assert_eq!(body["type"], format!("urn:bearerd:problem:{}", kind.label()));
    body["detail"].as_str().unwrap().to_owned()
}

async fn before(upstream: Behaviour) -> Scene {
    Scene::before(Peer::start(upstream).await, unchanged).await
}

#[tokio::test]
async fn no_route_and_no_method_are_answered_before_anything_is_sent() {
    let Scene { sidecar, upstream, .. } = &before(Behaviour::ok("")).await;
    let detail = problem(sidecar.get("/elsewhere").await, ErrorKind::NoRoute).await;
    assert!(detail.contains("its routes are /free, /data, /users"), "{detail}");
    let send = async |method: &str, path: &str| {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        http().request(method, format!("{}{path}", sidecar.url)).send().await.unwrap()
    };
    let refused = send("DELETE", "/data/x").await;
    assert_eq!(refused.headers()["allow"], "GET, HEAD", "POST is for …/$batch");
    problem(refused, ErrorKind::MethodNotAllowed).await;
    let detail = problem(send("POST", "/data/x").await, ErrorKind::MethodNotAllowed).await;
    assert!(detail.contains("$batch"), "{detail}");
    for method in ["OPTIONS", "TRACE", "LINK", "BREW"] {
        problem(send(method, "/free").await, ErrorKind::MethodNotAllowed).await;
    }
    assert!(upstream.seen().is_empty());
    assert_eq!(send("POST", "/data/$batch").await.status(), 200);
    assert_eq!(send("POST", "/data/%24batch").await.status(), 200);
    let series = r#"bearerd_requests_rejected_total{kind="method_not_allowed"}"#;
    assert_eq!(sidecar.metric(series).await, 6.0);
}

#[tokio::test]
async fn a_head_request_gets_the_header_of_a_local_answer_alone() {
    let Scene { sidecar, .. } = &before(Behaviour::ok("")).await;
    let host = sidecar.host();
    let answer = exchange(
        host,
        &format!("HEAD /nowhere HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.ends_with("\r\n\r\n"), "{answer:?}");
}

#[tokio::test]
async fn a_local_answer_keeps_the_connection_unless_a_body_was_left_unread() {
    let Scene { sidecar, .. } = &before(Behaviour::ok("")).await;
    let host = sidecar.host();
    let twice = format!(
        "GET /nowhere HTTP/1.1\r\nHost: {host}\r\n\r\n\
         GET /nowhere HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(exchange(host, &twice).await.matches("HTTP/1.1 404").count(), 1, "no pipelining");
    let large = "x".repeat(5_000_000);
    let answer = http().post(format!("{}/nowhere", sidecar.url)).body(large).send().await.unwrap();
    problem(answer, ErrorKind::NoRoute).await;
}

#[tokio::test]
async fn an_unreachable_upstream_is_502_and_a_silent_one_504() {
    let issuer = issuer::steady().await;
    let closed = {
        let peer = Peer::start(Behaviour::Hang).await;
        peer.url()
    };
    let sidecar = Sidecar::ready(&issuer.configuration(&closed)).await;
    problem(sidecar.get("/free").await, ErrorKind::UpstreamUnreachable).await;

    let sidecar = Sidecar::ready(&issuer.configuration("https://no-such-host.invalid")).await;
    let detail = problem(sidecar.get("/free").await, ErrorKind::UpstreamUnreachable).await;
    assert!(detail.starts_with("no-such-host.invalid has no address"), "{detail}");

    let Scene { sidecar, .. } = &before(Behaviour::Hang).await;
    problem(sidecar.get("/free").await, ErrorKind::UpstreamTimeout).await;
    let series = r#"bearerd_requests_total{code_class="5xx",method="GET",outcome="upstream_timeout",route="/free"}"#;
    eventually("counted", async || sidecar.metric(series).await == 1.0).await;
}

#[tokio::test]
async fn a_response_that_breaks_off_is_answered_or_cut_and_never_looks_whole() {
    let Scene { sidecar, upstream, .. } = &before(Behaviour::ok("")).await;
    upstream.script([
        Behaviour::AnswerAndClose(String::new()),
        Behaviour::AnswerAndClose(String::new()),
        Behaviour::AnswerAndClose("not HTTP at all\r\n\r\n".into()),
        Behaviour::AnswerAndClose("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".into()),
        Behaviour::AnswerAndClose(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n".into(),
        ),
    ]);
    let post = async || http().post(format!("{}/free", sidecar.url)).send().await;
    for _ in 0..3 {
        problem(post().await.unwrap(), ErrorKind::UpstreamUnreachable).await;
    }
    for _ in 0..2 {
        let answer = post().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.bytes().await.is_err(), "a cut body must not look whole");
    }
    let series = r#"bearerd_requests_total{code_class="2xx",method="POST",outcome="upstream_incomplete",route="/free"}"#;
    eventually("counted", async || sidecar.metric(series).await == 2.0).await;
}

#[tokio::test]
async fn without_a_token_the_answer_says_why_there_is_none() {
    let upstream = Peer::start(Behaviour::ok("")).await;
    let refusing = Peer::start(issuer::status(
        "401 Unauthorized",
        "",
        r#"{"error":"unauthorized","error_description":"Bad credentials"}"#,
    ))
    .await;
    let sidecar = Sidecar::start(&refusing.configuration(&upstream.url()).client("wait", "20s"));
    let answer = sidecar.get("/free").await;
    let seconds: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((20..=33).contains(&seconds), "the next attempt is half a minute away: {seconds}");
    let detail = problem(answer, ErrorKind::CredentialRejected).await;
    assert!(detail.contains("client c"), "{detail}");
    let (status, text) = sidecar.probe("/readyz").await;
    assert!(status == 503 && text.contains("unauthorized: Bad credentials"), "{text}");

    let silent = Peer::start(Behaviour::Hang).await;
    let sidecar = Sidecar::start(&silent.configuration(&upstream.url()).client("wait", "100ms"));
    problem(sidecar.get("/free").await, ErrorKind::TokenUnavailable).await;
    let waited = r#"bearerd_token_waits_total{client="c",outcome="failed"}"#;
    assert_eq!(sidecar.metric(waited).await, 1.0);
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_header_that_only_begins_like_a_length_is_no_contradiction() {
    let Scene { sidecar, .. } = &before(Behaviour::ok("")).await;
    let host = sidecar.host();
    let request = format!(
        "POST /free HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length-Hint: 4\r\n\
         Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    );
    assert!(exchange(host, &request).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_message_of_the_issuer_with_the_secret_is_not_quoted() {
    let echo = r#"{"error":"unauthorized","error_description":"no client has secret s3cret"}"#;
    let issuer = Peer::start(issuer::status("401 Unauthorized", "", echo)).await;
    let sidecar = Sidecar::start(&issuer.configuration("https://127.0.0.1:9"));
    eventually("refused", async || {
        sidecar.probe("/readyz").await.1.contains("reason not shown: it holds the secret")
    })
    .await;
    assert!(!sidecar.probe("/readyz").await.1.contains("s3cret"));
}

#[tokio::test]
async fn an_informational_response_is_no_final_response() {
    let Scene { sidecar, upstream, .. } = &before(Behaviour::ok("")).await;
    let early = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
    upstream.script([Behaviour::AnswerAndClose(early.into())]);
    let host = sidecar.host();
    let head = format!("POST /free HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    let answer = exchange(host, &format!("{head}Content-Length: 0\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 103"), "{answer}");
    assert!(answer.contains("HTTP/1.1 502") && answer.contains("upstream_unreachable"), "{answer}");
    let kind = r#"bearerd_requests_rejected_total{kind="upstream_unreachable"}"#;
    assert_eq!(sidecar.metric(kind).await, 1.0);
}

#[tokio::test]
async fn informational_responses_without_end_do_not_hold_a_request() {
    let Scene { sidecar, upstream, .. } = &before(Behaviour::ok("")).await;
    let one = "HTTP/1.1 102 Processing\r\n\r\n";
    let host = sidecar.host();
    let request = format!(
        "POST /free HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    // A flood, and a sequence that restarts the timeout of 1 s again and again.
    for (endless, status, kind) in [
        (Behaviour::Answer(one.repeat(1_000)), "502", "upstream_unreachable"),
        (Behaviour::InPieces(vec![one.to_owned(); 90]), "504", "upstream_timeout"),
    ] {
        upstream.script([endless]);
        let answer = exchange(host, &request).await;
        let answer = answer.rsplit("HTTP/1.1 ").next().unwrap();
        assert!(answer.starts_with(status) && answer.contains(kind), "{answer}");
    }
    assert_eq!(upstream.seen().len(), 2);
    let none = async || sidecar.metric("bearerd_requests_in_flight").await == 0.0;
    eventually("no request in flight", none).await;
}

#[tokio::test]
async fn a_request_that_cannot_be_parsed_is_answered_and_counted() {
    let Scene { sidecar, upstream, .. } = &before(Behaviour::ok("")).await;
    let host = sidecar.host();
    for (request, status, kind) in [
        ("GET /free HTTP/1.1\r\nno colon\r\n\r\n", 400, "bad_request"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"),
        ("CONNECT evil.example:443 HTTP/1.1\r\n\r\n", 405, "method_not_allowed"),
    ] {
        let answer = exchange(host, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert!(answer.contains("application/problem+json"), "{request}: {answer}");
        assert!(answer.contains(&format!(r#""kind":"{kind}""#)), "{request}: {answer}");
        assert_eq!(answer.contains("allow: GET"), status == 405, "{answer}");
    }
    assert!(upstream.seen().is_empty());
    for (series, count) in [
        (r#"bearerd_requests_rejected_total{kind="bad_request"}"#, 2.0),
        (r#"bearerd_requests_rejected_total{kind="method_not_allowed"}"#, 1.0),
    ] {
        assert_eq!(sidecar.metric(series).await, count, "{series}");
    }
}

/// A sidecar before an upstream that reads one request, and then sends what comes over the channel.
async fn on_demand() -> (Peer, Sidecar, UnboundedSender<&'static str>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (responses, mut received) = unbounded_channel::<&str>();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        while let Some(response) = received.recv().await {
            stream.write_all(response.as_bytes()).await.unwrap();
        }
    });
    let issuer = issuer::steady().await;
    // A busy machine may need more than the usual second.
    let config = issuer.configuration(&format!("http://{address}"));
    let sidecar = Sidecar::ready(&config.upstream("timeouts", "{ read: 30s }")).await;
    (issuer, sidecar, responses)
}

#[tokio::test]
async fn bytes_that_come_before_the_response_do_not_harm_it() {
    for stray in ["\r\n", "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let (_issuer, sidecar, upstream) = on_demand().await;
        let host = sidecar.host();
        let mut caller = TcpStream::connect(host).await.unwrap();
        let request =
            format!("POST /free HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\n\r\nabc");
        caller.write_all(request.as_bytes()).await.unwrap();
        let in_flight = async || sidecar.metric("bearerd_requests_in_flight").await == 1.0;
        eventually("in flight", in_flight).await;
        caller.write_all(stray.as_bytes()).await.unwrap();
        upstream.send("HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\nmade").unwrap();
        let mut answer = Vec::new();
        // The response to a second request may come in the same packet.
        while !String::from_utf8_lossy(&answer).contains("\r\n\r\nmade") {
            let count = caller.read_buf(&mut answer).await.unwrap();
            assert!(count > 0, "{}", String::from_utf8_lossy(&answer));
        }
        assert!(answer.starts_with(b"HTTP/1.1 201"));
        let series = r#"bearerd_requests_total{code_class="2xx",method="POST",outcome="forwarded",route="/free"}"#;
        eventually("counted as forwarded", async || sidecar.metric(series).await == 1.0).await;
    }
}

#[tokio::test]
async fn bytes_that_come_while_the_response_is_sent_are_the_next_request() {
    let (_issuer, sidecar, upstream) = on_demand().await;
    let host = sidecar.host();
    let mut caller = TcpStream::connect(host).await.unwrap();
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
    caller.write_all(format!("{}\r\n", request("/free")).as_bytes()).await.unwrap();
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n").unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"one\r\n") {
        caller.read_buf(&mut answer).await.unwrap();
    }
    let next = format!("{}Connection: close\r\n\r\n", request("/nowhere"));
    caller.write_all(next.as_bytes()).await.unwrap();
    upstream.send("3\r\ntwo\r\n0\r\n\r\n").unwrap();
    caller.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("\r\n3\r\ntwo\r\n0\r\n\r\nHTTP/1.1 404 "), "{answer}");
    assert!(answer.ends_with(r#""kind":"no_route"}"#), "{answer}");
}

#[tokio::test]
async fn an_upstream_cannot_switch_protocols() {
    let Scene { sidecar, upstream, .. } = &before(Behaviour::ok("")).await;
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nraw";
    upstream.script([Behaviour::Answer(switch.into())]);
    problem(sidecar.get("/free").await, ErrorKind::UpstreamUnreachable).await;
}

#[tokio::test]
async fn a_caller_that_leaves_is_not_the_upstreams_fault() {
    let upstream = Peer::start(Behaviour::ok("")).await;
    let silent = Peer::start(Behaviour::Hang).await;
    let sidecar = Sidecar::start(&silent.configuration(&upstream.url()).client("wait", "300ms"));
    let mut caller = TcpStream::connect(sidecar.host()).await.unwrap();
    let request = format!("GET /free HTTP/1.1\r\nHost: {}\r\n\r\n", sidecar.host());
    caller.write_all(request.as_bytes()).await.unwrap();
    let in_flight = async || sidecar.metric("bearerd_requests_in_flight").await == 1.0;
    eventually("in flight", in_flight).await;
    // Closed with a reset, so that writing to it fails.
    caller.set_zero_linger().unwrap();
    drop(caller);
    let over = async || sidecar.metric("bearerd_requests_in_flight").await == 0.0;
    eventually("over", over).await;
    let (_, metrics) = sidecar.probe("/metrics").await;
    assert!(!metrics.contains("upstream_incomplete"), "{metrics}");
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_caller_that_speaks_tls_is_answered_in_words() {
    let Scene { sidecar, .. } = &Scene::start().await;
    let mut caller = TcpStream::connect(sidecar.host()).await.unwrap();
    // The beginning of a handshake.
    caller.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    timeout(DEADLINE, caller.read_to_end(&mut answer)).await.expect("it answers").unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("the caller spoke TLS"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_caller_that_takes_the_sidecar_for_a_proxy_hears_that_and_nothing_about_the_host() {
    let Scene { sidecar, .. } = &Scene::start().await;
    let request =
        "GET http://acme.example/free HTTP/1.1\r\nHost: acme.example\r\nConnection: close\r\n\r\n";
    let answer = exchange(sidecar.host(), request).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("not as its proxy"), "{answer}");
}
