//! The tables of docs/links.md: each of their examples goes through a sidecar.

use super::scripted;
use crate::support::http;
use crate::support::issuer;
use crate::support::scene::Scene;
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer, Seen};
use bearerd::proxy::links::origin::OriginMap;
use std::path::Path;

const PAGE: &str = include_str!("../../../docs/links.md");
const TENANT: &str = "https://tenant.example";
const SIDECAR: &str = "http://sidecar.example";

/// The rows of the table below a heading of docs/links.md, each as its cells.
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

/// The expected result of an example. A namespace is a name and stays.
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
    let Scene { sidecar, upstream, .. } = &scripted().await;
    for row in table("In answers") {
        let sent_by_tenant = example(&row[3]).replace(TENANT, &upstream.url());
        let (path, kind) = match row[2].as_str() {
            "header" => ("/data/x", String::new()),
            "JSON" => ("/data/x", "application/json".to_owned()),
            "XML" => ("/data/x", "application/xml".to_owned()),
            "JSON batch" => ("/data/$batch", "application/json".to_owned()),
            "application/http" => ("/data/x", "application/http".to_owned()),
            "multipart" => ("/data/$batch", "multipart/mixed; boundary=b".to_owned()),
            other => panic!("{other}"),
        };
        let in_part = |answer: &str| {
            format!("--b\r\nContent-Type: application/http\r\n\r\n{answer}\r\n--b--\r\n")
        };
        let is_header = row[2] == "header";
        let is_part = row[2] == "multipart";
        let sent = if is_part { in_part(&sent_by_tenant) } else { sent_by_tenant.clone() };
        let behaviour = if is_header {
            issuer::status("200 OK", &format!("{sent_by_tenant}\r\n"), "")
        } else {
            issuer::status("200 OK", &format!("content-type: {kind}\r\n"), &sent)
        };
        upstream.script([behaviour]);
        let request = http().get(format!("{}{path}", sidecar.url));
        let answer = request.send().await.unwrap();
        let got = if is_header {
            let (name, _) = sent_by_tenant.split_once(": ").unwrap();
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
    let config = issuer.configuration(&upstream.url());
    let config = config.route("/data", "profile", "cloud-transport");
    let sidecar = Sidecar::ready(&config).await;
    for row in table("In requests") {
        let sent_by_caller = example(&row[3]).replace(SIDECAR, &sidecar.url);
        let request = http().post(format!("{}/data/x", sidecar.url));
        let request = match row[2].as_str() {
            "header" => {
                let (name, value) = sent_by_caller.split_once(": ").unwrap();
                request.header(name, value)
            }
            "JSON" => {
                request.header("content-type", "application/json").body(sent_by_caller.clone())
            }
            "text" => request.header("content-type", "text/plain").body(sent_by_caller.clone()),
            other => panic!("{other}"),
        };
        assert_eq!(request.send().await.unwrap().status(), 200, "{row:?}");
        let seen: Seen = upstream.seen().pop().unwrap();
        let got = match row[2].as_str() {
            "header" => {
                let (name, _) = sent_by_caller.split_once(": ").unwrap();
                format!("{name}: {}", seen.header(name)[0])
            }
            _ => String::from_utf8(seen.payload()).unwrap(),
        };
        let sent_by_tenant = rewritten(&sent_by_caller, &sidecar.url, &upstream.url());
        assert_eq!(
            got,
            if is_rewritten(&row[4]) { sent_by_tenant } else { sent_by_caller },
            "{row:?}"
        );
    }
}
