//! Links in compressed responses, and in responses to HTTP/1.0 clients.

use super::responses::{compressed, gzip, json};
use super::scripted;
use crate::support::issuer;
use crate::support::raw_client::RawClient;
use crate::support::scene::Scene;
use crate::support::sidecar::Sidecar;
use crate::support::upstream::Behaviour;
use crate::support::{DEADLINE, eventually, http};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test]
async fn a_compressed_response_without_links_is_inflated_only_for_callers_that_do_not_accept_gzip()
{
    let Scene { sidecar, upstream, .. } = &scripted().await;
    upstream.script([gzip("text/csv", "a,b"), gzip("text/csv", "a,b")]);
    let plain = sidecar.get("/data/x").await;
    assert_eq!(plain.text().await.unwrap(), "a,b");
    let request = http().get(format!("{}/data/x", sidecar.url)).header("accept-encoding", "gzip");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    assert!(answer.bytes().await.unwrap().starts_with(&[0x1f, 0x8b]));
}

#[tokio::test]
async fn a_compressed_answer_that_is_broken_never_looks_whole() {
    let Scene { sidecar, upstream, .. } = &scripted().await;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&[b'x'; 10_000]).unwrap();
    let whole = encoder.finish().unwrap();
    for broken in [&whole[..whole.len() - 9], &b"no gzip at all"[..]] {
        upstream.script([compressed("application/json", broken)]);
        let answer = http().get(format!("{}/data/x", sidecar.url)).send().await;
        let is_noticed = match answer {
            Ok(answer) => answer.status() == 502 || answer.bytes().await.is_err(),
            Err(_) => true,
        };
        assert!(is_noticed);
    }
    // The reason is given if no part of the response was sent.
    upstream.script([compressed("application/json", b"no gzip at all")]);
    let detail = sidecar.get("/data/x").await.text().await.unwrap();
    assert!(detail.contains("answer cannot be decompressed"), "{detail}");
}

