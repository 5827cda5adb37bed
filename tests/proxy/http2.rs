//! HTTP/2 towards the upstream: shared connections, refusals, goodbyes.

use crate::proxy::requests::raw;
use crate::support::http;
use crate::support::http2::{Http2Upstream, Turn};
use crate::support::issuer;
use crate::support::sidecar::Sidecar;
use crate::support::tls::{Authority, TlsUpstream};
use crate::support::upstream::Peer;
use futures_util::future::join_all;
use rustls::version::{TLS12, TLS13};
use tempfile::TempDir;

struct World {
    sidecar: Sidecar,
    _issuer: Peer,
    _folder: TempDir,
}

async fn before(authority: &Authority, url: &str, http2: bool) -> World {
    before_with(authority, url, &format!("http2: {http2}")).await
}

async fn before_with(authority: &Authority, url: &str, keys: &str) -> World {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let issuer = issuer::steady().await;
    let config = issuer.config(url, "", "");
    let keys = format!(", ca_file: {}, {keys}, timeouts", ca.display());
    let sidecar = Sidecar::ready(&config.replacen(", timeouts", &keys, 1)).await;
    World { sidecar, _issuer: issuer, _folder: folder }
}

/// A sidecar in front of an upstream with a script.
async fn scripted(script: &[Turn]) -> (World, Http2Upstream) {
    let authority = Authority::new();
    let upstream = Http2Upstream::start(&authority, script).await;
    let world = before(&authority, &upstream.url(), true).await;
    (world, upstream)
}

impl World {
    async fn send(&self, method: &str, path: &str) -> (u16, usize) {
        let method = method.parse().unwrap();
        let request = http().request(method, format!("{}/free{path}", self.sidecar.url));
        let answer = request.body("12345").send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap().len())
    }
}

#[tokio::test]
async fn http2_is_spoken_where_it_is_wished_and_known_and_else_http1() {
    let authority = Authority::new();
    let (new, old) = (
        Http2Upstream::start(&authority, &[]).await,
        TlsUpstream::start(&authority, &[&TLS13], None, |_| {}).await,
    );
    for (url, http2, status) in [
        (new.url(), true, 200),
        // It refuses whoever does not offer h2.
        (new.url(), false, 502),
        (old.url(), true, 200),
    ] {
        let world = before(&authority, &url, http2).await;
        for method in ["GET", "POST"] {
            assert_eq!(world.send(method, "/a").await.0, status, "{url} {http2}");
        }
    }
    assert_eq!(new.answered(), ["GET /free/a", "POST /free/a"]);
}

