//! The other way: what a caller writes into a body with the sidecar's URL reaches the tenant with the
//! tenant's.

use crate::support::issuer;
use crate::support::raw_client::RawClient;
use crate::support::sidecar::Sidecar;
use crate::support::strict_upstream::StrictUpstream;
use crate::support::upstream::{Behaviour, Peer, Seen};
use crate::support::{eventually, http};
use serde_json::json;

const MULTIPART: &str = "multipart/mixed; boundary=b";
/// A route of a profile with links and all methods.
const WRITE: &str = "  - { path: /write, profile: cloud-transport }";

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
        let config = change(issuer.config(&upstream.url(), "", WRITE));
        Self { _issuer: issuer, upstream, sidecar: Sidecar::ready(&config).await }
    }

    /// Sends a body with our URL in place of `<U>`, and tells what the upstream got, its own URL
    /// replaced likewise.
    async fn send(&self, path: &str, content_type: &str, body: &str) -> (Seen, String) {
        let body = body.replace("<U>", &self.sidecar.url);
        let request = http().post(format!("{}{path}", self.sidecar.url));
        let answer = request.header("content-type", content_type).body(body).send().await.unwrap();
        let status = answer.status();
        assert_eq!(status, 200, "{}", answer.text().await.unwrap());
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
        part("GET <U>/write/Orders(1) HTTP/1.1\r\nAccept: application/json\r\n\r\n"),
        part(&format!(
            "PATCH <U>/write/Orders(2) HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{{\"Customer@odata.bind\":\"<U>/write/Customers(1)\",\"Note\":\"{filler}\"}}"
        )),
    ];
    format!("{}--b--\r\n", reads.concat())
}

#[tokio::test]
async fn a_batch_reaches_the_tenant_with_the_tenants_urls_and_a_length() {
    let world = World::start().await;
    let batch = multipart("short");
    let (seen, body) = world.send("/write/$batch", MULTIPART, &batch).await;
    assert_eq!(body, batch);
    assert_eq!(seen.header("content-length"), [seen.body.len().to_string()]);

    let requests = json!({"requests": [
        {"id": "1", "method": "GET", "url": "<U>/write/Orders(1)"},
        {"id": "2", "method": "POST", "url": "Orders", "body": {
            "Customer@odata.bind": "<U>/write/Customers(1)",
            "url": "kept",
        }},
    ]});
    let (seen, body) = world.send("/write/$batch", "application/json", &requests.to_string()).await;
    assert_eq!(body, requests.to_string());
    assert_eq!(seen.header("content-length"), [seen.body.len().to_string()]);
}

#[tokio::test]
async fn a_batch_too_large_to_be_held_is_rewritten_while_it_streams() {
    let world = World::start().await;
    let batch =
        format!("{}{}", multipart("x").replace("--b--\r\n", ""), multipart(&"y".repeat(200_000)));
    let (seen, body) = world.send("/write/$batch", MULTIPART, &batch).await;
    assert_eq!(seen.header("transfer-encoding"), ["chunked"]);
    assert!(body == batch, "all is there, of the large part, too");
    // Its length, which would not be true, goes.
    let plain = multipart(&"y".repeat(200_000));
    let sent = plain.replace("<U>", &world.sidecar.url);
    let (_, json) = sent.rsplit_once("json\r\n\r\n").unwrap();
    let length = json.find("\r\n").unwrap();
    let length = format!("HTTP/1.1\r\nContent-Length: {length}\r\nContent-Type");
    let with_length = plain.replace("HTTP/1.1\r\nContent-Type", &length);
    assert_ne!(with_length, plain);
    let (_, body) = world.send("/write/$batch", MULTIPART, &with_length).await;
    assert!(body == plain);
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
        let request = http().post(format!("{}/write/$batch", world.sidecar.url));
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
        "POST /write/$batch HTTP/1.1\r\nhost: {}\r\ncontent-type: {MULTIPART}\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        world.sidecar.host(),
        body.len()
    );
    let mut caller = RawClient::connect(world.sidecar.host()).await;
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
        "POST /write/$batch HTTP/1.1\r\nhost: {}\r\ncontent-type: {MULTIPART}\r\ncontent-length: 100\r\n\r\n--b\r\n",
        world.sidecar.host()
    );
    let mut caller = RawClient::connect(world.sidecar.host()).await;
    caller.send(&head).await;
    drop(caller);
    let series = r#"bearerd_requests_total{code_class="none",method="POST",outcome="downstream_closed",route="/write"}"#;
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
    let mut caller = RawClient::connect(world.sidecar.host()).await;
    caller.send(&head).await;
    assert!(caller.head().await.starts_with("HTTP/1.1 100 "));
    caller.send(&ours).await;
    assert!(caller.head().await.starts_with("HTTP/1.1 200 "));
    let (seen, got) = world.seen();
    assert!(got == body.replace("<U>/users", "<U>"));
    assert!(seen.header("expect").is_empty(), "the body follows at once");
}