#[tokio::test]
async fn a_compressed_answer_that_breaks_off_ends_the_connection_and_is_the_upstreams_fault() {
    let Scene { sidecar, upstream, .. } = &scripted().await;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let link = format!(r#"{{"@odata.nextLink":"{}/data/x"}}"#, upstream.url());
    encoder.write_all(link.as_bytes()).unwrap();
    let whole = encoder.finish().unwrap();
    let mut count = 0.0;
    for cut in [1, 8, 9] {
        upstream.script([compressed("application/json", &whole[..whole.len() - cut])]);
        let mut caller = RawClient::connect(sidecar.host()).await;
        caller.send("GET /data/x HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let said = caller.rest().await;
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
        assert!(!said.ends_with("\r\n0\r\n\r\n"), "it never looks whole: {said}");
        count += 1.0;
        let series = r#"bearerd_requests_total{code_class="2xx",method="GET",outcome="upstream_incomplete",route="/data""#;
        eventually("counted", async || sidecar.metric(series).await == count).await;
    }
}

#[tokio::test]
async fn gzip_by_its_old_name_and_with_padding_behind_it_is_read() {
    let Scene { sidecar, upstream, .. } = &scripted().await;
    let (tenant, sidecar_url) = (upstream.url(), sidecar.url.clone());
    let page = |origin: &str| format!(r#"{{"@odata.nextLink":"{origin}/data/x"}}"#);
    let Behaviour::Bytes(answer) = gzip("application/json", &page(&tenant)) else { unreachable!() };
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let body = &answer[end..];
    for coding in ["x-gzip", "X-GZIP", "gzip", "identity, gzip"] {
        for padding in [0, 1, 512] {
            let body = [body, &vec![0; padding]].concat();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: {coding}\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            upstream.script([Behaviour::Bytes([head.as_bytes(), &body].concat())]);
            let answer = sidecar.get("/data/x").await;
            assert!(!answer.headers().contains_key("content-encoding"), "{coding}");
            assert_eq!(answer.text().await.unwrap(), page(&sidecar_url), "{coding} {padding}");
        }
    }
}

#[tokio::test]
async fn a_page_of_saps_largest_size_may_compress_as_well_as_it_can() {
    let Scene { sidecar, upstream, .. } = &scripted().await;
    let row = r#"{"ID":1,"Region":"EMEA","Product":"Bicycle","Amount":79.19,"Day":"2025-01-02"},"#;
    let page = format!(r#"{{"value":[{}0]}}"#, row.repeat(20_000_000 / row.len()));
    upstream.script([gzip("application/json", &page)]);
    assert!(sidecar.get("/data/x").await.text().await.unwrap() == page, "every byte");
}

#[tokio::test]
async fn an_empty_compressed_answer_is_an_empty_answer() {
    let Scene { sidecar, upstream, .. } = &scripted().await;
    let head = "HTTP/1.1 201 Created\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n";
    upstream.script([Behaviour::Answer(format!("{head}location: /data/1\r\n\r\n0\r\n\r\n"))]);
    let answer = http().post(format!("{}/data/$batch", sidecar.url)).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.text().await.unwrap(), "");
}

#[tokio::test]
async fn a_body_that_inflates_too_much_is_cut_off_and_never_looks_whole() {
    let Scene { sidecar, upstream, .. } = &scripted().await;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..100 {
        encoder.write_all(&[b' '; 1 << 20]).unwrap();
    }
    upstream.script([compressed("application/json", &encoder.finish().unwrap())]);
    let answer = sidecar.get("/data/x").await;
    assert!(answer.status() == 502 || answer.bytes().await.is_err());
}

/// Sends an HTTP/1.0 request with `Connection: keep-alive`, and reads until the connection ends.
async fn of_http_1_0(sidecar: &Sidecar, path: &str) -> (String, std::io::Result<()>) {
    let mut stream = TcpStream::connect(sidecar.host()).await.unwrap();
    let host = sidecar.host();
    let request = format!("GET {path} HTTP/1.0\r\nhost: {host}\r\nconnection: keep-alive\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("an end in time");
    (String::from_utf8(answer).unwrap(), read.map(drop))
}

#[tokio::test]
async fn a_caller_of_http_1_0_gets_its_links_and_the_end_of_the_connection() {
    let Scene { sidecar, upstream, .. } = &scripted().await;
    let page = |origin: &str| format!(r#"{{"value":[],"@odata.nextLink":"{origin}/data/x?p=2"}}"#);
    let tenant = page(&upstream.url());
    upstream.script([json("", &tenant), gzip("application/json", &tenant)]);
    for _ in 0..2 {
        let (answer, end) = of_http_1_0(sidecar, "/data/x").await;
        end.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, page(&sidecar.url));
        let head = head.to_ascii_lowercase();
        for absent in ["transfer-encoding", "content-length", "content-encoding", "keep-alive"] {
            assert!(!head.contains(absent), "{absent}: {head}");
        }
    }
    // A body that is not rewritten keeps its length, and the connection is kept.
    let csv = issuer::status("200 OK", "content-type: text/csv\r\n", "a,b");
    upstream.script([csv]);
    let mut caller = RawClient::connect(sidecar.host()).await;
    let line = format!("host: {}\r\nconnection: keep-alive\r\n\r\n", sidecar.host());
    caller.send(&format!("GET /data/x HTTP/1.0\r\n{line}")).await;
    let head = caller.head().await.to_ascii_lowercase();
    assert!(head.contains("content-length: 3\r\n") && head.contains("keep-alive"), "{head}");
}

#[tokio::test]
async fn a_rewritten_body_that_is_cut_does_not_look_whole_to_a_caller_of_http_1_0() {
    let Scene { sidecar, upstream, .. } = &scripted().await;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(br#"{"value":["#).unwrap();
    encoder.flush().unwrap();
    let cut_gzip = encoder.get_ref().clone();
    for cut in [
        Behaviour::AnswerAndClose(format!("{head}content-length: 99\r\n\r\n{{\"value\":[1,2")),
        Behaviour::AnswerAndClose(format!(
            "{head}transfer-encoding: chunked\r\n\r\n5\r\n{{\"a\":\r\n"
        )),
        compressed("application/json", &cut_gzip),
    ] {
        upstream.script([cut]);
        let (answer, end) = of_http_1_0(sidecar, "/data/x").await;
        let is_answered = answer.starts_with("HTTP/1.1 502");
        let reset = end.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
        assert!(is_answered || reset, "{answer}");
    }
}
