//! Forwarding: which parts of requests and responses pass unchanged, and which the sidecar sets.

use crate::support::issuer;
use crate::support::process::Process;
use crate::support::raw_client::{RawClient, exchange};
use crate::support::scene::Scene;
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer, Seen, read_request};
use crate::support::{DEADLINE, Fixture, accepting, eventually, http};
use bearerd::demo::{CatalogBase, DemoFaults};
use futures_util::future::join_all;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// The request that the upstream received for one with these header lines.
async fn upstream_saw(head: &str, headers: &str) -> Seen {
    let Scene { sidecar, upstream, .. } = &Scene::start().await;
    let host = sidecar.host();
    let request = format!("{head}\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n");
    let answer = exchange(host, &request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    upstream.seen().remove(0)
}

#[tokio::test]
async fn the_callers_authorization_is_replaced_in_every_spelling_and_number() {
    for headers in [
        "Authorization: Basic b3duOnB3\r\n",
        "authorization: Bearer own\r\n",
        "AUTHORIZATION: Bearer own\r\nauthorization: Bearer own2\r\n",
        "AuThOrIzAtIoN:Bearer own\r\n",
        "Proxy-Authorization: Basic b3duOnB3\r\n",
        "X-Approuter-Authorization: Bearer own\r\n",
        "",
    ] {
        let seen = upstream_saw("GET /free/x HTTP/1.1", headers).await;
        assert_eq!(seen.header("authorization"), ["Bearer steady-token"], "{headers}");
        assert!(!seen.head.contains("own") && !seen.head.contains("b3du"), "{}", seen.head);
    }
}

#[tokio::test]
async fn a_stripped_authorization_is_counted() {
    let Scene { sidecar, .. } = &Scene::start().await;
    let send = async |name: &str| {
        let request = http().get(format!("{}/free", sidecar.url)).header(name, "x");
        request.send().await.unwrap();
    };
    send("authorization").await;
    send("x-other").await;
    let series = r#"bearerd_authorization_stripped_total{route="/free"}"#;
    assert_eq!(sidecar.metric(series).await, 1.0);
}

#[tokio::test]
async fn headers_that_would_steer_the_tenant_or_the_connection_are_stripped() {
    let seen = upstream_saw(
        "GET /free/x HTTP/1.1",
        "Forwarded: host=evil\r\nX-Forwarded-Host: evil\r\nX-Forwarded-For: 1.2.3.4\r\n\
         X-Forwarded-Proto: http\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\n\
         Upgrade: h2c\r\nAccept: text/x-odd\r\nX-Custom: stays\r\n",
    )
    .await;
    for gone in ["forwarded", "x-forwarded-host", "x-forwarded-for", "x-forwarded-proto"] {
        assert!(seen.header(gone).is_empty(), "{gone}: {}", seen.head);
    }
    for gone in ["keep-alive", "te", "upgrade", "connection"] {
        assert!(seen.header(gone).is_empty(), "{gone}: {}", seen.head);
    }
    assert_eq!(seen.header("accept"), ["text/x-odd"]);
    assert_eq!(seen.header("x-custom"), ["stays"]);
}

#[tokio::test]
async fn a_connection_header_cannot_remove_the_token() {
    let Scene { sidecar, upstream, .. } = &Scene::start().await;
    let host = sidecar.host();
    let nominated = "Connection: close, authorization, x-secret\r\nX-Secret: 1\r\n";
    exchange(host, &format!("GET /free HTTP/1.1\r\nHost: {host}\r\n{nominated}\r\n")).await;
    let seen = upstream.seen().remove(0);
    assert_eq!(seen.header("authorization"), ["Bearer steady-token"]);
    assert!(seen.header("x-secret").is_empty());
    assert!(seen.header("connection").iter().all(|value| !value.contains("authorization")));
}

#[tokio::test]
async fn the_upstream_gets_its_own_host_and_the_profile_its_header() {
    let Scene { sidecar, upstream, .. } = &Scene::start().await;
    sidecar.get("/data/x").await;
    sidecar.get("/users/Users/1?a=b").await;
    let seen = upstream.seen();
    for seen in &seen {
        assert_eq!(seen.header("host"), [upstream.address.to_string()]);
    }
    assert!(seen[0].header("x-sap-sac-custom-auth").is_empty());
    assert_eq!(seen[1].header("x-sap-sac-custom-auth"), ["true"]);
    assert_eq!(seen[1].header("x-team"), ["reporting"]);
    assert_eq!(seen[1].line(), "GET /Users/1?a=b HTTP/1.1", "strip_path cuts the route's path");
}

#[tokio::test]
async fn path_and_query_arrive_byte_for_byte() {
    for target in [
        "/free/Spaces('A B')".replace(' ', "%20").as_str(),
        "/free/x?$filter=Name%20eq%20'O''Neil'&$select=a,b&$top=2",
        "/free/a%2Fb/%7e~/(x)!*;p=1?q=/../%zz+|{}",
        "/free/%C3%A4?",
        "/free?",
        "/free/",
    ] {
        let seen = upstream_saw(&format!("GET {target} HTTP/1.1"), "").await;
        assert_eq!(seen.line(), format!("GET {target} HTTP/1.1"));
    }
}

#[tokio::test]
async fn bodies_pass_in_both_framings() {
    let Scene { sidecar, upstream, .. } = &Scene::start().await;
    let host = sidecar.host();
    let head = format!("POST /free HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    exchange(host, &format!("{head}Content-Length: 5\r\n\r\nhello")).await;
    exchange(
        host,
        &format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"),
    )
    .await;
    let seen = upstream.seen();
    assert_eq!(seen[0].body, b"hello");
    assert_eq!(seen[0].header("content-length"), ["5"]);
    let chunked = String::from_utf8_lossy(&seen[1].body).into_owned();
    assert!(chunked.contains("hel") && chunked.ends_with("0\r\n\r\n"), "{chunked:?}");
}

#[tokio::test]
async fn an_answer_passes_as_it_came() {
    let Scene { sidecar, upstream, .. } = &Scene::start().await;
    upstream.script([Behaviour::Answer(
        "HTTP/1.1 404 Who Are You\r\nWWW-Authenticate: Bearer\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
         X-Odd_Name: ü\r\nepm-page-count: 3\r\nContent-Length: 2\r\n\r\nno"
            .into(),
    )]);
    let host = sidecar.host();
    let answer =
        exchange(host, &format!("GET /free HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
            .await;
    for line in
        ["WWW-Authenticate: Bearer", "Set-Cookie: a=1", "Set-Cookie: b=2", "epm-page-count: 3"]
    {
        assert!(answer.contains(line), "{line}: {answer}");
    }
    assert!(answer.starts_with("HTTP/1.1 404") && answer.ends_with("\r\n\r\nno"), "{answer}");
    assert!(!answer.to_lowercase().contains("proxy-status"), "an upstream's own answer has none");
}

#[tokio::test]
async fn connections_to_the_upstream_are_kept_and_counted_requests_add_up() {
    let Scene { sidecar, upstream, .. } = &Scene::start().await;
    for _ in 0..20 {
        assert_eq!(sidecar.get("/free").await.status(), 200);
    }
    assert_eq!(upstream.seen().len(), 20);
    let series = r#"bearerd_requests_total{code_class="2xx",method="GET",outcome="forwarded",route="/free"}"#;
    eventually("20 counted", async || sidecar.metric(series).await == 20.0).await;
    eventually("none in flight", async || {
        sidecar.metric("bearerd_requests_in_flight").await == 0.0
    })
    .await;
    let duration = r#"bearerd_request_duration_seconds_count{route="/free"}"#;
    assert_eq!(sidecar.metric(duration).await, 20.0);
}

#[tokio::test]
async fn a_closed_pooled_connection_costs_an_idempotent_request_nothing() {
    let Scene { sidecar, upstream, .. } = &Scene::start().await;
    let closing =
        Behaviour::AnswerAndClose("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".into());
    upstream.script(std::iter::repeat_n(closing, 5));
    for _ in 0..10 {
        assert_eq!(sidecar.get("/free").await.status(), 200);
    }
}

#[tokio::test]
async fn a_caller_of_http_1_0_gets_a_body_that_ends_with_the_connection() {
    let Scene { sidecar, upstream, .. } = &Scene::start().await;
    upstream.script([Behaviour::Answer(
        "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n\
         HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            .into(),
    )]);
    let answer = exchange(sidecar.host(), "GET /free HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.0 200"), "{answer}");
    assert!(!answer.to_lowercase().contains("transfer-encoding"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
}

#[tokio::test]
async fn a_method_in_a_header_is_judged_like_any_other() {
    let Scene { sidecar, upstream, .. } = &Scene::start().await;
    let post = async |path: &str, tunnelled: &str| {
        let request = http().post(format!("{}{path}", sidecar.url));
        request.header("X-HTTP-Method", tunnelled).send().await.unwrap().status()
    };
    assert_eq!(post("/data/$batch", "DELETE").await, 405);
    assert_eq!(post("/free", "BREW").await, 405);
    let read = http().get(format!("{}/data/x", sidecar.url)).header("X-HTTP-Method", "POST");
    assert_eq!(read.send().await.unwrap().status(), 405, "no way around POST's own rule");
    assert!(upstream.seen().is_empty());
    assert_eq!(post("/free", "MERGE").await, 200, "what OData V2 calls PATCH");
    assert_eq!(post("/free", "DELETE").await, 200);
}

/// The read-only example is the configuration for this tool.
#[tokio::test]
async fn a_catalog_that_leads_to_the_other_base_is_read_by_a_read_only_tool() {
    let fixture = Fixture::start().await;
    let catalog_base = CatalogBase::DwaasCore;
    fixture.tenant.set_faults(DemoFaults { catalog_base, ..DemoFaults::default() });
    let example = include_str!("../../config/odata-read-only.yaml");
    let (_, routes) = example.split_once("\nroutes:\n").unwrap();
    for routes in [format!("routes:\n{routes}"), String::new()] {
        let config = format!("{}{routes}", fixture.configuration());
        let sidecar = Sidecar::ready(&config).await;
        let assets = "/api/v1/datasphere/consumption/catalog/assets";
        let catalog: Value = sidecar.get(assets).await.json().await.unwrap();
        let asset = catalog["value"][0].clone();
        for (key, media) in
            [("assetRelationalDataUrl", "json"), ("assetRelationalMetadataUrl", "xml")]
        {
            let url = asset[key].as_str().unwrap();
            let base = format!("{}/dwaas-core/odata/v4/consumption/", sidecar.url);
            assert!(url.starts_with(&base), "{url}");
            let answer = http().get(url).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{url}");
            let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
            assert!(kind.contains(media), "{kind}");
        }
        let newer = sidecar.get("/dwaas-core/odata/v4/catalog/spaces").await;
        assert_eq!(newer.status(), 200);
        let seen = sidecar.get("/dwaas-core/api/v1/discovery").await;
        assert_eq!(
            seen.status(),
            if routes.is_empty() { 200 } else { 404 },
            "the example allows no more"
        );
    }
}

#[tokio::test]
async fn a_post_that_only_reads_by_its_specification_is_a_read() {
    let issuer = issuer::steady().await;
    let upstream = Peer::start(Behaviour::ok("")).await;
    let config = issuer
        .configuration(&upstream.url())
        .route("/reads", "profile", "odata")
        .route("/reads", "methods", "[GET]")
        .route("/people", "profile", "scim")
        .route("/people", "methods", "[GET]");
    let sidecar = Sidecar::ready(&config).await;
    let post = async |path: &str| {
        let request = http().post(format!("{}{path}", sidecar.url)).body("$top=1");
        request.send().await.unwrap().status()
    };
    assert_eq!(post("/reads/Orders/$query?a").await, 200, "where GET is allowed");
    assert_eq!(post("/people/Users/.search").await, 200);
    let tokens: Vec<_> = upstream
        .seen()
        .iter()
        .flat_map(|seen| seen.header("x-csrf-token").len().checked_sub(1))
        .collect();
    assert!(tokens.is_empty(), "no CSRF token is sent or fetched");
    assert_eq!(upstream.seen().len(), 2);
    for path in [
        "/reads/Orders",
        "/reads/Orders/.search",
        "/reads/Orders/$query/x",
        "/people/Users",
        "/people/.search/x",
    ] {
        assert_eq!(post(path).await, 405, "{path}");
    }
    // A connection that breaks before the answer: a read is sent again.
    upstream.script([Behaviour::AnswerAndClose(String::new())]);
    assert_eq!(post("/people/.search").await, 200);
    upstream.script([Behaviour::AnswerAndClose(String::new())]);
    assert_eq!(post("/free/.search").await, 502, "no read on this route");
}

#[tokio::test]
async fn an_answer_with_a_header_that_is_not_utf_8_passes_at_every_log_level() {
    let issuer = issuer::steady().await;
    let upstream = Peer::start(Behaviour::ok("fine")).await;
    upstream.script([Behaviour::Bytes(
        b"HTTP/1.1 200 OK\r\ncontent-disposition: attachment; filename=M\xe4rz.csv\r\ncontent-length: 2\r\n\r\nok"
            .to_vec(),
    )]);
    let config = issuer.configuration(&upstream.url()).key("log", "{ level: trace }");
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &config).await;
    let answer = http().get(format!("{}/free", process.url)).send().await.unwrap();
    let name = answer.headers()["content-disposition"].as_bytes();
    assert_eq!(name, b"attachment; filename=M\xe4rz.csv");
    assert_eq!(answer.text().await.unwrap(), "ok");
}

#[tokio::test]
async fn a_write_that_may_have_been_executed_is_not_sent_again() {
    for method in ["PUT", "DELETE", "POST", "PATCH"] {
        let Scene { sidecar, upstream, .. } = &Scene::start().await;
        let http = http();
        // The first answer leaves a kept connection; the second request is read, and not answered.
        assert_eq!(sidecar.get("/free").await.status(), 200);
        upstream.script([Behaviour::AnswerAndClose(String::new())]);
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let answer = http.request(method.clone(), format!("{}/free", sidecar.url)).send().await;
        assert_eq!(answer.unwrap().status(), 502, "{method}");
        assert_eq!(upstream.seen().len(), 2, "{method}");
    }
}

#[tokio::test]
async fn a_write_with_the_method_of_a_read_is_not_sent_again() {
    let Scene { sidecar, upstream, .. } = &Scene::start().await;
    let html = "content-type: text/html\r\n";
    for (answer, status) in [
        (issuer::status("200 OK", html, "<html>done</html>"), 200),
        (Behaviour::AnswerAndClose(String::new()), 502),
    ] {
        // This leaves a kept connection.
        assert_eq!(sidecar.get("/free").await.status(), 200);
        let before = upstream.seen().len();
        upstream.script([answer]);
        let request = http().get(format!("{}/free", sidecar.url));
        let answer = request.header("X-HTTP-Method", "DELETE").send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(upstream.seen().len() - before, 1, "{status}");
    }
}

#[tokio::test]
async fn of_many_kept_connections_that_are_dead_a_read_tries_one() {
    const KEPT: usize = 40;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (begun, dead) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let counted = dead.clone();
    let _serving = accepting(listener, move |mut stream| {
        let (begun, dead) = (begun.clone(), counted.clone());
        async move {
            read_request(&mut stream).await?;
            begun.fetch_add(1, Ordering::SeqCst);
            // The first requests wait for each other, so that each needs a connection of its own.
            while begun.load(Ordering::SeqCst) < KEPT {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.ok()?;
            // A second request gets no response.
            read_request(&mut stream).await?;
            dead.fetch_add(1, Ordering::SeqCst);
            Some(())
        }
    });
    let issuer = issuer::steady().await;
    let config = issuer.configuration(&url).upstream("timeouts", "{ read: 20s }");
    let sidecar = Sidecar::ready(&config).await;
    let all = join_all((0..KEPT).map(|_| sidecar.get("/free"))).await;
    assert!(all.iter().all(|answer| answer.status() == 200));
    assert_eq!(sidecar.get("/free").await.status(), 200);
    assert_eq!(dead.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_caller_of_http_1_0_notices_that_its_body_was_cut() {
    let Scene { sidecar, upstream, .. } = &Scene::start().await;
    upstream.script([Behaviour::AnswerAndClose(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n".into(),
    )]);
    let mut stream = TcpStream::connect(sidecar.host()).await.unwrap();
    stream.write_all(b"GET /free HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("an end in time");
    let error = read.expect_err("a plain end would look like the body's");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_caller_of_http_1_0_is_promised_a_kept_connection_only_where_the_answer_has_an_end() {
    let bodied = "content-length: 5\r\n\r\nhello";
    let chunked = "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for (method, path, answer, is_kept) in [
        ("GET", "/free", format!("HTTP/1.1 200 OK\r\n{bodied}"), true),
        ("GET", "/free", "HTTP/1.1 204 No Content\r\n\r\n".to_owned(), true),
        ("GET", "/free", "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(), true),
        ("HEAD", "/free", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(), true),
        ("GET", "/free", format!("HTTP/1.1 200 OK\r\n{chunked}"), false),
        ("GET", "/free", "HTTP/1.1 200 OK\r\n\r\nhello".to_owned(), false),
        (
            "GET",
            "/free",
            "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\nhello".to_owned(),
            false,
        ),
        // A local answer.
        ("GET", "/nowhere", String::new(), true),
    ] {
        let Scene { sidecar, upstream, .. } = &Scene::start().await;
        upstream.script([Behaviour::AnswerAndClose(answer.clone())]);
        let mut caller = RawClient::connect(sidecar.host()).await;
        let line = format!("{method} {path} HTTP/1.0");
        caller.send(&format!("{line}\r\nConnection: keep-alive\r\n\r\n")).await;
        let head = caller.head().await.to_lowercase();
        let promise =
            if is_kept { "\r\nconnection: keep-alive\r\n" } else { "\r\nconnection: close\r\n" };
        assert!(head.contains(promise), "{line}: {answer}: {head}");
        if !is_kept {
            caller.rest().await;
        }
    }
}

#[tokio::test]
async fn a_response_has_a_length_exactly_if_its_connection_is_kept() {
    let Scene { sidecar, upstream, .. } = &Scene::start().await;
    let body = r#"{"@odata.nextLink":"https://other.example/x"}"#;
    upstream.script([issuer::json(body)]);
    let mut caller = RawClient::connect(sidecar.host()).await;
    caller.send("GET /data HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    let head = caller.head().await.to_lowercase();
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    let is_kept = head.contains("\r\nconnection: keep-alive\r\n");
    assert_eq!(is_kept, head.contains("\r\ncontent-length: "), "{head}");
}
