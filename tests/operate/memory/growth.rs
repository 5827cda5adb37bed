//! Memory of the process if links become many times as long.

use super::{CHUNK, ENDLESS, LIMIT_KIB, MemoryScene, Page, Pages, READERS, gzip, read_by_others};
use crate::support::DEADLINE;
use futures_util::future::join_all;
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// A stripped path of 62 characters. It is added to each absolute path in a response.
const LONG: &str = "/a/rather/long/path/that/is/stripped/because/of/an/api/gateway";
const PART: &str = "--b\r\nContent-Type: application/http\r\n\r\n";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
const WITHIN: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/http\r\n\r\n";

fn page(header: &str, parts: [&str; 3], is_gzip: bool) -> Page {
    let coding = if is_gzip { "content-encoding: gzip\r\n" } else { "" };
    let bytes = |part: &str| if is_gzip { gzip(part) } else { part.as_bytes().to_vec() };
    let [start, middle, end] = parts.map(bytes);
    Page { header: format!("{header}{coding}"), start, middle, end }
}

/// JSON of this length that consists of links.
fn links(length: usize) -> String {
    format!("{{\"@odata.nextLink\":[{}0]}}", "\"/\",".repeat(length / 4))
}

/// Pages that consist of links, in every place where links can be.
fn pages() -> Pages {
    let json = "content-type: application/json\r\n";
    let multipart = "content-type: multipart/mixed; boundary=b\r\n";
    // The largest part that is held.
    let dense = links(63_000);
    let parts = |message: &str| ["".to_owned(), format!("{PART}{message}\r\n"), "--b--".to_owned()];
    let of_parts = |message: &str, is_gzip| {
        let [start, middle, end] = parts(message);
        page(multipart, [&start, &middle.repeat(8), &end], is_gzip)
    };
    let rows = ["{\"value\":[", &"{\"ID\":1},".repeat(1000), "0]}"];
    let headers = |line: &str| page(&format!("{json}{line}"), rows, false);
    let targets = "</>,".repeat(16_000);
    let in_batch = format!(
        "{{\"id\":\"1\",\"headers\":{{\"link\":\"{}\"}},\"body\":{}}},",
        "</>,".repeat(2000),
        links(1000)
    );
    vec![
        ("rows", page(json, rows, false)),
        ("parts", of_parts(&format!("{ANSWER}{dense}"), false)),
        ("parts-gzip", of_parts(&format!("{ANSWER}{dense}"), true)),
        ("nested", of_parts(&format!("{}{ANSWER}{dense}", WITHIN.repeat(3)), true)),
        ("part-headers", of_parts(&format!("HTTP/1.1 200 OK\r\nLink: {targets}\r\n\r\n"), true)),
        ("json", page(json, ["{\"@odata.nextLink\":[", &"\"/\",".repeat(CHUNK / 4), "0]}"], true)),
        (
            "xml",
            page(
                "content-type: application/xml\r\n",
                ["<f>", &"<a href=\"/\"/>".repeat(CHUNK / 13), "</f>"],
                true,
            ),
        ),
        ("batch", page(json, ["{\"responses\":[", &in_batch.repeat(8), "0]}"], true)),
        ("link", headers(&format!("link: {targets}\r\n"))),
        ("many", headers(&format!("link: {}\r\n", "</>,".repeat(120)).repeat(125))),
        (
            "messages",
            headers(&format!(
                "sap-messages: {{\"longtextUrl\":[{}1]}}\r\n",
                "\"/\",".repeat(16_000)
            )),
        ),
        ("large", headers(&format!("link: {targets}\r\n").repeat(2))),
        // The largest header that pingora accepts.
        ("huge", headers(&format!("link: {}\r\n", "</>,".repeat(250_000)))),
    ]
}

async fn start() -> MemoryScene {
    MemoryScene::of(pages(), |config| {
        config
            .key("limits", "{ requests: 200 }")
            .key("access", "{ hosts: [a, localhost, 127.0.0.1] }")
            .route(LONG, "profile", "odata")
            .route(LONG, "strip_path", true)
            .route("/rest", "profile", "rest")
    })
    .await
}

/// Clients that request this page and do not read it.
async fn deaf(scene: &MemoryScene, name: &str, count: usize) -> Vec<tokio::net::TcpStream> {
    let suffix = if name == "batch" { "/$batch" } else { "" };
    let head = format!("GET {LONG}/{name}/{ENDLESS}{suffix} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    join_all((0..count).map(|_| scene.send(&head))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_callers_leave_it_under_64_mib_however_much_links_grow() {
    let scene = start().await;
    for (name, _) in pages() {
        let deaf = deaf(&scene, name, 8).await;
        scene.is_held_up().await;
        drop(deaf);
        let peak = scene.process.peak_memory();
        assert!(peak < LIMIT_KIB, "{name}: the highest resident memory was {peak} KiB");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_further_caller_costs_less_than_a_mebibyte_however_much_links_grow() {
    const FURTHER: usize = 48;
    // A header that is refused is held before it is refused.
    for name in
        pages().iter().map(|(name, _)| *name).filter(|name| *name != "huge" && *name != "large")
    {
        let scene = start().await;
        drop(deaf(&scene, name, 1).await);
        scene.is_held_up().await;
        let before = scene.process.peak_memory();
        let deaf = deaf(&scene, name, FURTHER).await;
        scene.is_held_up().await;
        drop(deaf);
        let each = (scene.process.peak_memory() - before) / FURTHER as u64;
        assert!(each < 1024, "{name}: {each} KiB");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_is_too_large_is_refused_and_one_that_would_grow_too_much_keeps_its_links() {
    let scene = start().await;
    for (name, status) in
        [("huge", 502), ("large", 502), ("link", 200), ("many", 200), ("messages", 200)]
    {
        let target = format!("{LONG}/{name}/0");
        let mut stream = scene
            .send(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
            .await;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {}", &answer[..99]);
        assert!(answer.len() < 256 << 10, "{name}: {}", answer.len());
        if status == 502 {
            assert!(answer.contains("upstream_unreachable"), "{answer}");
            assert!(answer.contains("more than 64 KiB"), "{answer}");
        }
        // Links are rewritten only if there is room for all of them.
        assert_eq!(answer.contains(&format!("<{LONG}/>")), name == "many", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_an_upload_that_becomes_several_times_as_large_is_refused() {
    let scene = start().await;
    let request = format!(
        "{{\"requests\":[{{\"id\":\"1\",\"method\":\"POST\",\"url\":\"X\",\"headers\":{{\"content-type\":\"application/json\"}},\"body\":{{\"C@odata.bind\":[{}0]}}}}]}}",
        "\"//a\",".repeat(40_000)
    );
    let head = "POST /rest/$batch HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = format!("{:x}\r\n{request}\r\n0\r\n\r\n", request.len());
    let mut stream = scene.send(&format!("{head}{body}")).await;
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("too many URLs of the sidecar"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fast_readers_of_links_that_grow_do_not_starve_another_caller() {
    let scene = Arc::new(start().await);
    let url = format!("{}{LONG}/parts-gzip/{ENDLESS}", scene.process.url);
    let usually = read_by_others(&scene, &url).await;
    assert!(
        usually < READERS * CHUNK * 3 / 2,
        "{usually} bytes were read by others during a request"
    );
}
