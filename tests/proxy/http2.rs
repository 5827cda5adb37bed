//! HTTP/2 towards the upstream: shared connections, refused streams, GOAWAY.

use crate::support::configuration::Configuration;
use crate::support::http;
use crate::support::http2::{Http2Upstream, Turn};
use crate::support::raw_client::exchange;
use crate::support::scene::Scene;
use crate::support::tls::{Authority, TlsUpstream};
use futures_util::future::join_all;
use rustls::version::{TLS12, TLS13};

/// A sidecar before an upstream with a script.
async fn scripted(script: &[Turn]) -> Scene<Http2Upstream> {
    let authority = Authority::new();
    let upstream = Http2Upstream::start(&authority, script).await;
    with_http2(&authority, upstream).await
}

async fn with_http2(authority: &Authority, upstream: Http2Upstream) -> Scene<Http2Upstream> {
    Scene::trusting(authority, upstream, |config| config.upstream("http2", true)).await
}

/// The status of a request and the length of its body.
async fn send<U>(scene: &Scene<U>, method: &str, path: &str) -> (u16, usize) {
    let url = format!("{}/free{path}", scene.sidecar.url);
    let request = http().request(method.parse().unwrap(), url).body("12345");
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.bytes().await.unwrap().len())
}

#[tokio::test]
async fn http2_is_used_if_configured_and_supported_and_otherwise_http1() {
    let authority = Authority::new();
    for (http2, status) in [(true, 200), (false, 502)] {
        // It refuses clients that do not offer h2.
        let upstream = Http2Upstream::start(&authority, &[]).await;
        let change = |config: Configuration| config.upstream("http2", http2);
        let scene = Scene::trusting(&authority, upstream, change).await;
        for method in ["GET", "POST"] {
            assert_eq!(send(&scene, method, "/a").await.0, status, "{http2}");
        }
        let expected: &[&str] = if http2 { &["GET /free/a", "POST /free/a"] } else { &[] };
        assert_eq!(scene.upstream.answered(), expected);
    }
    let old = TlsUpstream::start(&authority, &[&TLS13], None, |_| {}).await;
    let scene = Scene::trusting(&authority, old, |config| config.upstream("http2", true)).await;
    for method in ["GET", "POST"] {
        assert_eq!(send(&scene, method, "/a").await.0, 200, "{method}");
    }
}

#[tokio::test]
async fn requests_at_once_share_a_connection() {
    const AT_ONCE: usize = 60;
    let scene =
        scripted(&[&[Turn::Answer(4)][..], &[Turn::Gather(AT_ONCE); AT_ONCE]].concat()).await;
    // This opens the connection.
    assert_eq!(send(&scene, "GET", "/first").await, (200, 4));
    let all = join_all((0..AT_ONCE).map(|_| send(&scene, "GET", "/one"))).await;
    assert!(all.iter().all(|answer| *answer == (200, 4)), "{all:?}");
    assert_eq!(scene.upstream.connections(), 1);
}

#[tokio::test]
async fn a_request_that_the_upstream_has_not_begun_with_is_sent_again_whatever_its_method() {
    for method in ["GET", "POST", "PUT"] {
        let scene = scripted(&[Turn::Answer(4), Turn::Refuse]).await;
        assert_eq!(send(&scene, "GET", "/before").await.0, 200);
        assert_eq!(send(&scene, method, "/it").await, (200, 4), "{method}");
        assert_eq!(scene.upstream.answered(), ["GET /free/before", &format!("{method} /free/it")]);
    }
}

#[tokio::test]
async fn an_upstream_that_requires_http1_gets_it_for_this_request_and_all_others() {
    for method in ["GET", "POST"] {
        let authority = Authority::new();
        let config = authority.server();
        let upstream =
            Http2Upstream::serving(config, &["h2", "http/1.1"], &[Turn::WantHttp1]).await;
        let scene = with_http2(&authority, upstream).await;
        assert_eq!(send(&scene, method, "/it").await, (200, 4), "{method}");
        assert_eq!(send(&scene, "POST", "/next").await, (200, 4), "{method}");
        assert_eq!(
            (scene.upstream.by_http1(), scene.upstream.answered().len()),
            (2, 0),
            "{method}"
        );
    }
}

