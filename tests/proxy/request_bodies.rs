//! Request bodies: URLs of the sidecar become URLs of the tenant.

use crate::support::issuer;
use crate::support::raw_client::RawClient;
use crate::support::scene::Scene;
use crate::support::upstream::{Behaviour, Peer, Seen};
use crate::support::{eventually, http};
use serde_json::json;

const MULTIPART: &str = "multipart/mixed; boundary=b";

/// A scene with a route of a profile with links and all methods.
async fn start() -> Scene {
    let upstream = Peer::start(Behaviour::ok("")).await;
    Scene::before(upstream, |config| config.route("/write", "profile", "cloud-transport")).await
}

/// A scene in which `/data` takes writes and has no managed CSRF.
async fn writing() -> Scene {
    let upstream = Peer::start(Behaviour::ok("")).await;
    Scene::before(upstream, |config| config.route("/data", "profile", "cloud-transport")).await
}

/// Sends a body in which `<U>` stands for the sidecar's URL. Returns the request that the upstream
/// received, and its body with `<U>` for the upstream's URL.
async fn send(scene: &Scene, path: &str, content_type: &str, body: &str) -> (Seen, String) {
    let body = body.replace("<U>", &scene.sidecar.url);
    let request = http().post(format!("{}{path}", scene.sidecar.url));
    let response = request.header("content-type", content_type).body(body).send().await.unwrap();
    let status = response.status();
    assert_eq!(status, 200, "{}", response.text().await.unwrap());
    received(scene)
}

fn received(scene: &Scene) -> (Seen, String) {
    let seen = scene.upstream.seen().pop().unwrap();
    let payload = String::from_utf8(seen.payload()).unwrap();
    (seen, payload.replace(&scene.upstream.url(), "<U>"))
}

fn multipart(filler: &str) -> String {
    let part = |request: &str| {
        format!(
            "--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n{request}\r\n"
        )
    };
    let reads = [
        part("GET <U>/write/Orders(1) HTTP/1.1\r\nAccept: application/json\r\n\r\n"),
        part(&format!(
            "PATCH <U>/write/Orders(2) HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{{\"Customer@odata.bind\":\"<U>/write/Customers(1)\",\"Note\":\"{filler}\"}}"
        )),
    ];
    format!("{}--b--\r\n", reads.concat())
}

#[tokio::test]
async fn a_batch_reaches_the_tenant_with_the_tenants_urls_and_a_length() {
    let scene = start().await;
    let batch = multipart("short");
    let (seen, body) = send(&scene, "/write/$batch", MULTIPART, &batch).await;
    assert_eq!(body, batch);
    assert_eq!(seen.header("content-length"), [seen.body.len().to_string()]);

    let requests = json!({"requests": [
        {"id": "1", "method": "GET", "url": "<U>/write/Orders(1)"},
        {"id": "2", "method": "POST", "url": "Orders", "body": {
            "Customer@odata.bind": "<U>/write/Customers(1)",
            "url": "kept",
        }},
    ]});
    let (seen, body) =
        send(&scene, "/write/$batch", "application/json", &requests.to_string()).await;
    assert_eq!(body, requests.to_string());
    assert_eq!(seen.header("content-length"), [seen.body.len().to_string()]);
}

#[tokio::test]
async fn a_batch_too_large_to_be_held_is_rewritten_while_it_streams() {
    let scene = start().await;
    let batch =
        format!("{}{}", multipart("x").replace("--b--\r\n", ""), multipart(&"y".repeat(200_000)));
    let (seen, body) = send(&scene, "/write/$batch", MULTIPART, &batch).await;
    assert_eq!(seen.header("transfer-encoding"), ["chunked"]);
    assert!(body == batch, "the large part is complete");
    // The length of a part would be wrong, and is removed.
    let plain = multipart(&"y".repeat(200_000));
    let sent = plain.replace("<U>", &scene.sidecar.url);
    let (_, json) = sent.rsplit_once("json\r\n\r\n").unwrap();
    let length = json.find("\r\n").unwrap();
    let length = format!("HTTP/1.1\r\nContent-Length: {length}\r\nContent-Type");
    let with_length = plain.replace("HTTP/1.1\r\nContent-Type", &length);
    assert_ne!(with_length, plain);
    let (_, body) = send(&scene, "/write/$batch", MULTIPART, &with_length).await;
    assert!(body == plain);
}