#[tokio::test]
async fn requests_at_once_share_a_connection() {
    const AT_ONCE: usize = 60;
    let (world, upstream) =
        scripted(&[&[Turn::Answer(4)][..], &[Turn::Gather(AT_ONCE); AT_ONCE]].concat()).await;
    // The connection is there when they come.
    assert_eq!(world.send("GET", "/first").await, (200, 4));
    let all = join_all((0..AT_ONCE).map(|_| world.send("GET", "/one"))).await;
    assert!(all.iter().all(|answer| *answer == (200, 4)), "{all:?}");
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn what_the_upstream_has_not_begun_with_is_sent_again_whatever_it_is() {
    for method in ["GET", "POST", "PUT"] {
        let (world, upstream) = scripted(&[Turn::Answer(4), Turn::Refuse]).await;
        assert_eq!(world.send("GET", "/before").await.0, 200);
        assert_eq!(world.send(method, "/it").await, (200, 4), "{method}");
        assert_eq!(upstream.answered(), ["GET /free/before", &format!("{method} /free/it")]);
    }
}

#[tokio::test]
async fn who_wants_http1_gets_it_for_this_request_and_all_others() {
    for method in ["GET", "POST"] {
        let authority = Authority::new();
        let config = authority.server();
        let upstream =
            Http2Upstream::serving(config, &["h2", "http/1.1"], &[Turn::WantHttp1]).await;
        let world = before(&authority, &upstream.url(), true).await;
        assert_eq!(world.send(method, "/it").await, (200, 4), "{method}");
        assert_eq!(world.send("POST", "/next").await, (200, 4), "{method}");
        assert_eq!((upstream.by_http1(), upstream.answered().len()), (2, 0), "{method}");
    }
}

#[tokio::test]
async fn a_connection_whose_tls_is_too_old_is_used_for_no_second_request() {
    let authority = Authority::new();
    let config = authority.server_of(&[&TLS12], None, |_| {});
    let upstream = Http2Upstream::serving(config, &["h2"], &[]).await;
    let world = before_with(&authority, &upstream.url(), "http2: true, min_tls: 1.3").await;
    for connections in 1..=3 {
        assert_eq!(world.send("GET", "/a").await.0, 502);
        assert_eq!(upstream.connections(), connections);
    }
    assert_eq!(upstream.answered().len(), 0);
}

#[tokio::test]
async fn a_connection_that_says_goodbye_costs_a_reader_nothing() {
    let (world, upstream) = scripted(&[Turn::Answer(4), Turn::Leave]).await;
    assert_eq!(world.send("GET", "/before").await.0, 200);
    assert_eq!(world.send("GET", "/it").await, (200, 4));
    assert_eq!((upstream.connections(), upstream.answered().len()), (2, 2));
}

#[tokio::test]
async fn what_it_may_have_begun_with_is_not_sent_again() {
    let (world, upstream) = scripted(&[Turn::Answer(4), Turn::Reset]).await;
    assert_eq!(world.send("GET", "/before").await.0, 200);
    assert_eq!(world.send("POST", "/it").await.0, 502);
    assert_eq!(world.send("POST", "/next").await.0, 200);
    assert_eq!(upstream.answered(), ["GET /free/before", "POST /free/next"]);
}

#[tokio::test]
async fn a_read_that_is_cut_is_sent_again_and_not_for_ever() {
    for cut in [Turn::Reset, Turn::Die] {
        let (world, upstream) = scripted(&[Turn::Answer(4), cut, cut]).await;
        assert_eq!(world.send("GET", "/before").await.0, 200);
        assert_eq!(world.send("GET", "/it").await.0, 200, "{cut:?}");
        assert_eq!(upstream.answered(), ["GET /free/before", "GET /free/it"], "{cut:?}");
        let (world, upstream) = scripted(&[cut; 9]).await;
        assert_eq!(world.send("GET", "/it").await.0, 502, "{cut:?}");
        assert_eq!(upstream.asked(), 3, "{cut:?}");
        let (world, upstream) = scripted(&[cut]).await;
        assert_eq!(world.send("POST", "/it").await.0, 502, "{cut:?}");
        assert_eq!(upstream.asked(), 1, "{cut:?}");
    }
    let (world, upstream) = scripted(&[Turn::Calm]).await;
    assert_eq!(world.send("GET", "/it").await.0, 502, "it has enough of us");
    assert_eq!(upstream.asked(), 1);
}

#[tokio::test]
async fn an_answer_that_has_begun_begins_no_second_time() {
    for method in ["GET", "POST"] {
        let (world, upstream) = scripted(&[Turn::Answer(4), Turn::BeginAndRefuse]).await;
        assert_eq!(world.send("GET", "/before").await.0, 200);
        let url = format!("{}/free/it", world.sidecar.url);
        let answer = http().request(method.parse().unwrap(), url).send().await.unwrap();
        let read = answer.bytes().await;
        assert!(read.is_err(), "{method}: the caller sees that it is cut: {read:?}");
        assert_eq!(upstream.answered(), ["GET /free/before", "begun /free/it"], "{method}");
    }
}

#[tokio::test]
async fn a_reader_that_stalls_holds_up_no_other_on_the_same_connection() {
    const LARGE: usize = 32 << 20;
    let (world, upstream) = scripted(&[Turn::Answer(4), Turn::Answer(LARGE)]).await;
    assert_eq!(world.send("GET", "/first").await.0, 200);
    let url = format!("{}/free/large", world.sidecar.url);
    let mut stalled = http().get(url).send().await.unwrap();
    for _ in 0..20 {
        assert_eq!(world.send("GET", "/small").await, (200, 4));
    }
    let mut read = 0;
    while let Some(piece) = stalled.chunk().await.unwrap() {
        read += piece.len();
    }
    assert_eq!(read, LARGE);
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn what_http2_would_carry_worse_goes_by_http1() {
    let authority = Authority::new();
    let upstream = Http2Upstream::serving(authority.server(), &["h2", "http/1.1"], &[]).await;
    let world = before(&authority, &upstream.url(), true).await;
    let host = world.sidecar.host();
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
        let answer = raw(host, &request).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("fine"), "{answer}");
        assert_eq!((upstream.by_http1(), upstream.asked()), (count + 1, count));
        assert_eq!(world.send("POST", "/b").await, (200, 4), "it is no reason to leave HTTP/2");
    }
}

#[tokio::test]
async fn a_body_with_trailers_behind_it_is_whole() {
    // The end might have become a link, and is held for that.
    let text = r#"{"@odata.nextLink":"https://loc"#;
    let (world, _upstream) = scripted(&[Turn::Trailed(text)]).await;
    let answer = world.sidecar.get("/data").await;
    assert_eq!(answer.text().await.unwrap(), text);
}

#[tokio::test]
async fn an_upstream_that_goes_on_refusing_is_left_alone() {
    let (world, upstream) = scripted(&[Turn::Refuse; 20]).await;
    for (method, asked) in [("GET", 4), ("POST", 8)] {
        assert_eq!(world.send(method, "/it").await.0, 502, "{method}");
        assert_eq!(upstream.asked(), asked, "{method}");
    }
}

#[tokio::test]
async fn an_upstream_that_turns_all_away_is_left_alone() {
    let (world, upstream) = scripted(&[Turn::Dismiss; 20]).await;
    for method in ["GET", "POST"] {
        let before = upstream.asked();
        assert_eq!(world.send(method, "/it").await.0, 502, "{method}");
        // Once, three times more, and twice where a read sees the connection's end first.
        assert!(upstream.asked() - before <= 6, "{method}: {}", upstream.asked());
    }
}

#[tokio::test]
async fn a_connection_that_dies_at_each_second_request_costs_a_reader_nothing() {
    let turns = [Turn::Answer(4), Turn::Die].repeat(20);
    let (world, upstream) = scripted(&turns).await;
    for _ in 0..20 {
        assert_eq!(world.send("GET", "/it").await.0, 200);
    }
    assert_eq!(upstream.answered().len(), 20);
}

#[tokio::test]
async fn who_knows_only_http2_gets_everything_by_it() {
    let (world, upstream) = scripted(&[]).await;
    for count in 1..=2 {
        let upload = http().put(format!("{}/free/it", world.sidecar.url)).body("x".repeat(70_000));
        assert_eq!(upload.send().await.unwrap().status(), 200);
        assert_eq!(upstream.answered().len(), count);
    }
}
