//! The other way: what a caller writes into a body with the sidecar's URL reaches the tenant with the
//! tenant's.

use crate::support::caller::Caller;
use crate::support::issuer;
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer, Seen};
use crate::support::{eventually, http};
use serde_json::json;

const MULTIPART: &str = "multipart/mixed; boundary=b";

struct World {
    _issuer: Peer,
    upstream: Peer,
    sidecar: Sidecar,
}

impl World {
    async fn start() -> Self {
        Self::with(|config| config).await
    }

    /// Anything may be written below `/data`, and nobody speaks CSRF there.
    async fn writing() -> Self {
        Self::with(|config| {
            config.replace("/data, profile: odata", "/data, profile: cloud-transport")
        })
        .await
    }

    async fn with(change: impl FnOnce(String) -> String) -> Self {
        let issuer = issuer::steady().await;
        let upstream = Peer::start(Behaviour::ok("")).await;
        let config = change(issuer.config(&upstream.url(), "", ""));
        Self { _issuer: issuer, upstream, sidecar: Sidecar::ready(&config).await }
    }

    /// Sends a body with our URL in place of `<U>`, and tells what the upstream got, its own URL
    /// replaced likewise.
    async fn send(&self, path: &str, content_type: &str, body: &str) -> (Seen, String) {
        let body = body.replace("<U>", &self.sidecar.url);
        let request = http().post(format!("{}{path}", self.sidecar.url));
        let answer = request.header("content-type", content_type).body(body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        self.seen()
    }

    fn seen(&self) -> (Seen, String) {
        let seen = self.upstream.seen().pop().unwrap();
        let payload = String::from_utf8(seen.payload()).unwrap();
        (seen, payload.replace(&self.upstream.url(), "<U>"))
    }
}

fn multipart(filler: &str) -> String {
    let part = |request: &str| {
        format!(
            "--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n{request}\r\n"
        )
    };
    let reads = [
        part("GET <U>/data/Orders(1) HTTP/1.1\r\nAccept: application/json\r\n\r\n"),
        part(&format!(
            "PATCH <U>/data/Orders(2) HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{{\"Customer@odata.bind\":\"<U>/data/Customers(1)\",\"Note\":\"{filler}\"}}"
        )),
    ];
    format!("{}--b--\r\n", reads.concat())
}

#[tokio::test]
async fn a_batch_reaches_the_tenant_with_the_tenants_urls_and_a_length() {
    let world = World::start().await;
    let batch = multipart("short");
    let (seen, body) = world.send("/data/$batch", MULTIPART, &batch).await;
    assert_eq!(body, batch);
    assert_eq!(seen.header("content-length"), [seen.body.len().to_string()]);

    let requests = json!({"requests": [
        {"id": "1", "method": "GET", "url": "<U>/data/Orders(1)"},
        {"id": "2", "method": "POST", "url": "Orders", "body": {
            "Customer@odata.bind": "<U>/data/Customers(1)",
            "url": "kept",
        }},
    ]});
    let (seen, body) = world.send("/data/$batch", "application/json", &requests.to_string()).await;
    assert_eq!(body, requests.to_string());
    assert_eq!(seen.header("content-length"), [seen.body.len().to_string()]);
}

#[tokio::test]
async fn a_batch_too_large_to_be_held_is_rewritten_while_it_streams() {
    let world = World::start().await;
    let batch =
        format!("{}{}", multipart("x").replace("--b--\r\n", ""), multipart(&"y".repeat(200_000)));
    let (seen, body) = world.send("/data/$batch", MULTIPART, &batch).await;
    let of_the_large_part = "\"Customer@odata.bind\":\"<U>/data/Customers(1)\",\"Note\":\"yy";
    assert_eq!(seen.header("transfer-encoding"), ["chunked"]);
    let ours = body.replace(&world.sidecar.url, "<U>");
    assert!(ours == batch, "all is there");
    assert_eq!(body.matches("<U>").count(), batch.matches("<U>").count() - 1);
    assert!(!body.contains(of_the_large_part), "the body of a part that large passes");
}

#[tokio::test]
async fn a_write_has_the_tenants_urls_where_it_has_links_and_the_callers_data_elsewhere() {
    let world = World::start().await;
    let user = r#"{"meta":{"location":"<U>/users/Users/1"},"profileUrl":"OURS/users/Users/1"}"#;
    let user = user.replace("OURS", &world.sidecar.url);
    let (seen, body) = world.send("/users/Users", "application/scim+json", &user).await;
    assert_eq!(body, user.replace("<U>/users", "<U>"), "the route's prefix goes");
    assert_eq!(seen.header("content-length"), [seen.body.len().to_string()]);

    let other = user.replace("<U>", &world.sidecar.url);
    let (_, body) = world.send("/free/x", "application/json", &other).await;
    assert_eq!(body, other, "a route without links");
    let (_, body) = world.send("/users/Users", "text/plain", &other).await;
    assert_eq!(body, other, "another format");
}

/// A JSON body of this length at least, whose link stands behind so many bytes of data.
fn large(link: &str, before: usize, length: usize) -> String {
    let (before, after) = ("b".repeat(before), "a".repeat(length));
    format!(
        r#"{{"Before":"{before}","Note":"OURS/x","Customer@odata.bind":"{link}","After":"{after}"}}"#
    )
}

#[tokio::test]
async fn a_large_write_without_a_link_keeps_its_length_and_its_bytes() {
    let world = World::start().await;
    for length in [70_000, 200_000, 2_000_000] {
        let body = large("elsewhere", 10, length).replace("OURS", &world.sidecar.url);
        let (seen, got) = world.send("/users/Users", "application/json", &body).await;
        assert!(got == body, "every byte");
        assert_eq!(seen.header("content-length"), [body.len().to_string()], "nor is it chunked");
    }
}

#[tokio::test]
async fn a_large_write_with_a_link_is_rewritten_in_chunks() {
    let world = World::start().await;
    for (before, length) in [(10, 66_000), (40_000, 200_000), (10, 2_000_000)] {
        let body = large("<U>/users/Users/1", before, length).replace("OURS", &world.sidecar.url);
        let (seen, got) = world.send("/users/Users", "application/json", &body).await;
        assert!(got == body.replace("<U>/users", "<U>"), "{before} {length}: the link and no more");
        assert_eq!(seen.header("transfer-encoding"), ["chunked"]);
        assert!(seen.header("content-length").is_empty());
    }
}

#[tokio::test]
async fn a_large_write_whose_link_comes_too_late_is_refused_and_never_ends() {
    let world = World::start().await;
    let body = large("<U>/users/Users/1", 300_000, 300_000).replace("<U>", &world.sidecar.url);
    let request = http().post(format!("{}/users/Users", world.sidecar.url));
    let answer = request.header("content-type", "application/json").body(body).send().await;
    let answer = answer.unwrap();
    assert_eq!(answer.status(), 400);
    let text = answer.text().await.unwrap();
    assert!(text.contains("in chunks") && text.contains(r#""kind":"bad_request""#), "{text}");
    let writes = |seen: &Seen| seen.line().starts_with("POST /Users");
    assert_eq!(world.upstream.seen().iter().filter(|seen| writes(seen)).count(), 0, "all of it");
    let series = r#"bearerd_requests_rejected_total{kind="bad_request"}"#;
    eventually("counted", async || world.sidecar.metric(series).await == 1.0).await;
}

#[tokio::test]
async fn a_large_write_that_is_sent_again_is_whole_again() {
    let refused = || issuer::status("401 Unauthorized", "www-authenticate: Bearer\r\n", "");
    for link in ["elsewhere", "<U>/data/Users/1"] {
        let world = World::writing().await;
        let body = large(link, 10, 90_000).replace("OURS", "http://elsewhere.example");
        world.upstream.script([refused(), Behaviour::ok("")]);
        world.send("/data/Users", "application/json", &body).await;
        let seen = world.upstream.seen();
        assert_eq!(seen.len(), 2, "refused and sent again");
        for seen in seen {
            let got = String::from_utf8(seen.payload()).unwrap();
            assert!(got.replace(&world.upstream.url(), "<U>") == body, "{link}");
        }
    }
}

#[tokio::test]
async fn what_is_sent_again_is_rewritten_again() {
    let refused = || issuer::status("401 Unauthorized", "www-authenticate: Bearer\r\n", "");
    let small = multipart("short");
    let large = multipart("x").replace("--b--\r\n", &multipart(&"y".repeat(50_000)));
    for (batch, chunked) in [(&small, false), (&large, true)] {
        let world = World::start().await;
        world.upstream.script([refused(), Behaviour::ok("")]);
        let body = batch.replace("<U>", &world.sidecar.url);
        let request = http().post(format!("{}/data/$batch", world.sidecar.url));
        let request = request.header("content-type", MULTIPART);
        let request = if chunked {
            let pieces = body.as_bytes().chunks(999).map(|piece| Ok::<_, String>(piece.to_vec()));
            let pieces: Vec<_> = pieces.collect();
            request.body(reqwest::Body::wrap_stream(futures_util::stream::iter(pieces)))
        } else {
            request.body(body)
        };
        assert_eq!(request.send().await.unwrap().status(), 200);
        let seen = world.upstream.seen();
        assert_eq!(seen.len(), 2, "refused and sent again");
        for seen in seen {
            let payload = String::from_utf8(seen.payload()).unwrap();
            assert_eq!(payload.replace(&world.upstream.url(), "<U>"), *batch);
        }
    }
}

#[tokio::test]
async fn a_caller_that_waits_to_be_told_is_told_once() {
    let world = World::start().await;
    let body = multipart("short").replace("<U>", &world.sidecar.url);
    let head = format!(
        "POST /data/$batch HTTP/1.1\r\nhost: {}\r\ncontent-type: {MULTIPART}\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        world.sidecar.host(),
        body.len()
    );
    let mut caller = Caller::connect(world.sidecar.host()).await;
    caller.send(&head).await;
    assert!(caller.head().await.starts_with("HTTP/1.1 100 "));
    caller.send(&body).await;
    assert!(caller.head().await.starts_with("HTTP/1.1 200 "));
    let (seen, body) = world.seen();
    assert_eq!(body, multipart("short"));
    assert!(seen.header("expect").is_empty(), "the body follows at once");
}

#[tokio::test]
async fn a_caller_that_leaves_in_the_middle_leaves_no_half_request() {
    let world = World::start().await;
    let head = format!(
        "POST /data/$batch HTTP/1.1\r\nhost: {}\r\ncontent-type: {MULTIPART}\r\ncontent-length: 100\r\n\r\n--b\r\n",
        world.sidecar.host()
    );
    let mut caller = Caller::connect(world.sidecar.host()).await;
    caller.send(&head).await;
    drop(caller);
    let series = r#"bearerd_requests_total{code_class="none",method="POST",outcome="downstream_closed",route="/data"}"#;
    eventually("counted", async || world.sidecar.metric(series).await == 1.0).await;
    assert!(world.upstream.seen().is_empty());
}

#[tokio::test]
async fn a_caller_of_a_large_write_that_waits_to_be_told_is_told_once() {
    let world = World::start().await;
    let body = large("<U>/users/Users/1", 10, 100_000).replace("OURS", "http://elsewhere.example");
    let ours = body.replace("<U>", &world.sidecar.url);
    let head = format!(
        "POST /users/Users HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        world.sidecar.host(),
        ours.len()
    );
    let mut caller = Caller::connect(world.sidecar.host()).await;
    caller.send(&head).await;
    assert!(caller.head().await.starts_with("HTTP/1.1 100 "));
    caller.send(&ours).await;
    assert!(caller.head().await.starts_with("HTTP/1.1 200 "));
    let (seen, got) = world.seen();
    assert!(got == body.replace("<U>/users", "<U>"));
    assert!(seen.header("expect").is_empty(), "the body follows at once");
}
