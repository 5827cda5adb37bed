//! The audit log: who did what, written before it is done.

use crate::support::issuer;
use crate::support::process::{Process, bearerd_after};
use crate::support::raw_client::{RawClient, exchange};
use crate::support::scene::Scene;
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{eventually, http};
use futures_util::future::join_all;
use reqwest::{Client, Method};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The lines of all files of a folder. The end of a file that is no whole line is left out: the
/// process was ended there.
fn lines_of(folder: &Path) -> Vec<Value> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut lines = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        lines.extend(whole.lines().map(|line| -> Value {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        }));
    }
    lines
}

/// The lines of each request, by its id.
fn by_id(lines: Vec<Value>) -> BTreeMap<String, Vec<Value>> {
    let mut requests: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in lines {
        let id = line["id"].as_str().unwrap_or_default().to_owned();
        requests.entry(id).or_default().push(line);
    }
    requests
}

/// A sidecar with a caller `etl` and an audit log with more settings.
async fn start(more: &str) -> (Scene<Peer, Process>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "a-key-of-a-caller-with-32-characters").unwrap();
    let audited = folder.path().join("audit");
    std::fs::create_dir(&audited).unwrap();
    let callers =
        format!("{{ etl: {{ api_key_file: {}, routes: [/free, /data, /users] }} }}", key.display());
    let audit = format!("{{ folder: {}{more} }}", audited.display());
    let scene = Scene::process(|config| {
        config.key("callers", callers).key("audit", audit).route("/other", "profile", "rest")
    })
    .await;
    (scene, folder)
}

/// Sends a request of the caller, and returns the status.
async fn send(client: &Client, method: Method, url: String, kind: &str, body: String) -> u16 {
    let request = client.request(method, url).header("content-type", kind).body(body);
    let request = request.header("x-api-key", "a-key-of-a-caller-with-32-characters");
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn writes_and_refused_requests_have_two_lines_and_reads_have_none() {
    let (scene, folder) = start("").await;
    let audited = folder.path().join("audit");
    let url = |path: &str| format!("{}{path}", scene.sidecar.url);
    let correlated = "x-correlationid: 0815-abc\r\n";
    scene.upstream.always("/free/sheet", issuer::status("201 Created", correlated, "made"));
    let client = http();
    let put = url("/free/sheet?$secret=s3cret");
    assert_eq!(send(&client, Method::PUT, put, "text/plain", "a body".into()).await, 201);
    assert_eq!(
        send(&client, Method::GET, url("/free/read"), "text/plain", String::new()).await,
        200
    );
    assert_eq!(
        send(&client, Method::DELETE, url("/other/x"), "text/plain", String::new()).await,
        403
    );
    let unknown = client.get(url("/free/x")).send().await.unwrap();
    assert_eq!(unknown.status(), 403);
    let bulk = r#"{"Operations":[{"method":"GET","path":"/Users/1"},{"method":"DELETE","path":"/Users/2?hard=1"}]}"#;
    let scim = "application/scim+json";
    assert_eq!(send(&client, Method::POST, url("/users/Bulk"), scim, bulk.into()).await, 200);

    eventually("all lines", async || lines_of(&audited).len() == 8).await;
    let requests = by_id(lines_of(&audited));
    assert_eq!(requests.len(), 4);
    let of = |path: &str| {
        let mut all = requests.values();
        let found = all.find(|lines| lines[0]["path"] == path && lines[0]["audit"] == "begin");
        found.unwrap_or_else(|| panic!("{path}: {requests:?}")).clone()
    };
    let [begin, end] = &of("/free/sheet")[..] else { panic!("two lines") };
    assert_eq!((&begin["caller"], &begin["method"]), (&"etl".into(), &"PUT".into()));
    assert_eq!((&begin["route"], &begin["client"]), (&"/free".into(), &"c".into()));
    assert!(begin["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{begin}");
    assert_eq!((&end["audit"], &end["status"]), (&"end".into(), &201.into()));
    assert_eq!(
        (&end["outcome"], &end["correlation_id"]),
        (&"forwarded".into(), &"0815-abc".into())
    );
    assert_eq!((&end["request_bytes"], &end["response_bytes"]), (&6.into(), &4.into()));
    assert!(begin["time"].as_str() <= end["time"].as_str());

    let refused = of("/other/x");
    assert_eq!(refused[1]["outcome"], "caller_not_allowed");
    let unknown = of("/free/x");
    assert_eq!(
        (&unknown[0]["caller"], &unknown[1]["outcome"]),
        (&Value::Null, &"access_denied".into())
    );
    let parts = &of("/users/Bulk")[0]["parts"];
    assert_eq!(*parts, serde_json::json!([{ "method": "DELETE", "target": "/Users/2" }]));
    let text = lines_of(&audited).iter().map(ToString::to_string).collect::<String>();
    for secret in ["s3cret", "a body", "steady-token", "a-key-of-", "hard="] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    // SIGHUP begins another file.
    scene.sidecar.signal("HUP").await;
    eventually("another file", async || {
        send(&client, Method::PUT, url("/free/y"), "text/plain", String::new()).await;
        std::fs::read_dir(&audited).unwrap().count() == 2
    })
    .await;
}

/// An upstream that reads a body and checks, whenever some of it has come, that the audit log has
/// every part in it. Returns the address, and the parts that came before their lines.
async fn upstream_that_looks(folder: PathBuf) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let looking = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut body, mut early) = (Vec::new(), Vec::new());
            let mut buffer = [0; 4096];
            while !body.ends_with(b"0\r\n\r\n") {
                let read = stream.read(&mut buffer).await.unwrap();
                if read == 0 {
                    break;
                }
                body.extend_from_slice(&buffer[..read]);
                let text = String::from_utf8_lossy(&body).into_owned();
                let lines = lines_of(&folder).iter().map(ToString::to_string).collect::<String>();
                let sent =
                    text.split("\"path\":\"").skip(1).filter_map(|rest| rest.split_once('"'));
                let missing = |path: &&str| !lines.contains(&format!("\"{path}\""));
                early.extend(sent.map(|(path, _)| path).filter(missing).map(str::to_owned));
            }
            if body.starts_with(b"POST /Bulk") {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                return early;
            }
        }
    });
    (url, looking)
}

