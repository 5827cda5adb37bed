//! Callers stay inside: a link of the tenant's that they follow leads through the sidecar.

use crate::support::issuer;
use crate::support::raw_client::RawClient;
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer, Seen};
use crate::support::{DEADLINE, Fixture, eventually, http};
use bearerd::demo::{Faults, NextLinks};
use bearerd::proxy::links::origin::OriginMap;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

const DIGESTS: [&str; 4] = ["content-md5", "digest", "content-digest", "repr-digest"];
const CONSUMPTION: &str = "/api/v1/datasphere/consumption";

async fn tenant() -> (Fixture, Sidecar) {
    let fixture = Fixture::start().await;
    let sidecar = Sidecar::ready(&fixture.config("", "")).await;
    (fixture, sidecar)
}

/// A raw upstream, with the routes of the harness.
async fn raw() -> (Peer, Peer, Sidecar) {
    let issuer = issuer::steady().await;
    let upstream = Peer::start(Behaviour::ok("")).await;
    let sidecar = Sidecar::ready(&issuer.config(&upstream.url(), "", "")).await;
    (issuer, upstream, sidecar)
}

fn json(headers: &str, body: &str) -> Behaviour {
    issuer::status("200 OK", &format!("content-type: application/json\r\n{headers}"), body)
}

fn gzip(content_type: &str, body: &str) -> Behaviour {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body.as_bytes()).unwrap();
    compressed(content_type, &encoder.finish().unwrap())
}

fn compressed(content_type: &str, body: &[u8]) -> Behaviour {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    Behaviour::Bytes([head.as_bytes(), body].concat())
}

/// Follows a URL as a tool does that knows nothing: wherever it leads, without credentials.
async fn follow(url: &str) -> Value {
    let answer = http().get(url).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{url}");
    answer.json().await.unwrap()
}