/// The routes of the harness, with a narrow one under a wide one, and one that lets batches through.
async fn strict() -> World {
    let issuer = issuer::steady().await;
    let upstream = Peer::start(Behaviour::ok("")).await;
    let routes = "  - { path: /free/narrow, profile: passthrough }
  - { path: /free/a/narrow, profile: odata }
  - { path: /free/Users, profile: scim, methods: [GET, POST] }
  - { path: /open, profile: odata, unchecked_batches: on }";
    let sidecar = Sidecar::ready(&issuer.config(&upstream.url(), "", routes)).await;
    World { _issuer: issuer, upstream, sidecar }
}

fn part(request: &str) -> String {
    format!("--b\r\nContent-Type: application/http\r\n\r\n{request}\r\n\r\n")
}

fn change_set(request: &str) -> String {
    format!(
        "--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\nContent-Type: application/http\r\n\r\n{request}\r\n\r\n--c--\r\n"
    )
}

impl World {
    /// Sends a batch; `<S>` is our URL, `<T>` the tenant's.
    async fn post(&self, path: &str, content_type: &str, body: &str) -> (u16, String) {
        let body = body.replace("<S>", &self.sidecar.url).replace("<T>", &self.upstream.url());
        let request = http().post(format!("{}{path}", self.sidecar.url));
        let answer = request.header("content-type", content_type).body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// How many batches the upstream has got.
    fn batches(&self) -> usize {
        self.upstream.seen().iter().filter(|seen| seen.line().starts_with("POST ")).count()
    }

    /// Sends these requests to a route in both forms, in change sets too, and says which statuses came.
    async fn each(&self, path: &str, requests: &[(&str, &str, &str)], wanted: u16) {
        let passes = usize::from(wanted == 200);
        let batch = format!("{path}/$batch");
        for (method, target, headers) in requests {
            let lines: String = headers
                .split(',')
                .filter(|header| !header.is_empty())
                .map(|header| format!("\r\n{header}"))
                .collect();
            let request = format!("{method} {target} HTTP/1.1{lines}");
            let pairs = headers.split(',').filter_map(|header| header.split_once(": "));
            let pairs: serde_json::Map<_, _> =
                pairs.map(|(name, value)| (name.to_owned(), json!(value))).collect();
            let requests = json!({"requests": [
                {"id": "1", "method": "GET", "url": "Orders"},
                {"id": "2", "method": method, "url": target, "headers": pairs},
            ]});
            for (kind, body) in [
                (MULTIPART, format!("{}{}--b--\r\n", part("GET Orders HTTP/1.1"), part(&request))),
                (
                    MULTIPART,
                    format!("{}{}--b--\r\n", change_set(&request), part("GET Orders HTTP/1.1")),
                ),
                ("application/json", requests.to_string()),
            ] {
                let before = self.batches();
                let (status, answer) = self.post(&batch, kind, &body).await;
                assert_eq!(status, wanted, "{body}\n{answer}");
                assert_eq!(self.batches() - before, passes, "{body}");
                if wanted == 403 {
                    assert!(answer.contains(r#""kind":"batch_refused""#), "{answer}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_request_that_could_not_be_sent_alone_is_in_no_batch() {
    let world = strict().await;
    let of_reads = [
        ("POST", "Orders", ""),
        ("PATCH", "Orders(1)", ""),
        ("PUT", "Orders(1)", ""),
        ("DELETE", "Orders(1)", ""),
        ("MERGE", "Orders(1)", ""),
        ("GET", "Orders(1)", "X-HTTP-Method: DELETE"),
        ("GET", "Orders(1)", "X-HTTP-Method: POST"),
        ("GET", "Orders(1)", "x-method-override: PATCH"),
        ("POST", "Orders(1)/$query", "X-HTTP-Method-Override: PUT"),
        ("GET", "/api/v1/scim2/Users", ""),
        ("GET", "/free/x", ""),
        ("GET", "/users/Users", ""),
        ("GET", "../free/x", ""),
        ("GET", "..%2ffree/x", ""),
        ("GET", "%2e%2e/free/x", ""),
        ("GET", "/data/../free/x", ""),
        ("GET", "/database", ""),
        ("GET", "<S>/free/x", ""),
        ("GET", "<S>/users/Users", ""),
        ("GET", "<S>", ""),
        ("GET", "<T>/free/x", ""),
        ("GET", "//evil.example/data/x", ""),
        ("GET", "https://evil.example/data/x", ""),
        ("GET", "ftp://evil.example/data/x", ""),
        ("GET", "http://localhost:1/data/x", ""),
        ("GET", "Orders", "Host: evil.example"),
        ("POST", "$batch", ""),
        ("POST", "/data/$batch", ""),
        ("GET", "$BATCH/", ""),
        // Where another part's URL takes the place of what stands before it, this creates.
        ("POST", "$1/$query", ""),
        ("POST", "/data/$1/$query", ""),
        ("POST", "Orders/$1/$query", ""),
        ("POST", "Orders/%241/$query", ""),
        ("POST", "$query", ""),
        ("GET", "Bulk", "X-HTTP-Method: POST"),
    ];
    world.each("/data", &of_reads, 403).await;
    let narrower = [
        ("GET", "/free/narrow/x", ""),
        ("GET", "narrow/x", ""),
        ("GET", "narrow;x/y", ""),
        ("GET", "n%61rrow/x", ""),
        ("GET", "<S>/free/narrow/x", ""),
        ("GET", "/data/x", ""),
        ("TRACE", "x", ""),
    ];
    world.each("/free", &narrower, 403).await;
    // A server that cuts its own path off and looks for no slash.
    world.each("/free/a", &[("DELETE", "/free/anarrow/x", "")], 403).await;
    world.each("/free/a", &[("DELETE", "<S>/free/anarrow", "")], 403).await;
    world.each("/free/a", &[("DELETE", "/free/another/x", "")], 200).await;
}

#[tokio::test]
async fn what_could_be_sent_alone_may_be_in_a_batch() {
    let world = strict().await;
    let reads = [
        ("GET", "Orders?$filter=a%20eq%20'b'", "Accept: application/json"),
        ("GET", "/data/Orders('a%2Fb')", ""),
        ("GET", "<S>/data/Orders(1)", ""),
        ("GET", "<T>/data/Orders(1)", ""),
        ("POST", "Orders/$query", ""),
        ("POST", "Orders('a%20b')/Items/$query", ""),
        ("GET", "$1/Items", ""),
        ("GET", "Übersicht", ""),
        ("GET", "Bulk?$top=1", ""),
        ("GET", "Kinds(1)/Bulk", ""),
    ];
    world.each("/data", &reads, 200).await;
    let writes =
        [("DELETE", "x", ""), ("PATCH", "/free/y", ""), ("POST", "z", "X-HTTP-Method: PUT")];
    world.each("/free", &writes, 200).await;
    // What the profile's own route cuts may be there or not.
    let cut = [("DELETE", "/users/Users/1", ""), ("DELETE", "/Users/1", ""), ("GET", "Users", "")];
    world.each("/users", &cut, 200).await;
    world.each("/open", &[("DELETE", "/data/x", "")], 200).await;
}

#[tokio::test]
async fn a_batch_that_can_not_be_read_is_refused_unless_its_route_says_otherwise() {
    let world = strict().await;
    let sound = format!("{}--b--\r\n", part("GET Orders HTTP/1.1"));
    for (content_type, body) in [
        ("text/plain", sound.as_str()),
        ("multipart/mixed", &sound),
        ("multipart/mixed; boundary=b; boundary=c", &sound),
        ("application/json; charset=utf-16", "{}"),
        ("application/json", r#"{"requests":[{"method":"GET","url":"a","url":"b"}]}"#),
        (MULTIPART, &sound.replace("--b--", "")),
    ] {
        for path in [
            "/data/$batch",
            "/free/x/$batch",
            "/free/$BATCH",
            "/free/%2524batch",
            "/free/$batch/",
            "/free/x%2f$batch",
        ] {
            let (status, answer) = world.post(path, content_type, body).await;
            assert_eq!(status, 400, "{path} {answer}");
            assert!(answer.contains("unchecked_batches"), "{path} {answer}");
        }
        assert!(world.upstream.seen().is_empty(), "{content_type}");
    }
    let request = http()
        .post(format!("{}/data/$batch", world.sidecar.url))
        .header("content-encoding", "gzip");
    let answer =
        request.header("content-type", MULTIPART).body(sound.clone()).send().await.unwrap();
    assert_eq!(answer.status(), 400, "what is compressed can't be read");
    assert!(world.upstream.seen().is_empty());
    assert_eq!(world.post("/open/$batch", "text/plain", "anything").await.0, 200);
}

#[tokio::test]
async fn a_scim_batch_is_judged_by_its_paths() {
    let world = strict().await;
    let bulk = |method: &str, path: &str| {
        json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"], "Operations": [
            {"method": "POST", "path": "/Users", "bulkId": "a", "data": {"userName": "x"}},
            {"method": method, "path": path, "data": {"path": "/x", "method": "DELETE"}},
        ]})
        .to_string()
    };
    let scim = "application/scim+json";
    assert_eq!(world.post("/free/Users/Bulk", scim, &bulk("POST", "/Groups")).await.0, 200);
    for (method, path) in
        [("DELETE", "/Users/1"), ("POST", "/../x"), ("POST", "<S>/free/x"), ("POST", "/Bulk")]
    {
        assert_eq!(
            world.post("/free/Users/Bulk", scim, &bulk(method, path)).await.0,
            403,
            "{method} {path}"
        );
        let odd = world.post("/free/Users/bulk;x", scim, &bulk(method, path)).await;
        assert_eq!(odd.0, 400, "its base is not clear");
        let body = bulk(method, "/../../data/x");
        let odd = world.post("/free/x/Bulk", "application/SCIM+json", &body).await;
        assert_eq!(odd.0, 403, "a type in other capitals");
    }
    assert_eq!(world.batches(), 1);
    // By its type where the profile knows nothing of SCIM, and by no method of its own.
    assert_eq!(world.post("/free/x/Bulk", scim, &bulk("DELETE", "/../../data/x")).await.0, 403);
    let request = http().get(format!("{}/free/Users/Bulk", world.sidecar.url));
    let request = request.header("x-http-method", "POST").header("content-type", scim);
    let answer = request.body(bulk("DELETE", "/Users/1")).send().await.unwrap();
    assert_eq!(answer.status(), 403, "a batch in a GET");
}

#[tokio::test]
async fn a_scim_batch_is_judged_where_neither_profile_nor_type_say_that_it_is_one() {
    let world = strict().await;
    let bulk = |method: &str, path: &str| {
        let operation =
            json!({"method": method, "path": path, "bulkId": "a", "data": {"userName": "x"}});
        let sound = json!({"method": "POST", "path": "/x", "bulkId": "b"});
        json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"], "Operations": [sound, operation]})
            .to_string()
    };
    let plain = "application/json";
    let sound = bulk("DELETE", "/x/1");
    assert_eq!(world.post("/free/Bulk", plain, &sound).await.0, 200);
    let padded = |size: usize| {
        bulk("POST", "/Users")
            .replace("{\"Operations", &format!("{{\"x\":\"{}\",\"Operations", "x".repeat(size)))
    };
    let large = bulk("POST", "/narrow/x")
        .replace("\"userName\":\"x\"", &format!("\"x\":\"{}\"", "x".repeat(100_000)));
    for (path, content_type, body, wanted) in [
        ("/free/Bulk", plain, bulk("POST", "/narrow/x"), 403),
        ("/free/Bulk", plain, bulk("DELETE", "/Users/1"), 403),
        ("/free/Bulk", plain, bulk("GET", "../data/x"), 403),
        ("/free/Bulk", "application/json;charset=utf-8", bulk("POST", "/narrow/x"), 403),
        ("/free/Bulk", plain, large, 403),
        (
            "/free/Bulk",
            plain,
            bulk("POST", "/narrow/x").replace("Operations", "\\u004fperations"),
            403,
        ),
        ("/free/bulk", plain, sound.clone(), 400),
        ("/free/Bulk%20", plain, sound.clone(), 400),
        ("/free/Bulk%3f/x", plain, sound.clone(), 400),
        ("/free/Bulk", "text/plain", sound.clone(), 400),
        ("/free/Bulk", plain, sound.replace("Operations", "operations"), 400),
        ("/free/Bulk", plain, sound.replace("method", "Method"), 400),
        ("/free/Bulk", plain, format!("\u{feff}{sound}"), 400),
        ("/free/Bulk", plain, padded(1000), 403),
        ("/free/Bulk", plain, padded(300_000), 400),
    ] {
        let (status, answer) = world.post(path, content_type, &body).await;
        assert_eq!(status, wanted, "{path} {content_type} {answer}");
    }
    let request = http().post(format!("{}/free/Bulk", world.sidecar.url));
    let request = request.header("content-encoding", "gzip").header("content-type", plain);
    assert_eq!(request.body(sound).send().await.unwrap().status(), 400, "it can't be read");
    assert_eq!(world.batches(), 1);
}

/// Other APIs have paths like that, too.
#[tokio::test]
async fn what_is_sent_to_a_path_like_a_scim_batchs_and_is_none_passes_with_its_length() {
    let world = strict().await;
    let rows = json!({"rows": [{"method": "DELETE", "path": "/narrow/x"}], "operations": ["method"], "x": null});
    for size in [10, 70_000, 600_000] {
        let filler = "x".repeat(size);
        for (path, content_type, body) in [
            (
                "/free/Bulk",
                "application/json",
                rows.to_string().replace("null", &format!("\"{filler}\"")),
            ),
            ("/free/jobs/bulk", "application/json", format!("[{rows}, \"{filler}\"]")),
            (
                "/free/Bulk",
                "application/x-ndjson",
                format!("{rows}\n{rows}\n{{\"a\":\"{filler}\"}}\n"),
            ),
            ("/free/Bulk", "text/csv", format!("Operations,method\n{filler}")),
            ("/free/Bulk", "application/octet-stream", format!("PK\u{3}\u{4}{filler}")),
        ] {
            let (status, answer) = world.post(path, content_type, &body).await;
            assert_eq!(status, 200, "{content_type} {size} {answer}");
            let seen = world.upstream.seen().pop().unwrap();
            assert!(seen.payload() == body.as_bytes(), "{content_type} {size}: every byte");
            assert_eq!(seen.header("content-length"), [body.len().to_string()]);
        }
    }
}

/// A refusal in the middle of a stream: the upstream's connection is closed before the batch's end.
#[tokio::test]
async fn a_batch_that_is_refused_while_it_streams_never_gets_its_end() {
    let issuer = issuer::steady().await;
    let wire = StrictUpstream::start().await;
    let sidecar = Sidecar::ready(&issuer.config(&wire.url(), "", "")).await;
    let long = format!("Orders?{}", "x".repeat(50_000));
    let parts = part(&format!("GET {long} HTTP/1.1")).repeat(3);
    let requests =
        format!(r#"{{"requests":[{}"#, format!(r#"{{"method":"GET","url":"{long}"}},"#).repeat(3));
    for (content_type, first, rest) in [
        (MULTIPART, &parts, format!("{}--b--\r\n", change_set("DELETE Orders(1) HTTP/1.1"))),
        (MULTIPART, &parts, format!("{}--b--\r\n", part("GET /free/x HTTP/1.1"))),
        (MULTIPART, &parts, "--b\r\n".to_owned()),
        ("application/json", &requests, r#"{"method":"DELETE","url":"Orders(1)"}]}"#.to_owned()),
        ("application/json", &requests, "{}]}".to_owned()),
    ] {
        for chunked in [false, true] {
            let (before, cut) = (wire.total(), wire.cut_off());
            let framing = match chunked {
                true => "transfer-encoding: chunked".to_owned(),
                false => format!("content-length: {}", first.len() + rest.len()),
            };
            let framed = |text: &str| match chunked {
                true => format!("{:x}\r\n{text}\r\n", text.len()),
                false => text.to_owned(),
            };
            let mut caller = RawClient::connect(sidecar.host()).await;
            let host = sidecar.host();
            let head = format!(
                "POST /data/$batch HTTP/1.1\r\nhost: {host}\r\ncontent-type: {content_type}\r\n{framing}\r\n\r\n"
            );
            caller.send(&head).await;
            caller.send(&framed(first)).await;
            let sent = || wire.bytes(&before).len();
            eventually("it streams", async || sent() > 100_000).await;
            caller.send(&framed(&rest)).await;
            if chunked {
                caller.send("0\r\n\r\n").await;
            }
            let answer = caller.head().await;
            let is_refusal =
                answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.1 403");
            assert!(is_refusal, "{answer}");
            eventually("cut", async || wire.cut_off() > cut).await;
            let received = wire.since(&before).unwrap();
            assert!(received.whole.is_empty(), "it was sent to its end");
            let bytes = wire.bytes(&before);
            for never in [&b"DELETE"[..], b"/free/x", b"--b--", b"]}", b"0\r\n\r\n"] {
                assert!(memchr::memmem::find(&bytes, never).is_none(), "{}", never.escape_ascii());
            }
        }
    }
}