#[tokio::test]
async fn a_connection_whose_tls_is_too_old_is_used_for_no_second_request() {
    let authority = Authority::new();
    let config = authority.server_of(&[&TLS12], None, |_| {});
    let upstream = Http2Upstream::serving(config, &["h2"], &[]).await;
    let scene = Scene::trusting(&authority, upstream, |config| {
        config.upstream("http2", true).upstream("min_tls", "1.3")
    })
    .await;
    for connections in 1..=3 {
        assert_eq!(send(&scene, "GET", "/a").await.0, 502);
        assert_eq!(scene.upstream.connections(), connections);
    }
    assert_eq!(scene.upstream.answered().len(), 0);
}

#[tokio::test]
async fn a_goaway_costs_a_read_nothing() {
    let scene = scripted(&[Turn::Answer(4), Turn::Leave]).await;
    assert_eq!(send(&scene, "GET", "/before").await.0, 200);
    assert_eq!(send(&scene, "GET", "/it").await, (200, 4));
    assert_eq!((scene.upstream.connections(), scene.upstream.answered().len()), (2, 2));
}

#[tokio::test]
async fn a_write_that_it_may_have_begun_with_is_not_sent_again() {
    let scene = scripted(&[Turn::Answer(4), Turn::Reset]).await;
    assert_eq!(send(&scene, "GET", "/before").await.0, 200);
    assert_eq!(send(&scene, "POST", "/it").await.0, 502);
    assert_eq!(send(&scene, "POST", "/next").await.0, 200);
    assert_eq!(scene.upstream.answered(), ["GET /free/before", "POST /free/next"]);
}

#[tokio::test]
async fn a_read_that_is_cut_is_sent_again_and_not_for_ever() {
    for cut in [Turn::Reset, Turn::Die] {
        let scene = scripted(&[Turn::Answer(4), cut, cut]).await;
        assert_eq!(send(&scene, "GET", "/before").await.0, 200);
        assert_eq!(send(&scene, "GET", "/it").await.0, 200, "{cut:?}");
        assert_eq!(scene.upstream.answered(), ["GET /free/before", "GET /free/it"], "{cut:?}");
        let scene = scripted(&[cut; 9]).await;
        assert_eq!(send(&scene, "GET", "/it").await.0, 502, "{cut:?}");
        assert_eq!(scene.upstream.asked(), 3, "{cut:?}");
        let scene = scripted(&[cut]).await;
        assert_eq!(send(&scene, "POST", "/it").await.0, 502, "{cut:?}");
        assert_eq!(scene.upstream.asked(), 1, "{cut:?}");
    }
    let scene = scripted(&[Turn::Calm]).await;
    assert_eq!(send(&scene, "GET", "/it").await.0, 502, "it asks for calm");
    assert_eq!(scene.upstream.asked(), 1);
}

#[tokio::test]
async fn a_response_that_has_begun_does_not_begin_again() {
    for method in ["GET", "POST"] {
        let scene = scripted(&[Turn::Answer(4), Turn::BeginAndRefuse]).await;
        assert_eq!(send(&scene, "GET", "/before").await.0, 200);
        let url = format!("{}/free/it", scene.sidecar.url);
        let answer = http().request(method.parse().unwrap(), url).send().await.unwrap();
        let read = answer.bytes().await;
        assert!(read.is_err(), "{method}: the caller sees that it is cut: {read:?}");
        assert_eq!(scene.upstream.answered(), ["GET /free/before", "begun /free/it"], "{method}");
    }
}