#[tokio::test]
async fn a_write_has_the_tenants_urls_where_it_has_links_and_the_callers_data_elsewhere() {
    let scene = start().await;
    let user = r#"{"meta":{"location":"<U>/users/Users/1"},"profileUrl":"OTHER/users/Users/1"}"#;
    let user = user.replace("OTHER", &scene.sidecar.url);
    let (seen, body) = send(&scene, "/users/Users", "application/scim+json", &user).await;
    assert_eq!(body, user.replace("<U>/users", "<U>"), "the route's prefix goes");
    assert_eq!(seen.header("content-length"), [seen.body.len().to_string()]);

    let other = user.replace("<U>", &scene.sidecar.url);
    let (_, body) = send(&scene, "/free/x", "application/json", &other).await;
    assert_eq!(body, other, "a route without links");
    let (_, body) = send(&scene, "/users/Users", "text/plain", &other).await;
    assert_eq!(body, other, "another format");
}

/// A JSON body of at least this length, with a link behind `before` bytes of data.
fn large(link: &str, before: usize, length: usize) -> String {
    let (before, after) = ("b".repeat(before), "a".repeat(length));
    format!(
        r#"{{"Before":"{before}","Note":"OTHER/x","Customer@odata.bind":"{link}","After":"{after}"}}"#
    )
}

#[tokio::test]
async fn a_large_write_without_a_link_keeps_its_length_and_its_bytes() {
    let scene = start().await;
    for length in [70_000, 200_000, 2_000_000] {
        let body = large("elsewhere", 10, length).replace("OTHER", &scene.sidecar.url);
        let (seen, got) = send(&scene, "/users/Users", "application/json", &body).await;
        assert!(got == body, "every byte");
        assert_eq!(seen.header("content-length"), [body.len().to_string()], "not chunked");
    }
}

#[tokio::test]
async fn a_large_write_with_a_link_is_rewritten_in_chunks() {
    let scene = start().await;
    for (before, length) in [(10, 66_000), (40_000, 200_000), (10, 2_000_000)] {
        let body = large("<U>/users/Users/1", before, length).replace("OTHER", &scene.sidecar.url);
        let (seen, got) = send(&scene, "/users/Users", "application/json", &body).await;
        assert!(got == body.replace("<U>/users", "<U>"), "{before} {length}: the link and no more");
        assert_eq!(seen.header("transfer-encoding"), ["chunked"]);
        assert!(seen.header("content-length").is_empty());
    }
}