#[tokio::test]
async fn next_links_are_followed_to_the_last_row_in_each_of_their_forms() {
    for next_links in [NextLinks::Absolute, NextLinks::AbsolutePath, NextLinks::Relative] {
        let (fixture, sidecar) = tenant().await;
        fixture.tenant.set_faults(Faults { next_links, ..Faults::default() });
        let start = format!("{}{CONSUMPTION}/relational/DEMO/SALES/SALES", sidecar.url);
        let mut next = Some(Url::parse(&start).unwrap());
        let (mut ids, mut rows, mut pages) = (BTreeSet::new(), 0, 0);
        while let Some(url) = next {
            assert!(url.as_str().starts_with(&sidecar.url), "{url}");
            let page = follow(url.as_str()).await;
            assert!(page["@odata.context"].as_str().unwrap().starts_with(&sidecar.url));
            for row in page["value"].as_array().unwrap() {
                ids.insert(row["ID"].as_i64().unwrap());
                rows += 1;
            }
            pages += 1;
            next = page["@odata.nextLink"].as_str().map(|link| url.join(link).unwrap());
        }
        assert_eq!((ids.len(), rows), (2500, 2500), "{next_links:?}");
        assert!(pages > 1);
        let series = format!(r#"bearerd_links_rewritten_total{{route="{CONSUMPTION}"}}"#);
        let next_ones = if next_links == NextLinks::Absolute { pages - 1 } else { 0 };
        let links = f64::from(pages + next_ones);
        eventually("counted", async || sidecar.metric(&series).await == links).await;
        let seen = fixture.tenant.seen().last_request.unwrap();
        let compressed = ("accept-encoding".to_owned(), "gzip".to_owned());
        assert!(seen.headers.contains(&compressed), "the wide area is spared");
    }
}

#[tokio::test]
async fn the_catalogs_urls_lead_to_the_rows() {
    let (_fixture, sidecar) = tenant().await;
    let assets = follow(&format!("{}{CONSUMPTION}/catalog/assets", sidecar.url)).await;
    let url = assets["value"][0]["assetRelationalDataUrl"].as_str().unwrap().to_owned();
    assert!(url.starts_with(&sidecar.url), "{url}");
    assert!(!follow(&url).await["value"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_created_user_is_read_at_its_location() {
    let (_fixture, sidecar) = tenant().await;
    let request = http().post(format!("{}/api/v1/scim2/Users", sidecar.url));
    let created = request.body(r#"{"userName":"ADA"}"#).send().await.unwrap();
    assert_eq!(created.status(), 201);
    let location = created.headers()["location"].to_str().unwrap().to_owned();
    assert!(location.starts_with(&sidecar.url), "{location}");
    assert_eq!(follow(&location).await["userName"], "ADA");
}

#[tokio::test]
async fn each_form_of_next_link_is_what_its_caller_needs_compressed_or_not() {
    let (_issuer, upstream, sidecar) = raw().await;
    let (tenant, ours) = (upstream.url(), sidecar.url.clone());
    for (theirs, expected) in [
        (format!("{tenant}/data/x?$skip=1"), format!("{ours}/data/x?$skip=1")),
        ("/data/x?$skip=1".to_owned(), "/data/x?$skip=1".to_owned()),
        ("x?$skip=1".to_owned(), "x?$skip=1".to_owned()),
    ] {
        let page = |link: &str| {
            format!(
                r#"{{ "value": [{{"Home":"{tenant}/business"}}] , "@odata.nextLink" : "{link}" }}"#
            )
        };
        upstream.script([
            json("", &page(&theirs)),
            gzip("application/json;odata.metadata=full", &page(&theirs)),
        ]);
        for _ in 0..2 {
            let answer = sidecar.get("/data/x").await;
            assert!(!answer.headers().contains_key("content-encoding"));
            assert_eq!(answer.text().await.unwrap(), page(&expected), "byte for byte otherwise");
        }
    }
    assert!(upstream.seen().iter().all(|seen| seen.header("accept-encoding") == ["gzip"]));
}

#[tokio::test]
async fn xml_is_rewritten_for_odata() {
    let (_issuer, upstream, sidecar) = raw().await;
    let (tenant, ours) = (upstream.url(), sidecar.url.clone());
    let feed = |origin: &str| {
        format!(
            "<?xml version=\"1.0\"?><feed xml:base=\"{origin}/data/\"><id>{origin}/data/x</id>\
             <link rel='next' href='{origin}/data/x?p=2'/><title>{tenant}/x</title></feed>"
        )
    };
    let xml = "content-type: application/atom+xml;type=feed\r\n";
    upstream.script([issuer::status("200 OK", xml, &feed(&tenant))]);
    assert_eq!(sidecar.get("/data/x").await.text().await.unwrap(), feed(&ours));
}

#[tokio::test]
async fn what_is_no_link_and_what_is_switched_off_passes_byte_for_byte() {
    let issuer = issuer::steady().await;
    let upstream = Peer::start(Behaviour::ok("")).await;
    let config = issuer.config(&upstream.url(), "", "");
    let config = config
        .replace("path: /data,", "path: /plain, profile: odata, links: off }\n  - { path: /data,");
    let sidecar = Sidecar::ready(&config).await;
    let link = format!(r#"{{"@odata.nextLink":"{}/data/x"}}"#, upstream.url());
    for path in ["/plain/x", "/free/x"] {
        upstream.script([json("", &link)]);
        let request = http().get(format!("{}{path}", sidecar.url)).header("accept-encoding", "br");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["content-length"], link.len().to_string());
        assert_eq!(answer.text().await.unwrap(), link, "{path}");
    }
    assert!(upstream.seen().iter().all(|seen| seen.header("accept-encoding") == ["br"]));
    let csv = issuer::status("200 OK", "content-type: text/csv\r\netag: \"v\"\r\n", &link);
    upstream.script([csv]);
    let answer = sidecar.get("/data/x").await;
    assert_eq!(answer.headers()["etag"], "\"v\"");
    assert_eq!(answer.text().await.unwrap(), link);
}

#[tokio::test]
async fn a_compressed_answer_of_another_kind_is_plain_only_for_those_who_did_not_ask() {
    let (_issuer, upstream, sidecar) = raw().await;
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
    let (_issuer, upstream, sidecar) = raw().await;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&[b'x'; 10_000]).unwrap();
    let whole = encoder.finish().unwrap();
    for broken in [&whole[..whole.len() - 9], &b"no gzip at all"[..]] {
        upstream.script([compressed("application/json", broken)]);
        let answer = http().get(format!("{}/data/x", sidecar.url)).send().await;
        let is_told = match answer {
            Ok(answer) => answer.status() == 502 || answer.bytes().await.is_err(),
            Err(_) => true,
        };
        assert!(is_told);
    }
    // The reason is told where something can be told.
    upstream.script([compressed("application/json", b"no gzip at all")]);
    let detail = sidecar.get("/data/x").await.text().await.unwrap();
    assert!(detail.contains("compressed answer is broken"), "{detail}");
}

#[tokio::test]
async fn a_compressed_answer_that_breaks_off_ends_the_connection_and_is_the_upstreams_fault() {
    let (_issuer, upstream, sidecar) = raw().await;
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
    let (_issuer, upstream, sidecar) = raw().await;
    let (theirs, ours) = (upstream.url(), sidecar.url.clone());
    let page = |origin: &str| format!(r#"{{"@odata.nextLink":"{origin}/data/x"}}"#);
    let Behaviour::Bytes(answer) = gzip("application/json", &page(&theirs)) else { unreachable!() };
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
            assert_eq!(answer.text().await.unwrap(), page(&ours), "{coding} {padding}");
        }
    }
}

#[tokio::test]
async fn a_page_of_saps_largest_size_may_compress_as_well_as_it_can() {
    let (_issuer, upstream, sidecar) = raw().await;
    let row = r#"{"ID":1,"Region":"EMEA","Product":"Bicycle","Amount":79.19,"Day":"2025-01-02"},"#;
    let page = format!(r#"{{"value":[{}0]}}"#, row.repeat(20_000_000 / row.len()));
    upstream.script([gzip("application/json", &page)]);
    assert!(sidecar.get("/data/x").await.text().await.unwrap() == page, "every byte");
}

#[tokio::test]
async fn ranges_and_answers_without_a_body_pass() {
    let (_issuer, upstream, sidecar) = raw().await;
    let link = format!(r#"{{"@odata.nextLink":"{}/data/x"}}"#, upstream.url());
    upstream.script([issuer::status(
        "206 Partial Content",
        "content-type: application/json\r\n",
        &link,
    )]);
    let request = http().get(format!("{}/data/x", sidecar.url)).header("range", "bytes=0-99");
    assert_eq!(request.send().await.unwrap().text().await.unwrap(), link);
    assert!(upstream.seen()[0].header("accept-encoding").is_empty());
    upstream.script([Behaviour::Answer(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 77\r\ncontent-md5: x\r\ndigest: md5=x\r\ncontent-digest: md5=:x:\r\nrepr-digest: md5=:x:\r\netag: \"v1\"\r\n\r\n"
            .into(),
    )]);
    let head = http().head(format!("{}/data/x", sidecar.url)).send().await.unwrap();
    assert!(!head.headers().contains_key("content-length"), "nor would a GET tell it");
    for name in DIGESTS {
        assert!(!head.headers().contains_key(name), "{name}: of bytes that a GET changes");
    }
    let tag = head.headers()["etag"].clone();
    assert!(tag.to_str().unwrap().starts_with("W/"), "that of the GET");
    for (tag, answered) in [(tag.to_str().unwrap(), tag.to_str().unwrap()), ("\"v1\"", "\"v1\"")] {
        upstream.script([Behaviour::Answer(
            "HTTP/1.1 304 Not Modified\r\netag: \"v1\"\r\ncontent-md5: x\r\n\r\n".into(),
        )]);
        let request = http().get(format!("{}/data/x", sidecar.url)).header("if-none-match", tag);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["etag"], answered);
        assert_eq!(answer.headers().contains_key("content-md5"), answered == "\"v1\"");
    }
    upstream.script([Behaviour::Answer("HTTP/1.1 204 No Content\r\n\r\n".into())]);
    assert_eq!(sidecar.get("/data/x").await.status(), 204);
    // What a GET would bring as it is, or inflated only.
    for (coding, accepted, is_changed) in
        [("br", "br", false), ("gzip", "gzip", false), ("gzip", "br", true)]
    {
        upstream.script([Behaviour::Answer(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/csv\r\ncontent-encoding: {coding}\r\ncontent-length: 77\r\ncontent-md5: x\r\netag: \"v1\"\r\n\r\n"
        ))]);
        let request = http().head(format!("{}/data/x", sidecar.url));
        let head = request.header("accept-encoding", accepted).send().await.unwrap();
        for name in ["content-encoding", "content-length", "content-md5"] {
            assert_eq!(
                head.headers().contains_key(name),
                !is_changed,
                "{coding} {accepted}: {name}"
            );
        }
        assert_eq!(head.headers()["etag"] == "\"v1\"", !is_changed);
    }
}

#[tokio::test]
async fn an_entity_tag_survives_the_way_out_and_back() {
    let (_issuer, upstream, sidecar) = raw().await;
    upstream.script([json("etag: \"v1\"\r\n", "{}")]);
    let tag = sidecar.get("/users/x").await.headers()["etag"].clone();
    assert!(tag.to_str().unwrap().starts_with("W/"), "the bytes may have changed");
    let request = http().put(format!("{}/users/x", sidecar.url)).header("if-match", tag);
    request.body("{}").send().await.unwrap();
    assert_eq!(upstream.seen().last().unwrap().header("if-match"), ["\"v1\""]);
}

#[tokio::test]
async fn a_cut_path_comes_back_and_another_upstream_is_reached_by_its_route() {
    let issuer = issuer::steady().await;
    let (tenant, transports) =
        (Peer::start(Behaviour::ok("")).await, Peer::start(Behaviour::ok("")).await);
    let config = format!(
        "listen: 127.0.0.1:0\nadmin: {{ listen: 127.0.0.1:0 }}
clients: {{ c: {{ token_url: \"{}\", client_id: i, client_secret: s }} }}
upstreams: {{ tenant: {{ url: \"{}\" }}, transports: {{ url: \"{}\" }} }}
routes:
  - {{ path: /data, profile: odata, upstream: tenant }}
  - {{ path: /ctm, profile: cloud-transport, upstream: transports, strip_path: true }}
",
        issuer.url(),
        tenant.url(),
        transports.url()
    );
    let sidecar = Sidecar::ready(&config).await;
    let location = async |peer: &Peer, path: &str, theirs: &str| {
        peer.script([issuer::status("302 Found", &format!("location: {theirs}\r\n"), "")]);
        let answer = sidecar.get(path).await;
        answer.headers()["location"].to_str().unwrap().replace(&sidecar.url, "US")
    };
    let far = format!("{}/v2/nodes", transports.url());
    assert_eq!(location(&transports, "/ctm/v2/x", &far).await, "US/ctm/v2/nodes");
    assert_eq!(location(&transports, "/ctm/v2/x", "/v2/nodes").await, "/ctm/v2/nodes");
    assert_eq!(location(&tenant, "/data/x", &far).await, "US/ctm/v2/nodes");
    assert_eq!(location(&tenant, "/data/x", "/data/y").await, "/data/y");
    let unknown = "https://elsewhere.example/x";
    assert_eq!(location(&tenant, "/data/x", unknown).await, unknown);
    let body = format!(r#"{{"@odata.id":"{far}","a@odata.navigationLink":"/v2/nodes"}}"#);
    transports.script([json("", &body)]);
    let text = sidecar.get("/ctm/v2/x").await.text().await.unwrap();
    let expected = r#"{"@odata.id":"US/ctm/v2/nodes","a@odata.navigationLink":"/ctm/v2/nodes"}"#;
    assert_eq!(text.replace(&sidecar.url, "US"), expected);
}

#[tokio::test]
async fn what_a_service_behind_tls_termination_calls_itself_leads_here() {
    let (_issuer, upstream, sidecar) = raw().await;
    let port = upstream.address.port();
    for (theirs, is_ours) in [
        (format!("https://127.0.0.1:{port}/data/x"), true),
        (format!("HTTP://127.0.0.1.:{port}/data/x"), true),
        (format!("//127.0.0.1:{port}/data/x"), true),
        ("http://127.0.0.1/data/x".to_owned(), false),
        ("https://127.0.0.1:443/data/x".to_owned(), false),
        (format!("http://u@127.0.0.1:{port}/data/x"), false),
    ] {
        upstream.script([json(
            &format!("location: {theirs}\r\n"),
            &format!(r#"{{"@odata.nextLink":"{theirs}"}}"#),
        )]);
        let answer = sidecar.get("/data/x").await;
        let ours = if is_ours { format!("{}/data/x", sidecar.url) } else { theirs };
        assert_eq!(answer.headers()["location"], ours);
        assert_eq!(answer.json::<Value>().await.unwrap()["@odata.nextLink"], ours);
    }
}

#[tokio::test]
async fn our_origin_is_the_one_that_the_caller_used() {
    let (_issuer, upstream, sidecar) = raw().await;
    let port = sidecar.host().rsplit(':').next().unwrap();
    let link = format!(r#"{{"@odata.nextLink":"{}/data/x"}}"#, upstream.url());
    for (host, ours) in [
        (format!("localhost:{port}"), format!("http://localhost:{port}/data/x")),
        (format!("LocalHost:{port}"), format!("http://LocalHost:{port}/data/x")),
    ] {
        upstream.script([json("", &link)]);
        let request = http().get(format!("{}/data/x", sidecar.url)).header("host", host);
        let page: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(page["@odata.nextLink"], ours);
    }
}

#[tokio::test]
async fn our_urls_in_a_requests_headers_become_the_tenants() {
    let (_issuer, upstream, sidecar) = raw().await;
    let ours = |path: &str| format!("{}{path}", sidecar.url);
    let send = async |path: &str, url: String| {
        let request = http().get(ours(path)).header("destination", &url);
        // Another page's is refused: see the guard.
        let is_ours = url.starts_with(&sidecar.url);
        let request = if is_ours { request.header("referer", &url) } else { request };
        assert_eq!(request.send().await.unwrap().status(), 200);
        let seen = upstream.seen().pop().unwrap();
        if is_ours {
            assert_eq!(seen.header("destination"), seen.header("referer"));
        }
        seen.header("destination")[0].replace(&upstream.url(), "TENANT")
    };
    assert_eq!(send("/data/x", ours("/data/y?z")).await, "TENANT/data/y?z");
    assert_eq!(send("/users/x", ours("/users/Users/1")).await, "TENANT/Users/1");
    assert_eq!(send("/data/x", ours("/users/Users/1")).await, "TENANT/Users/1", "by its own route");
    assert_eq!(send("/users/x", ours("/data/y")).await, "TENANT/data/y");
    assert_eq!(send("/users/x", "/users".to_owned()).await, "/");
    let other = "http://elsewhere.example/x";
    http().get(ours("/data/x")).header("destination", other).send().await.unwrap();
    assert_eq!(upstream.seen().pop().unwrap().header("destination"), [other]);
}

#[tokio::test]
async fn a_batchs_answer_is_ours_in_both_of_its_forms() {
    let (_issuer, upstream, sidecar) = raw().await;
    let (tenant, ours) = (upstream.url(), sidecar.url.clone());
    let part = |origin: &str| {
        format!(
            "--b\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 201 Created\r\nLocation: {origin}/data/1\r\nContent-Type: application/json\r\n\r\n{{\"@odata.id\":\"{origin}/data/1\"}}\r\n--b--\r\n"
        )
    };
    let json_batch = |origin: &str, tag: &str| {
        format!(
            r#"{{"responses":[{{"id":"1","status":201,"headers":{{"location":"{origin}/data/1","etag":"{tag}"}},"body":{{"@odata.id":"{origin}/data/1"}}}}]}}"#
        )
    };
    let kind = "content-type: multipart/mixed; boundary=b\r\n";
    let multipart = issuer::status("200 OK", kind, &part(&tenant));
    let compressed = gzip("multipart/mixed; boundary=b", &part(&tenant));
    upstream.script([multipart, compressed, json("", &json_batch(&tenant, r#"\"v\""#))]);
    let request = || http().post(format!("{ours}/data/$batch")).body(r#"{"requests":[]}"#);
    let post = async || request().header("content-type", "application/json").send().await.unwrap();
    for _ in 0..2 {
        assert_eq!(post().await.text().await.unwrap(), part(&ours));
    }
    let tag = r"W/\u0022v~bearerd\u0022";
    assert_eq!(post().await.text().await.unwrap(), json_batch(&ours, tag));
}

/// Sends one request of HTTP/1.0, which asks for the connection to be kept, and reads to its end.
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
    let (_issuer, upstream, sidecar) = raw().await;
    let page = |origin: &str| format!(r#"{{"value":[],"@odata.nextLink":"{origin}/data/x?p=2"}}"#);
    let theirs = page(&upstream.url());
    upstream.script([json("", &theirs), gzip("application/json", &theirs)]);
    for _ in 0..2 {
        let (answer, end) = of_http_1_0(&sidecar, "/data/x").await;
        end.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, page(&sidecar.url));
        let head = head.to_ascii_lowercase();
        for absent in ["transfer-encoding", "content-length", "content-encoding", "keep-alive"] {
            assert!(!head.contains(absent), "{absent}: {head}");
        }
    }
    // What is not touched keeps its length, and the connection.
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
    let (_issuer, upstream, sidecar) = raw().await;
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
        let (answer, end) = of_http_1_0(&sidecar, "/data/x").await;
        let told = answer.starts_with("HTTP/1.1 502");
        let reset = end.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
        assert!(told || reset, "{answer}");
    }
}

#[tokio::test]
async fn an_empty_compressed_answer_is_an_empty_answer() {
    let (_issuer, upstream, sidecar) = raw().await;
    let head = "HTTP/1.1 201 Created\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n";
    upstream.script([Behaviour::Answer(format!("{head}location: /data/1\r\n\r\n0\r\n\r\n"))]);
    let answer = http().post(format!("{}/data/$batch", sidecar.url)).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.text().await.unwrap(), "");
}

#[tokio::test]
async fn what_inflates_beyond_all_measure_is_cut_off_and_never_looks_whole() {
    let (_issuer, upstream, sidecar) = raw().await;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..100 {
        encoder.write_all(&[b' '; 1 << 20]).unwrap();
    }
    upstream.script([compressed("application/json", &encoder.finish().unwrap())]);
    let answer = sidecar.get("/data/x").await;
    assert!(answer.status() == 502 || answer.bytes().await.is_err());
}

#[tokio::test]
async fn of_two_upstreams_at_one_origin_a_link_stays_with_its_own_client() {
    let issuer = issuer::steady().await;
    let upstream = Peer::start(Behaviour::ok("")).await;
    let (tenant, token) = (upstream.url(), issuer.url());
    let client = format!("{{ token_url: \"{token}\", client_id: i, client_secret: s }}");
    let config = format!(
        "listen: 127.0.0.1:0\nadmin: {{ listen: 127.0.0.1:0 }}
clients: {{ admin: {client}, user: {client} }}
upstreams: {{ big: {{ url: \"{tenant}\", client: admin }}, small: {{ url: \"{tenant}\", client: user }} }}
routes:
  - {{ path: /adm, profile: odata, upstream: big, strip_path: true }}
  - {{ path: /ro, profile: odata, upstream: small }}
"
    );
    let sidecar = Sidecar::ready(&config).await;
    upstream.script([issuer::status("302 Found", &format!("location: {tenant}/ro/2\r\n"), "")]);
    let answer = sidecar.get("/ro/1").await;
    assert_eq!(answer.headers()["location"], format!("{}/ro/2", sidecar.url));
}

const PAGE: &str = include_str!("../../docs/links.md");
const TENANT: &str = "https://tenant.example";
const SIDECAR: &str = "http://sidecar.example";

/// The rows below a heading of docs/links.md, in cells without the ticks around code.
fn table(heading: &str) -> Vec<Vec<String>> {
    let (_, section) = PAGE.split_once(&format!("## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let cells = |row: &str| {
        let cells = row.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    };
    let rows: Vec<Vec<String>> = rows.map(cells).collect();
    assert!(rows.len() > 15, "{heading}");
    rows
}

fn example(cell: &str) -> String {
    cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`')).unwrap().replace(r"\r\n", "\r\n")
}

/// Whether a row says that its example is rewritten.
fn is_rewritten(says: &str) -> bool {
    assert!(says.starts_with("rewritten") || says.starts_with("stays"), "{says}");
    says.starts_with("rewritten")
}

/// What an example becomes; the namespace in one of them is a name.
fn rewritten(example: &str, from: &str, to: &str) -> String {
    example.replace(from, to).replace(&format!("{to}/ns"), &format!("{from}/ns"))
}

#[test]
fn each_origin_in_the_table_is_taken_as_the_table_says() {
    let map = OriginMap::new([(TENANT.to_owned(), SIDECAR.to_owned())], None);
    for row in table("Which URLs are the tenant's") {
        let url = example(&row[0]);
        assert_eq!(map.rewrite(&url).is_some(), is_rewritten(&row[1]), "{url}");
    }
}

#[test]
fn the_tests_that_the_tables_name_are_there() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["src/proxy", "tests"].iter().flat_map(|name| sources(&folder.join(name)));
    let sources: String = files.collect();
    let mut count = 0;
    for row in ["In answers", "In requests"].into_iter().flat_map(table) {
        if let [_, _, _, _, _, test] = &row[..]
            && !test.is_empty()
        {
            assert!(sources.contains(&format!("fn {}()", test.trim_matches('`'))), "{test}");
            count += 1;
        }
    }
    assert!(count > 15, "{count}");
}

fn sources(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| match path.extension().and_then(|end| end.to_str()) {
        Some("rs") => vec![std::fs::read_to_string(path).unwrap()],
        None if path.is_dir() => sources(&path),
        _ => Vec::new(),
    };
    entries.flat_map(read).collect()
}

#[tokio::test]
async fn each_place_in_an_answer_is_as_the_table_says() {
    let (_issuer, upstream, sidecar) = raw().await;
    for row in table("In answers") {
        let theirs = example(&row[3]).replace(TENANT, &upstream.url());
        let (path, kind) = match row[2].as_str() {
            "header" => ("/data/x", String::new()),
            "JSON" => ("/data/x", "application/json".to_owned()),
            "XML" => ("/data/x", "application/xml".to_owned()),
            "JSON batch" => ("/data/$batch", "application/json".to_owned()),
            "application/http" => ("/data/x", "application/http".to_owned()),
            "multipart" => ("/data/$batch", "multipart/mixed; boundary=b".to_owned()),
            other => panic!("{other}"),
        };
        let in_a_part = |answer: &str| {
            format!("--b\r\nContent-Type: application/http\r\n\r\n{answer}\r\n--b--\r\n")
        };
        let is_header = row[2] == "header";
        let is_part = row[2] == "multipart";
        let sent = if is_part { in_a_part(&theirs) } else { theirs.clone() };
        let behaviour = if is_header {
            issuer::status("200 OK", &format!("{theirs}\r\n"), "")
        } else {
            issuer::status("200 OK", &format!("content-type: {kind}\r\n"), &sent)
        };
        upstream.script([behaviour]);
        let request = http().get(format!("{}{path}", sidecar.url));
        let answer = request.send().await.unwrap();
        let got = if is_header {
            let (name, _) = theirs.split_once(": ").unwrap();
            format!("{name}: {}", answer.headers()[name].to_str().unwrap())
        } else {
            answer.text().await.unwrap()
        };
        let wanted = if is_rewritten(&row[4]) {
            rewritten(&sent, &upstream.url(), &sidecar.url)
        } else {
            sent
        };
        assert_eq!(got, wanted, "{row:?}");
    }
}

#[tokio::test]
async fn each_place_in_a_request_is_as_the_table_says() {
    let issuer = issuer::steady().await;
    let upstream = Peer::start(Behaviour::ok("")).await;
    let config = issuer.config(&upstream.url(), "", "");
    let config = config.replace("/data, profile: odata", "/data, profile: cloud-transport");
    let sidecar = Sidecar::ready(&config).await;
    for row in table("In requests") {
        let ours = example(&row[3]).replace(SIDECAR, &sidecar.url);
        let request = http().post(format!("{}/data/x", sidecar.url));
        let request = match row[2].as_str() {
            "header" => {
                let (name, value) = ours.split_once(": ").unwrap();
                request.header(name, value)
            }
            "JSON" => request.header("content-type", "application/json").body(ours.clone()),
            "text" => request.header("content-type", "text/plain").body(ours.clone()),
            other => panic!("{other}"),
        };
        assert_eq!(request.send().await.unwrap().status(), 200, "{row:?}");
        let seen: Seen = upstream.seen().pop().unwrap();
        let got = match row[2].as_str() {
            "header" => {
                let (name, _) = ours.split_once(": ").unwrap();
                format!("{name}: {}", seen.header(name)[0])
            }
            _ => String::from_utf8(seen.payload()).unwrap(),
        };
        let theirs = rewritten(&ours, &sidecar.url, &upstream.url());
        assert_eq!(got, if is_rewritten(&row[4]) { theirs } else { ours }, "{row:?}");
    }
}
