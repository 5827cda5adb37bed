//! Batches: each of their requests must be one that could be sent alone.

use crate::support::raw_client::RawClient;
use crate::support::scene::{Scene, unchanged};
use crate::support::strict_upstream::StrictUpstream;
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{eventually, http};
use serde_json::json;

const MULTIPART: &str = "multipart/mixed; boundary=b";

/// A scene with more routes: narrow ones under a wide one, and one that does not check batches.
async fn strict() -> Scene {
    let upstream = Peer::start(Behaviour::ok("")).await;
    Scene::before(upstream, |config| {
        config
            .route("/free/narrow", "profile", "passthrough")
            .route("/free/a/narrow", "profile", "odata")
            .route("/free/Users", "profile", "scim")
            .route("/free/Users", "methods", "[GET, POST]")
            .route("/open", "profile", "odata")
            .route("/open", "unchecked_batches", "on")
    })
    .await
}

fn part(request: &str) -> String {
    format!("--b\r\nContent-Type: application/http\r\n\r\n{request}\r\n\r\n")
}

fn change_set(request: &str) -> String {
    format!(
        "--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\nContent-Type: application/http\r\n\r\n{request}\r\n\r\n--c--\r\n"
    )
}

/// Sends a batch. In it, `<S>` stands for the sidecar's URL and `<T>` for the tenant's.
async fn post(scene: &Scene, path: &str, content_type: &str, body: &str) -> (u16, String) {
    let body = body.replace("<S>", &scene.sidecar.url).replace("<T>", &scene.upstream.url());
    let request = http().post(format!("{}{path}", scene.sidecar.url));
    let response = request.header("content-type", content_type).body(body).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// The number of batches that the upstream received.
fn batches(scene: &Scene) -> usize {
    scene.upstream.seen().iter().filter(|seen| seen.line().starts_with("POST ")).count()
}

/// Sends each of these requests in a batch of each form, also in a change set, and checks the
/// status.
async fn each(scene: &Scene, path: &str, requests: &[(&str, &str, &str)], wanted: u16) {
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
        let read = part("GET Orders HTTP/1.1");
        for (kind, body) in [
            (MULTIPART, format!("{read}{}--b--\r\n", part(&request))),
            (MULTIPART, format!("{}{read}--b--\r\n", change_set(&request))),
            ("application/json", requests.to_string()),
        ] {
            let before = batches(scene);
            let (status, answer) = post(scene, &batch, kind, &body).await;
            assert_eq!(status, wanted, "{body}\n{answer}");
            assert_eq!(batches(scene) - before, passes, "{body}");
            if wanted == 403 {
                assert!(answer.contains(r#""kind":"batch_refused""#), "{answer}");
            }
        }
    }
}

#[tokio::test]
async fn a_request_that_could_not_be_sent_alone_is_in_no_batch() {
    let scene = strict().await;
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
        // A server that replaces `$1` by the URL of another part creates an entity here.
        ("POST", "$1/$query", ""),
        ("POST", "/data/$1/$query", ""),
        ("POST", "Orders/$1/$query", ""),
        ("POST", "Orders/%241/$query", ""),
        ("POST", "$query", ""),
        ("GET", "Bulk", "X-HTTP-Method: POST"),
    ];
    each(&scene, "/data", &of_reads, 403).await;
    let narrower = [
        ("GET", "/free/narrow/x", ""),
        ("GET", "narrow/x", ""),
        ("GET", "narrow;x/y", ""),
        ("GET", "n%61rrow/x", ""),
        ("GET", "<S>/free/narrow/x", ""),
        ("GET", "/data/x", ""),
        ("TRACE", "x", ""),
    ];
    each(&scene, "/free", &narrower, 403).await;
    // A server may strip its own path without looking for a slash.
    each(&scene, "/free/a", &[("DELETE", "/free/anarrow/x", "")], 403).await;
    each(&scene, "/free/a", &[("DELETE", "<S>/free/anarrow", "")], 403).await;
    each(&scene, "/free/a", &[("DELETE", "/free/another/x", "")], 200).await;
}

#[tokio::test]
async fn what_could_be_sent_alone_may_be_in_a_batch() {
    let scene = strict().await;
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
    each(&scene, "/data", &reads, 200).await;
    let writes =
        [("DELETE", "x", ""), ("PATCH", "/free/y", ""), ("POST", "z", "X-HTTP-Method: PUT")];
    each(&scene, "/free", &writes, 200).await;
    // The path that the route strips is optional.
    let cut = [("DELETE", "/users/Users/1", ""), ("DELETE", "/Users/1", ""), ("GET", "Users", "")];
    each(&scene, "/users", &cut, 200).await;
    each(&scene, "/open", &[("DELETE", "/data/x", "")], 200).await;
}

#[tokio::test]
async fn a_batch_that_can_not_be_read_is_refused_unless_its_route_says_otherwise() {
    let scene = strict().await;
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
            let (status, answer) = post(&scene, path, content_type, body).await;
            assert_eq!(status, 400, "{path} {answer}");
            assert!(answer.contains("unchecked_batches"), "{path} {answer}");
        }
        assert!(scene.upstream.seen().is_empty(), "{content_type}");
    }
    let request = http()
        .post(format!("{}/data/$batch", scene.sidecar.url))
        .header("content-encoding", "gzip");
    let answer =
        request.header("content-type", MULTIPART).body(sound.clone()).send().await.unwrap();
    assert_eq!(answer.status(), 400, "a compressed batch can't be checked");
    assert!(scene.upstream.seen().is_empty());
    assert_eq!(post(&scene, "/open/$batch", "text/plain", "anything").await.0, 200);
}

