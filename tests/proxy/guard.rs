//! The guard: requests of local tools pass, and requests of web pages and of strangers do not.

use crate::support::issuer;
use crate::support::process::Process;
use crate::support::raw_client::{RawClient, exchange};
use crate::support::scene::Scene;
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{Fixture, eventually, http};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The status and the error kind of a request with these header lines.
async fn answer(scene: &Scene, method: &str, headers: &str) -> (u16, String) {
    let request = format!("{method} /free HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
    let response = exchange(scene.sidecar.host(), &request).await;
    let status = response.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = response.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let problem: Option<Value> = serde_json::from_str(body).ok();
    let kind = problem.map(|problem| problem["kind"].as_str().unwrap().to_owned());
    (status, kind.unwrap_or_default())
}

fn refused(status: u16, kind: &str) -> (u16, String) {
    (status, kind.to_owned())
}

#[tokio::test]
async fn requests_that_web_pages_can_cause_never_reach_the_upstream() {
    let scene = Scene::start().await;
    let host = scene.sidecar.host();
    for (headers, wanted) in [
        ("Host: evil.example\r\n".to_owned(), refused(421, "host_not_allowed")),
        (format!("Host: {host}.evil.example\r\n"), refused(421, "host_not_allowed")),
        (format!("Host: {host}\r\nOrigin: http://evil.example\r\n"), refused(403, "cross_site")),
        (format!("Host: {host}\r\nOrigin: null\r\n"), refused(403, "cross_site")),
        (format!("Host: {host}\r\nSec-Fetch-Site: cross-site\r\n"), refused(403, "cross_site")),
        (format!("Host: {host}\r\nSec-Fetch-Site: same-site\r\n"), refused(403, "cross_site")),
        (format!("Host: {host}\r\nSec-Fetch-Site: none\r\n"), refused(403, "cross_site")),
    ] {
        for method in ["GET", "POST", "DELETE"] {
            let headers = format!("{headers}Content-Length: 0\r\n");
            assert_eq!(answer(&scene, method, &headers).await, wanted, "{method} {headers}");
        }
    }
    let preflight = format!(
        "Host: {host}\r\nOrigin: http://evil.example\r\nAccess-Control-Request-Method: PUT\r\n"
    );
    assert_eq!(answer(&scene, "OPTIONS", &preflight).await, refused(403, "cross_site"));
    let own = format!("Host: {host}\r\n");
    assert_eq!(answer(&scene, "OPTIONS", &own).await, refused(405, "method_not_allowed"));
    assert!(scene.upstream.seen().is_empty(), "{:?}", scene.upstream.seen());
    let url = &scene.sidecar.url;
    let same = format!("Host: {host}\r\nOrigin: {url}\r\nSec-Fetch-Site: same-origin\r\n");
    assert_eq!(answer(&scene, "GET", &same).await.0, 200);
    let rejected = r#"bearerd_requests_rejected_total{kind="cross_site"}"#;
    assert_eq!(scene.sidecar.metric(rejected).await, 16.0);
}

#[tokio::test]
async fn no_answer_has_cors_headers() {
    let scene = Scene::start().await;
    let invitation = "access-control-allow-origin: *\r\naccess-control-allow-credentials: true\r\nkeep-alive: timeout=5\r\n";
    scene.upstream.script([issuer::status("200 OK", invitation, "")]);
    let answer = scene.sidecar.get("/free").await;
    assert_eq!(answer.status(), 200);
    let invites = |name: &str| name.starts_with("access-control") || name == "keep-alive";
    assert!(!answer.headers().keys().any(|name| invites(name.as_str())), "{:?}", answer.headers());
}

#[tokio::test]
async fn a_token_that_the_upstream_sends_back_is_removed() {
    const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJhIjoxfQ.c2lnbmF0dXJl";
    let issuer = Peer::start(issuer::token(TOKEN, 3600)).await;
    let upstream = Peer::start(Behaviour::ok("")).await;
    let sidecar = Sidecar::ready(&issuer.configuration(&upstream.url())).await;
    let echo = |kind: &str| {
        let headers = format!("content-type: {kind}\r\nx-debug: Bearer {TOKEN}\r\n");
        issuer::status("500 Oops", &headers, &format!("you sent {TOKEN}, sorry"))
    };
    for (path, kind) in [("/free", "text/plain"), ("/data/x", "application/json")] {
        upstream.script([echo(kind)]);
        let answer = sidecar.get(path).await;
        assert_eq!(answer.headers()["x-debug"], "Bearer [token removed]");
        let text = answer.text().await.unwrap();
        assert!(text.starts_with("you sent [token removed]*"), "{text}");
        assert!(text.ends_with(", sorry") && !text.contains(TOKEN), "{text}");
        let series = format!(r#"bearerd_token_echoes_total{{route="/{}"}}"#, &path[1..5]);
        assert_eq!(sidecar.metric(&series).await, 2.0);
    }
    let early = format!("HTTP/1.1 103 Early Hints\r\nlink: <{TOKEN}>\r\n\r\n");
    let late = format!("HTTP/1.1 200 {TOKEN}\r\ncontent-length: 0\r\n\r\n");
    upstream.script([Behaviour::Answer(early + &late)]);
    let host = sidecar.host();
    let request = format!("GET /free HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let answer = exchange(host, &request).await;
    assert!(answer.starts_with("HTTP/1.1 103") && answer.contains("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("[token removed]") && !answer.contains(TOKEN), "{answer}");
}

#[tokio::test]
async fn a_local_credential_is_required_and_not_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let (password, key) = (folder.path().join("password"), folder.path().join("key"));
    std::fs::write(&password, "open:sesame\n").unwrap();
    std::fs::write(&key, "key-1\n").unwrap();
    let access = format!(
        "{{ basic: {{ username: tool, password_file: {} }}, api_key_file: {} }}",
        password.display(),
        key.display()
    );
    let scene = Scene::with(|config| config.key("access", access)).await;
    let get = || http().get(format!("{}/free", scene.sidecar.url));
    let bare = get().send().await.unwrap();
    assert_eq!(bare.status(), 401);
    assert_eq!(bare.headers()["www-authenticate"], r#"Basic realm="bearerd", charset="UTF-8""#);
    let wrong = get().basic_auth("tool", Some("open:sesam")).send().await.unwrap();
    assert_eq!(wrong.status(), 401);
    assert!(scene.upstream.seen().is_empty());
    for request in [
        get().basic_auth("tool", Some("open:sesame")),
        get().header("x-api-key", "key-1"),
        get().header("x-api-key", "key-1").basic_auth("tool", Some("wrong")),
    ] {
        assert_eq!(request.send().await.unwrap().status(), 200);
        let seen = scene.upstream.seen().pop().unwrap();
        assert_eq!(seen.header("authorization"), ["Bearer steady-token"]);
        assert!(seen.header("x-api-key").is_empty(), "{}", seen.head);
    }
}

#[tokio::test]
async fn an_api_key_that_is_not_for_the_sidecar_passes() {
    let scene = Scene::start().await;
    let request =
        http().get(format!("{}/free", scene.sidecar.url)).header("x-api-key", "upstreams");
    assert_eq!(request.send().await.unwrap().status(), 200);
    assert_eq!(scene.upstream.seen()[0].header("x-api-key"), ["upstreams"]);
}

#[tokio::test]
async fn a_unix_socket_serves_its_users_whatever_host_they_name() {
    let fixture = Fixture::start().await;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("b.sock");
    let call = async || {
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        let request = "GET /none HTTP/1.1\r\nHost: datasphere\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    for (access, mode) in [("{}", 0o600), ("{ uids: [4294967294] }", 0o666)] {
        let listen = format!("[127.0.0.1:0, 'unix:{}']", socket.display());
        let config = fixture.configuration().key("listen", listen).key("access", access);
        let mut process = Process::start(folder.path(), &config).await;
        assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, mode);
        let answer = call().await;
        assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("no_route"), "{answer}");
        process.signal("TERM").await;
        assert_eq!(process.exit_code().await, Some(0));
    }
}

#[tokio::test]
async fn the_admin_listener_accepts_only_addresses_and_its_names() {
    let scene = Scene::with(|config| config.key("access", "{ hosts: [sidecar.example] }")).await;
    let admin = scene.sidecar.admin.strip_prefix("http://").unwrap().to_owned();
    let status = async |host: &str| {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        exchange(&admin, &request).await.split(' ').nth(1).unwrap().to_owned()
    };
    for known in ["127.0.0.1:9", "10.1.2.3", "[::1]:8081", "sidecar.example"] {
        assert_eq!(status(known).await, "200", "{known}");
    }
    for other in [
        "evil.example",
        "localhost",
        "sidecar.example.evil.example",
        "/@1.2.3.4",
        "evil@1.2.3.4",
        "evil\u{e9}.example",
        "127.0.0.1\r\nHost: evil.example",
    ] {
        assert_eq!(status(other).await, "421", "{other}");
    }
}

#[tokio::test]
async fn beyond_the_limit_of_a_listener_requests_are_answered_503_with_retry_after() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("b.sock");
    let listen = format!("[127.0.0.1:0, 'unix:{}']", socket.display());
    let scene =
        Scene::with(|config| config.key("listen", listen).key("limits", "{ requests: 2 }")).await;
    scene.upstream.script([Behaviour::Hang, Behaviour::Hang]);
    let host = scene.sidecar.host();
    let request = format!("GET /free HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let mut callers = Vec::new();
    for waiting in 1..=2 {
        let mut caller = RawClient::connect(host).await;
        caller.send(&request).await;
        eventually("in flight", async || scene.upstream.seen().len() == waiting).await;
        callers.push(caller);
    }
    let answer = scene.sidecar.get("/free").await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert!(answer.text().await.unwrap().contains(r#""kind":"overloaded""#));
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    stream.write_all(b"GET /free HTTP/1.0\r\n\r\n").await.unwrap();
    let mut other = String::new();
    stream.read_to_string(&mut other).await.unwrap();
    assert!(other.starts_with("HTTP/1.1 200"), "the other listener has room: {other}");
    drop(callers);
    eventually("room again", async || scene.sidecar.get("/free").await.status() == 200).await;
}

#[tokio::test]
async fn a_header_that_is_too_large_is_refused() {
    let scene = Scene::start().await;
    let host = scene.sidecar.host();
    let long = format!("Host: {host}\r\nX-Long: {}\r\n", "x".repeat(70_000));
    assert_eq!(answer(&scene, "GET", &long).await, refused(431, "header_too_large"));
    let many = format!("Host: {host}\r\n{}", "X-Many: 1\r\n".repeat(200));
    assert_eq!(answer(&scene, "GET", &many).await, refused(431, "header_too_large"));
    assert!(scene.upstream.seen().is_empty());
}