#[tokio::test]
async fn a_reader_that_stalls_holds_up_no_other_on_the_same_connection() {
    const LARGE: usize = 32 << 20;
    let scene = scripted(&[Turn::Answer(4), Turn::Answer(LARGE)]).await;
    assert_eq!(send(&scene, "GET", "/first").await.0, 200);
    let url = format!("{}/free/large", scene.sidecar.url);
    let mut stalled = http().get(url).send().await.unwrap();
    for _ in 0..20 {
        assert_eq!(send(&scene, "GET", "/small").await, (200, 4));
    }
    let mut read = 0;
    while let Some(piece) = stalled.chunk().await.unwrap() {
        read += piece.len();
    }
    assert_eq!(read, LARGE);
    assert_eq!(scene.upstream.connections(), 1);
}

#[tokio::test]
async fn a_request_that_http2_would_carry_worse_goes_by_http1() {
    let authority = Authority::new();
    let upstream = Http2Upstream::serving(authority.server(), &["h2", "http/1.1"], &[]).await;
    let scene = with_http2(&authority, upstream).await;
    let host = scene.sidecar.host();
    let large = format!("Content-Length: 70000\r\n\r\n{}", "x".repeat(70_000));
    for (count, request) in [
        "POST /free/a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "POST /free/a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
        &format!("POST /free/a HTTP/1.1\r\n{large}"),
        "GET /free/a HTTP/1.0\r\n\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let (line, rest) = request.split_once("\r\n").unwrap();
        let request = format!("{line}\r\nHost: {host}\r\nConnection: close\r\n{rest}");
        let answer = exchange(host, &request).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("fine"), "{answer}");
        assert_eq!((scene.upstream.by_http1(), scene.upstream.asked()), (count + 1, count));
        assert_eq!(send(&scene, "POST", "/b").await, (200, 4), "other requests stay with HTTP/2");
    }
}

#[tokio::test]
async fn a_body_with_trailers_behind_it_is_whole() {
    // The end could be the beginning of a link, and is held back.
    let text = r#"{"@odata.nextLink":"https://loc"#;
    let scene = scripted(&[Turn::Trailed(text)]).await;
    let answer = scene.sidecar.get("/data").await;
    assert_eq!(answer.text().await.unwrap(), text);
}

#[tokio::test]
async fn an_upstream_that_goes_on_refusing_is_left_alone() {
    let scene = scripted(&[Turn::Refuse; 20]).await;
    for (method, asked) in [("GET", 4), ("POST", 8)] {
        assert_eq!(send(&scene, method, "/it").await.0, 502, "{method}");
        assert_eq!(scene.upstream.asked(), asked, "{method}");
    }
}

#[tokio::test]
async fn an_upstream_that_accepts_no_stream_is_left_alone() {
    let scene = scripted(&[Turn::Dismiss; 20]).await;
    for method in ["GET", "POST"] {
        let before = scene.upstream.asked();
        assert_eq!(send(&scene, method, "/it").await.0, 502, "{method}");
        // One attempt, three retries, and two more if a read sees the connection's end first.
        assert!(scene.upstream.asked() - before <= 6, "{method}: {}", scene.upstream.asked());
    }
}

#[tokio::test]
async fn a_connection_that_dies_at_each_second_request_costs_a_read_nothing() {
    let turns = [Turn::Answer(4), Turn::Die].repeat(20);
    let scene = scripted(&turns).await;
    for _ in 0..20 {
        assert_eq!(send(&scene, "GET", "/it").await.0, 200);
    }
    assert_eq!(scene.upstream.answered().len(), 20);
}

#[tokio::test]
async fn an_upstream_that_supports_only_http2_gets_every_request_by_it() {
    let scene = scripted(&[]).await;
    for count in 1..=2 {
        let upload = http().put(format!("{}/free/it", scene.sidecar.url)).body("x".repeat(70_000));
        assert_eq!(upload.send().await.unwrap().status(), 200);
        assert_eq!(scene.upstream.answered().len(), count);
    }
}
