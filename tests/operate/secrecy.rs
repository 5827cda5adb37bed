//! Secrets hold unique markers, which must occur in no output of the process.

use crate::support::issuer;
use crate::support::process::Process;
use crate::support::raw_client::exchange;
use crate::support::upstream::{Behaviour, Peer, Seen};

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
    let config = issuer.configuration(&upstream.url());
    let config = config.client("client_secret", SECRET).key("log", "{ level: trace }");
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(folder.path(), &config).await;
    let host = process.host().to_owned();
    process.wait_until_ready().await;
    let csrf = format!("x-csrf-token: {CSRF}\r\nset-cookie: JSESSIONID={SESSION}; Path=/\r\n");
    upstream.always("/api/v1/csrf", issuer::status("200 OK", &csrf, ""));
    let mut output = String::new();
    for path in ["/free/x", "/nowhere", "/free/../x", "/data/x", "/users/x"] {
        let request = format!(
            "POST {path}?{QUERY} HTTP/1.1\r\nHost: {host}\r\nCookie: {COOKIE}\r\n\
             Authorization: Bearer {CALLER}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        output += &exchange(&host, &request).await;
    }
    upstream.script([Behaviour::AnswerAndClose("not HTTP\r\n\r\n".into()), Behaviour::Hang]);
    for _ in 0..2 {
        let request = format!(
            "POST /free?{QUERY} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        output += &exchange(&host, &request).await;
    }
    output +=
        &exchange(&host, &format!("GET /free?{QUERY} HTTP/1.1\r\nHost {COOKIE}\r\n\r\n")).await;
    for page in ["/metrics", "/readyz?verbose", "/livez", "/status", "/"] {
        output += &process.probe(page).await.1;
    }
    process.signal("TERM").await;
    process.exit_code().await;
    let log = process.log();
    assert!(log.contains("\"outcome\":\"forwarded\""), "the access log is there: {log}");
    output += &log;
    for canary in [SECRET, TOKEN, COOKIE, QUERY, CALLER, CSRF, SESSION] {
        let place = output.find(canary).map(|at| &output[at.saturating_sub(200)..at]);
        assert_eq!(place, None, "{canary} is in the output");
    }
    let sent = upstream.seen();
    assert!(sent[0].head.contains(TOKEN) && sent[0].head.contains(QUERY), "the upstream gets it");
    let has_both = |seen: &Seen| seen.head.contains(CSRF) && seen.head.contains(SESSION);
    assert!(sent.iter().any(has_both), "a CSRF token was sent");
}
