//! Unique markers in everything secret; none of them may come out anywhere but on the wire.

use crate::proxy::requests::raw;
use crate::support::issuer;
use crate::support::process::Process;
use crate::support::upstream::{Behaviour, Peer, Seen};
use crate::support::{eventually, http};

const SECRET: &str = "canary-secret";
const TOKEN: &str = "canary-token";
const COOKIE: &str = "canary-cookie";
const CSRF: &str = "canary-csrf";
const SESSION: &str = "canary-session";
const QUERY: &str = "canary-query";
const CALLER: &str = "canary-caller";

#[tokio::test]
async fn no_secret_token_cookie_or_query_reaches_log_metric_probe_or_answer() {
    let issuer = Peer::start(issuer::token(TOKEN, 3600)).await;
    issuer.script([
        issuer::status("500 Trouble", "", SECRET),
        issuer::json(&format!(r#"{{"access_token":"{TOKEN} with a space"}}"#)),
    ]);
    let upstream = Peer::start(Behaviour::ok("fine")).await;
    let config =
        issuer.config(&upstream.url(), "", "log: { level: trace }").replace("s3cret", SECRET);
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(folder.path(), &config, &[]).await;
    let host = process.url.strip_prefix("http://").unwrap().to_owned();
    eventually("ready", async || {
        http().get(format!("{}/readyz", process.admin)).send().await.unwrap().status() == 200
    })
    .await;
    let csrf = format!("x-csrf-token: {CSRF}\r\nset-cookie: JSESSIONID={SESSION}; Path=/\r\n");
    upstream.always("/api/v1/csrf", issuer::status("200 OK", &csrf, ""));
    let mut told = String::new();
    for path in ["/free/x", "/nowhere", "/free/../x", "/data/x", "/users/x"] {
        let request = format!(
            "POST {path}?{QUERY} HTTP/1.1\r\nHost: {host}\r\nCookie: {COOKIE}\r\n\
             Authorization: Bearer {CALLER}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        told += &raw(&host, &request).await;
    }
    upstream.script([Behaviour::AnswerAndClose("not HTTP\r\n\r\n".into()), Behaviour::Hang]);
    for _ in 0..2 {
        let request = format!(
            "POST /free?{QUERY} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        told += &raw(&host, &request).await;
    }
    told += &raw(&host, &format!("GET /free?{QUERY} HTTP/1.1\r\nHost {COOKIE}\r\n\r\n")).await;
    for page in ["/metrics", "/readyz?verbose", "/livez", "/status", "/"] {
        told += &http()
            .get(format!("{}{page}", process.admin))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
    }
    process.signal("TERM").await;
    process.exit_code().await;
    let log = process.log();
    assert!(log.contains("\"outcome\":\"forwarded\""), "the access log is there: {log}");
    told += &log;
    for canary in [SECRET, TOKEN, COOKIE, QUERY, CALLER, CSRF, SESSION] {
        let place = told.find(canary).map(|at| &told[at.saturating_sub(200)..at]);
        assert_eq!(place, None, "{canary} came out");
    }
    let sent = upstream.seen();
    assert!(sent[0].head.contains(TOKEN) && sent[0].head.contains(QUERY), "on the wire it is");
    let has_both = |seen: &Seen| seen.head.contains(CSRF) && seen.head.contains(SESSION);
    assert!(sent.iter().any(has_both), "CSRF was spoken");
}