#[tokio::test]
async fn a_scim_batch_is_checked_by_its_paths() {
    let scene = strict().await;
    let bulk = |method: &str, path: &str| {
        json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"], "Operations": [
            {"method": "POST", "path": "/Users", "bulkId": "a", "data": {"userName": "x"}},
            {"method": method, "path": path, "data": {"path": "/x", "method": "DELETE"}},
        ]})
        .to_string()
    };
    let scim = "application/scim+json";
    assert_eq!(post(&scene, "/free/Users/Bulk", scim, &bulk("POST", "/Groups")).await.0, 200);
    for (method, path) in
        [("DELETE", "/Users/1"), ("POST", "/../x"), ("POST", "<S>/free/x"), ("POST", "/Bulk")]
    {
        assert_eq!(
            post(&scene, "/free/Users/Bulk", scim, &bulk(method, path)).await.0,
            403,
            "{method} {path}"
        );
        let odd = post(&scene, "/free/Users/bulk;x", scim, &bulk(method, path)).await;
        assert_eq!(odd.0, 400, "its base is not clear");
        let body = bulk(method, "/../../data/x");
        let odd = post(&scene, "/free/x/Bulk", "application/SCIM+json", &body).await;
        assert_eq!(odd.0, 403, "a type in other capitals");
    }
    assert_eq!(batches(&scene), 1);
    // Its type counts if the profile is not for SCIM. The method does not matter.
    assert_eq!(post(&scene, "/free/x/Bulk", scim, &bulk("DELETE", "/../../data/x")).await.0, 403);
    let request = http().get(format!("{}/free/Users/Bulk", scene.sidecar.url));
    let request = request.header("x-http-method", "POST").header("content-type", scim);
    let answer = request.body(bulk("DELETE", "/Users/1")).send().await.unwrap();
    assert_eq!(answer.status(), 403, "a batch in a GET");
}

#[tokio::test]
async fn a_scim_batch_is_checked_even_if_profile_and_type_do_not_say_that_it_is_one() {
    let scene = strict().await;
    let bulk = |method: &str, path: &str| {
        let operation =
            json!({"method": method, "path": path, "bulkId": "a", "data": {"userName": "x"}});
        let sound = json!({"method": "POST", "path": "/x", "bulkId": "b"});
        json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"], "Operations": [sound, operation]})
            .to_string()
    };
    let plain = "application/json";
    let sound = bulk("DELETE", "/x/1");
    assert_eq!(post(&scene, "/free/Bulk", plain, &sound).await.0, 200);
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
        let (status, answer) = post(&scene, path, content_type, &body).await;
        assert_eq!(status, wanted, "{path} {content_type} {answer}");
    }
    let request = http().post(format!("{}/free/Bulk", scene.sidecar.url));
    let request = request.header("content-encoding", "gzip").header("content-type", plain);
    assert_eq!(request.body(sound).send().await.unwrap().status(), 400, "it can't be checked");
    assert_eq!(batches(&scene), 1);
}

/// Other APIs have paths of this form, too.
#[tokio::test]
async fn what_is_sent_to_a_path_like_a_scim_batchs_and_is_none_passes_with_its_length() {
    let scene = strict().await;
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
            let (status, answer) = post(&scene, path, content_type, &body).await;
            assert_eq!(status, 200, "{content_type} {size} {answer}");
            let seen = scene.upstream.seen().pop().unwrap();
            assert!(seen.payload() == body.as_bytes(), "{content_type} {size}: every byte");
            assert_eq!(seen.header("content-length"), [body.len().to_string()]);
        }
    }
}

/// A refusal in the middle of a stream closes the connection to the upstream before the batch's
/// end.
#[tokio::test]
async fn a_batch_that_is_refused_while_it_streams_never_gets_its_end() {
    let scene = Scene::before(StrictUpstream::start().await, unchanged).await;
    let (sidecar, upstream) = (&scene.sidecar, &scene.upstream);
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
            let (before, cut) = (upstream.total(), upstream.cut_off());
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
            let sent = || upstream.bytes(&before).len();
            eventually("it streams", async || sent() > 100_000).await;
            caller.send(&framed(&rest)).await;
            if chunked {
                caller.send("0\r\n\r\n").await;
            }
            let answer = caller.head().await;
            let is_refusal =
                answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.1 403");
            assert!(is_refusal, "{answer}");
            eventually("cut", async || upstream.cut_off() > cut).await;
            let received = upstream.since(&before).unwrap();
            assert!(received.whole.is_empty(), "it was sent to its end");
            let bytes = upstream.bytes(&before);
            for never in [&b"DELETE"[..], b"/free/x", b"--b--", b"]}", b"0\r\n\r\n"] {
                assert!(memchr::memmem::find(&bytes, never).is_none(), "{}", never.escape_ascii());
            }
        }
    }
}