#[tokio::test]
async fn the_parts_of_a_long_batch_are_written_before_they_are_sent() {
    let folder = tempfile::tempdir().unwrap();
    let audited = folder.path().join("audit");
    std::fs::create_dir(&audited).unwrap();
    let (url, looking) = upstream_that_looks(audited.clone()).await;
    let audit = format!("{{ folder: {} }}", audited.display());
    let issuer = issuer::steady().await;
    let config = issuer.configuration(&url).key("audit", audit);
    let sidecar = Process::start(folder.path(), &config).await;
    sidecar.wait_until_ready().await;
    let operation = |index: usize| {
        let padding = "x".repeat(600);
        format!(r#"{{"method":"PATCH","path":"/Users/{index}","data":{{"note":"{padding}"}}}}"#)
    };
    let operations: Vec<_> = (0..400).map(operation).collect();
    let body = format!(r#"{{"Operations":[{}]}}"#, operations.join(","));
    let request = http().post(format!("{}/users/Bulk", sidecar.url)).body(body);
    // Managed by the caller, so that there is no fetch of a CSRF token before.
    let request = request.header("content-type", "application/scim+json");
    let answer = request.header("x-csrf-token", "t").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(looking.await.unwrap(), Vec::<String>::new(), "sent before their lines");
    eventually("the end", async || lines_of(&audited).iter().any(|line| line["audit"] == "end"))
        .await;
    let lines = lines_of(&audited);
    let parts: Vec<_> =
        lines.iter().filter_map(|line| line["parts"].as_array()).flatten().collect();
    let targets: Vec<_> = parts.iter().map(|part| part["target"].as_str().unwrap()).collect();
    let expected: Vec<_> = (0..400).map(|index| format!("/Users/{index}")).collect();
    assert_eq!(targets, expected, "each once, in order");
    assert!(lines.iter().all(|line| line["parts"].as_array().is_none_or(|all| all.len() <= 64)));
    assert_eq!(by_id(lines).len(), 1);
}

#[tokio::test]
async fn a_batch_does_what_its_parts_do_whatever_its_own_method_and_headers_say() {
    let (scene, folder) = start("").await;
    let audited = folder.path().join("audit");
    let key = "a-key-of-a-caller-with-32-characters";
    let bulk = |method: Method, parts: &str| {
        let url = format!("{}/users/Bulk", scene.sidecar.url);
        let body = format!(r#"{{"Operations":[{parts}]}}"#);
        let request = http().request(method, url).body(body).header("x-api-key", key);
        request.header("content-type", "application/scim+json").send()
    };
    // Only reads: no line.
    let read = r#"{"method":"GET","path":"/Users/1"}"#;
    assert_eq!(bulk(Method::POST, read).await.unwrap().status(), 200);
    let write = r#"{"method":"DELETE","path":"/Users/1"}"#;
    assert_eq!(bulk(Method::GET, write).await.unwrap().status(), 200);
    let tunnelled = http().post(format!("{}/free/x", scene.sidecar.url)).header("x-api-key", key);
    let tunnelled = tunnelled.header("x-http-method", "DELETE").header("x-correlationid", "mine");
    assert_eq!(tunnelled.send().await.unwrap().status(), 200);
    eventually("all lines", async || lines_of(&audited).len() == 4).await;
    let requests = by_id(lines_of(&audited));
    assert_eq!(requests.len(), 2);
    let of = |path: &str| requests.values().find(|lines| lines[0]["path"] == path).unwrap();
    let batch = of("/users/Bulk");
    assert_eq!(
        (&batch[0]["method"], &batch[0]["parts"][0]["method"]),
        (&"GET".into(), &"DELETE".into())
    );
    assert_eq!(of("/free/x")[0]["overrides"], serde_json::json!(["DELETE"]));
    assert_eq!(of("/free/x")[1]["correlation_id"], Value::Null, "a caller chooses no id");
}

#[tokio::test]
async fn what_is_no_batch_to_its_server_is_a_write_like_any_other() {
    let (scene, folder) = start("").await;
    let audited = folder.path().join("audit");
    let (odata, scim) = ("application/json", "application/scim+json");
    let (none, read) =
        (r#"{"requests":[]}"#, r#"{"Operations":[{"method":"GET","path":"/Users/1"}]}"#);
    let mut expected = 0;
    for (method, path, kind, body, is_write) in [
        (Method::DELETE, "/free/orders/Bulk", scim, r#"{"Operations":[]}"#, true),
        (Method::POST, "/free/orders/Bulk", scim, read, true),
        (Method::DELETE, "/free/orders/$batch", odata, none, true),
        (Method::POST, "/free/orders/$batch", odata, none, true),
        (Method::PUT, "/users/Groups/Bulk", scim, read, true),
        (Method::PATCH, "/users/Groups/Bulk", scim, read, true),
        (Method::PUT, "/data/orders/$batch", "multipart/mixed; boundary=b", "--b--", true),
        (Method::POST, "/data/orders/$batch", odata, none, false),
    ] {
        let url = format!("{}{path}", scene.sidecar.url);
        let status = send(&http(), method.clone(), url, kind, body.to_owned()).await;
        // Without a method that the route allows, it is refused, and a refused request has lines.
        let is_expected = is_write || status != 200;
        expected += if is_expected { 2 } else { 0 };
        eventually(path, async || lines_of(&audited).len() == expected).await;
    }
    let executed: BTreeSet<_> =
        scene.upstream.seen().iter().map(|it| it.line().to_owned()).collect();
    assert!(executed.iter().any(|line| line.starts_with("PATCH /Groups/Bulk")), "{executed:?}");
    // By a header, too.
    let tunnelled = http().post(format!("{}/data/orders/$batch", scene.sidecar.url));
    let key = "a-key-of-a-caller-with-32-characters";
    let tunnelled = tunnelled.header("x-http-method", "DELETE").header("x-api-key", key);
    tunnelled.header("content-type", odata).body(none).send().await.unwrap();
    eventually("its lines", async || lines_of(&audited).len() == expected + 2).await;
}

#[tokio::test]
async fn the_end_says_whether_the_upstream_may_have_acted() {
    let (scene, folder) = start("").await;
    let audited = folder.path().join("audit");
    let put = async |path: &str| {
        let url = format!("{}{path}", scene.sidecar.url);
        send(&http(), Method::PUT, url, "text/plain", "x".into()).await
    };
    let end = async |path: &str| {
        let of_path = |lines: &&Vec<Value>| lines[0]["path"] == path && lines.len() == 2;
        let mut end = Value::Null;
        eventually(path, async || {
            let requests = by_id(lines_of(&audited));
            end = requests.values().find(of_path).map_or(Value::Null, |lines| lines[1].clone());
            !end.is_null()
        })
        .await;
        end
    };
    assert_eq!(put("/free/answered").await, 200);
    assert_eq!(end("/free/answered").await["sent"], true);
    scene.upstream.script([Behaviour::AnswerAndClose("not HTTP\r\n\r\n".into())]);
    assert_eq!(put("/free/garbage").await, 502);
    let garbage = end("/free/garbage").await;
    assert_eq!((&garbage["status"], &garbage["sent"]), (&502.into(), &true.into()));
    assert_eq!(put("/other/refused").await, 403);
    assert_eq!(end("/other/refused").await["sent"], false);
}

#[tokio::test]
async fn a_caller_that_breaks_off_does_not_hide_what_it_sent() {
    let folder = tempfile::tempdir().unwrap();
    let audited = folder.path().join("audit");
    std::fs::create_dir(&audited).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let issuer = issuer::steady().await;
    let config = issuer.configuration(&url);
    let config = config.key("audit", format!("{{ folder: {} }}", audited.display()));
    let sidecar = Process::start(folder.path(), &config).await;
    sidecar.wait_until_ready().await;
    let mut client = RawClient::connect(sidecar.host()).await;
    let head =
        "DELETE /free/half HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(&format!("{head}1\r\nx\r\n")).await;
    let (mut upstream, _) = listener.accept().await.unwrap();
    let (mut seen, mut buffer) = (String::new(), [0; 4096]);
    while !seen.contains("\r\n\r\n") {
        let read = upstream.read(&mut buffer).await.unwrap();
        seen += &String::from_utf8_lossy(&buffer[..read]);
    }
    // No chunk begins like this.
    client.send("zz\r\n").await;
    client.rest().await;
    eventually("its lines", async || lines_of(&audited).len() == 2).await;
    let end = &lines_of(&audited)[1];
    assert_eq!((&end["outcome"], &end["sent"]), (&"bad_request".into(), &true.into()), "{end}");
}

#[tokio::test]
async fn a_stranger_writes_little_into_the_audit_log() {
    let (scene, folder) = start("").await;
    let audited = folder.path().join("audit");
    let override_line = format!("X-HTTP-Method: {}\r\n", "\u{202e}".repeat(160));
    let headers = override_line.repeat(60);
    let request = format!(
        "PUT /free/x HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\nContent-Length: 0\r\n\r\n"
    );
    let answer = exchange(scene.sidecar.host(), &request).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    eventually("its lines", async || lines_of(&audited).len() == 2).await;
    let lines = lines_of(&audited);
    assert_eq!(lines[0]["overrides"][8], "... (52 more)", "{}", lines[0]);
    assert!(lines.iter().all(|line| line.to_string().len() < 4096), "{lines:?}");
}

#[tokio::test]
async fn a_file_ends_at_its_size_and_refused_requests_do_not_fill_the_disk() {
    let (scene, folder) = start(", max_size: 4KiB, sync: off, routes: [/free, /other]").await;
    let audited = folder.path().join("audit");
    let client = http();
    let url = |path: &str| format!("{}{path}", scene.sidecar.url);
    for index in 0..30 {
        let put = url(&format!("/free/{index}"));
        assert_eq!(send(&client, Method::PUT, put, "text/plain", String::new()).await, 200);
    }
    // Another route is not audited.
    let users = url("/users/1");
    assert_eq!(send(&client, Method::PUT, users, "text/plain", String::new()).await, 200);
    eventually("all lines", async || lines_of(&audited).len() == 60).await;
    let sizes =
        std::fs::read_dir(&audited).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
    let sizes: Vec<_> = sizes.map(|file| file.len()).collect();
    assert!(sizes.len() > 2 && sizes.iter().all(|size| *size < 6 << 10), "{sizes:?}");
    let refused = join_all((0..400).map(|_| client.get(url("/free/x")).send())).await;
    assert!(refused.into_iter().all(|answer| answer.unwrap().status() == 403));
    // A caller with a name has lines of its own beside that.
    let key = "a-key-of-a-caller-with-32-characters";
    let denied = client.delete(url("/other/x")).header("x-api-key", key).send().await.unwrap();
    assert_eq!(denied.status(), 403);
    let all_are_counted = async || {
        let lines = lines_of(&audited);
        let suppressed = lines.iter().filter(|line| line["audit"] == "suppressed");
        let suppressed: u64 = suppressed.map(|line| line["refused"].as_u64().unwrap()).sum();
        let written = lines.iter().filter(|line| line["outcome"] == "access_denied").count();
        suppressed > 0 && suppressed + written as u64 == 400
    };
    eventually("each is counted", all_are_counted).await;
}

#[tokio::test]
async fn on_standard_error_the_lines_stand_among_those_of_the_log() {
    let scene = Scene::process(|config| config.key("audit", "{ stderr: on }")).await;
    let load = join_all((0..200).map(|index| {
        let url = format!("{}/free/{index}", scene.sidecar.url);
        async move { http().put(url).body("x").send().await.unwrap().status() }
    }))
    .await;
    assert!(load.iter().all(|status| *status == 200));
    eventually("all lines", async || {
        let log = scene.sidecar.log();
        log.lines().filter(|line| line.contains(r#""audit":"end""#)).count() == 200
    })
    .await;
    for line in scene.sidecar.log().lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

/// Sends writes until `most` were answered, and returns how many were.
async fn load(url: &str, round: usize, answered: &AtomicUsize, most: usize) {
    let worker = async |worker: usize| {
        let client = http();
        for index in 0.. {
            if answered.load(Ordering::Relaxed) >= most {
                return;
            }
            let request = client.put(format!("{url}/free/{round}-{worker}-{index}-"));
            match request.body("x").send().await {
                Ok(answer) => assert_eq!(answer.status(), 200),
                // The process was ended.
                Err(_) => return,
            }
            answered.fetch_add(1, Ordering::Relaxed);
        }
    };
    join_all((0..16).map(worker)).await;
}

/// Ends the process at random moments of a load, until the upstream has executed this many writes.
async fn every_executed_write_has_its_beginning(writes: usize, settings: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (issuer, upstream) = (issuer::steady().await, Peer::start(Behaviour::ok("")).await);
    let audited = folder.path().join("audit");
    std::fs::create_dir(&audited).unwrap();
    let audit = format!("{{ folder: {}{settings} }}", audited.display());
    let config = issuer.configuration(&upstream.url()).key("audit", audit);
    let mut round = 0;
    while upstream.count() < writes {
        let mut process = Process::start(folder.path(), &config).await;
        process.wait_until_ready().await;
        let (answered, most) = (AtomicUsize::new(0), fastrand::usize(1..writes / 4));
        let url = process.url.clone();
        let end = async {
            eventually("the load", async || answered.load(Ordering::Relaxed) >= most).await;
            process.signal("KILL").await;
        };
        tokio::join!(load(&url, round, &answered, usize::MAX), end);
        process.exit_code().await;
        round += 1;
    }
    let begun: BTreeSet<String> = lines_of(&audited)
        .iter()
        .filter(|line| line["audit"] == "begin")
        .map(|line| line["path"].as_str().unwrap().to_owned())
        .collect();
    let executed = upstream.seen();
    let missing = executed.iter().filter_map(|seen| {
        let path = seen.line().split(' ').nth(1).unwrap();
        (!begun.contains(path)).then(|| path.to_owned())
    });
    let missing: Vec<_> = missing.collect();
    assert!(missing.is_empty(), "{} of {}: {missing:?}", missing.len(), executed.len());
}

#[tokio::test]
async fn a_killed_process_has_written_the_beginning_of_every_executed_write() {
    every_executed_write_has_its_beginning(3_000, "").await;
}

#[tokio::test]
#[ignore = "takes a quarter of a minute; make interop runs it"]
async fn interop_of_thirty_thousand_writes_each_has_its_beginning() {
    every_executed_write_has_its_beginning(30_000, "").await;
}

#[tokio::test]
async fn on_a_full_disk_writes_are_refused_and_reads_are_served() {
    for (on_failure, status) in [("refuse", 503), ("warn", 200)] {
        let folder = tempfile::tempdir().unwrap();
        let [audited, go] = ["audit", "go"].map(|name| folder.path().join(name));
        std::fs::create_dir(&audited).unwrap();
        let small = format!(
            r#"mount -t tmpfs -o size=16k tmpfs "$0" && {{ (while [ ! -e {} ]; do sleep 0.1; done; rm "$0"/*) & }}"#,
            go.display()
        );
        let bearerd = bearerd_after(&small, &audited);
        let audit = format!("{{ folder: {}, on_failure: {on_failure} }}", audited.display());
        let scene = Scene::process_by(bearerd, |config| config.key("audit", audit)).await;
        let client = http();
        let url = |path: &str| format!("{}{path}", scene.sidecar.url);
        let write = async || client.put(url("/free/w")).body("x").send().await.unwrap();
        let ready = async || scene.sidecar.probe("/readyz").await.1;
        // Some lines are shorter than others, and fit in when others do not.
        eventually("the disk is full", async || {
            let answer = write().await;
            let is_expected = answer.status() == status;
            let detail = answer.text().await.unwrap();
            let says_why = detail.contains("audit_unavailable") && detail.contains("No space left");
            let is_reported = ready().await.contains("audit log: No space left on device");
            is_expected && is_reported && (status == 200 || says_why)
        })
        .await;
        assert_eq!(client.get(url("/free/r")).send().await.unwrap().status(), 200);
        scene.sidecar.logged("The audit log cannot be written").await;
        // Somebody makes room.
        std::fs::write(&go, "").unwrap();
        eventually("written again", async || {
            write().await.status() == 200 && ready().await == "ready\n"
        })
        .await;
        scene.sidecar.logged("The audit log is written again.").await;
    }
}