#[tokio::test]
async fn a_large_write_whose_link_comes_too_late_is_refused_and_never_ends() {
    let scene = start().await;
    let body = large("<U>/users/Users/1", 300_000, 300_000).replace("<U>", &scene.sidecar.url);
    let request = http().post(format!("{}/users/Users", scene.sidecar.url));
    let answer = request.header("content-type", "application/json").body(body).send().await;
    let answer = answer.unwrap();
    assert_eq!(answer.status(), 400);
    let text = answer.text().await.unwrap();
    assert!(text.contains("in chunks") && text.contains(r#""kind":"bad_request""#), "{text}");
    let writes = |seen: &Seen| seen.line().starts_with("POST /Users");
    assert_eq!(scene.upstream.seen().iter().filter(|seen| writes(seen)).count(), 0, "all of it");
    let series = r#"bearerd_requests_rejected_total{kind="bad_request"}"#;
    eventually("counted", async || scene.sidecar.metric(series).await == 1.0).await;
}

#[tokio::test]
async fn a_large_write_that_is_sent_again_is_whole_again() {
    let refused = || issuer::status("401 Unauthorized", "www-authenticate: Bearer\r\n", "");
    for link in ["elsewhere", "<U>/data/Users/1"] {
        let scene = writing().await;
        let body = large(link, 10, 90_000).replace("OTHER", "http://elsewhere.example");
        scene.upstream.script([refused(), Behaviour::ok("")]);
        send(&scene, "/data/Users", "application/json", &body).await;
        let seen = scene.upstream.seen();
        assert_eq!(seen.len(), 2, "refused and sent again");
        for seen in seen {
            let got = String::from_utf8(seen.payload()).unwrap();
            assert!(got.replace(&scene.upstream.url(), "<U>") == body, "{link}");
        }
    }
}

#[tokio::test]
async fn what_is_sent_again_is_rewritten_again() {
    let refused = || issuer::status("401 Unauthorized", "www-authenticate: Bearer\r\n", "");
    let small = multipart("short");
    let large = multipart("x").replace("--b--\r\n", &multipart(&"y".repeat(50_000)));
    for (batch, chunked) in [(&small, false), (&large, true)] {
        let scene = start().await;
        scene.upstream.script([refused(), Behaviour::ok("")]);
        let body = batch.replace("<U>", &scene.sidecar.url);
        let request = http().post(format!("{}/write/$batch", scene.sidecar.url));
        let request = request.header("content-type", MULTIPART);
        let request = if chunked {
            let pieces = body.as_bytes().chunks(999).map(|piece| Ok::<_, String>(piece.to_vec()));
            let pieces: Vec<_> = pieces.collect();
            request.body(reqwest::Body::wrap_stream(futures_util::stream::iter(pieces)))
        } else {
            request.body(body)
        };
        assert_eq!(request.send().await.unwrap().status(), 200);
        let seen = scene.upstream.seen();
        assert_eq!(seen.len(), 2, "refused and sent again");
        for seen in seen {
            let payload = String::from_utf8(seen.payload()).unwrap();
            assert_eq!(payload.replace(&scene.upstream.url(), "<U>"), *batch);
        }
    }
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it_once() {
    let scene = start().await;
    let body = multipart("short").replace("<U>", &scene.sidecar.url);
    let head = format!(
        "POST /write/$batch HTTP/1.1\r\nhost: {}\r\ncontent-type: {MULTIPART}\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        scene.sidecar.host(),
        body.len()
    );
    let mut caller = RawClient::connect(scene.sidecar.host()).await;
    caller.send(&head).await;
    assert!(caller.head().await.starts_with("HTTP/1.1 100 "));
    caller.send(&body).await;
    assert!(caller.head().await.starts_with("HTTP/1.1 200 "));
    let (seen, body) = received(&scene);
    assert_eq!(body, multipart("short"));
    assert!(seen.header("expect").is_empty(), "the body follows at once");
}

#[tokio::test]
async fn a_caller_that_leaves_in_the_middle_leaves_no_half_request() {
    let scene = start().await;
    let head = format!(
        "POST /write/$batch HTTP/1.1\r\nhost: {}\r\ncontent-type: {MULTIPART}\r\ncontent-length: 100\r\n\r\n--b\r\n",
        scene.sidecar.host()
    );
    let mut caller = RawClient::connect(scene.sidecar.host()).await;
    caller.send(&head).await;
    drop(caller);
    let series = r#"bearerd_requests_total{code_class="none",method="POST",outcome="downstream_closed",route="/write"}"#;
    eventually("counted", async || scene.sidecar.metric(series).await == 1.0).await;
    assert!(scene.upstream.seen().is_empty());
}

#[tokio::test]
async fn a_client_of_a_large_write_that_waits_for_100_continue_gets_it_once() {
    let scene = start().await;
    let body = large("<U>/users/Users/1", 10, 100_000).replace("OTHER", "http://elsewhere.example");
    let sent = body.replace("<U>", &scene.sidecar.url);
    let head = format!(
        "POST /users/Users HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        scene.sidecar.host(),
        sent.len()
    );
    let mut caller = RawClient::connect(scene.sidecar.host()).await;
    caller.send(&head).await;
    assert!(caller.head().await.starts_with("HTTP/1.1 100 "));
    caller.send(&sent).await;
    assert!(caller.head().await.starts_with("HTTP/1.1 200 "));
    let (seen, got) = received(&scene);
    assert!(got == body.replace("<U>/users", "<U>"));
    assert!(seen.header("expect").is_empty(), "the body follows at once");
}
