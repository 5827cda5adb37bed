//! What an upstream, an issuer or a forward proxy says back of our secrets stays here, whatever it looks like.

use crate::support::issuer;
use crate::support::process::Process;
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{eventually, http};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJhIjoxfQ.c2lnbmF0dXJl";
const LATER: &str = "eyJhbGciOiJub25lIn0.eyJhIjoyfQ.bGF0ZXItb25l";

struct World {
    _issuer: Peer,
    upstream: Peer,
    sidecar: Sidecar,
}

impl World {
    async fn start() -> Self {
        let issuer = Peer::start(issuer::token(LATER, 3600)).await;
        issuer.script([issuer::token(TOKEN, 3600)]);
        let upstream = Peer::start(Behaviour::ok("fine")).await;
        let sidecar = Sidecar::ready(&issuer.config(&upstream.url(), "", "")).await;
        Self { _issuer: issuer, upstream, sidecar }
    }

    async fn echo(&self, headers: &str, said: &str) -> String {
        self.upstream.script([issuer::status("200 OK", headers, &format!("[{said}] sorry"))]);
        let answer = self.sidecar.get("/free").await;
        let headers = format!("{:?}", answer.headers());
        let text = answer.text().await.unwrap();
        assert!(text.ends_with("] sorry"), "{text}");
        headers + &text
    }
}

fn escaped(text: &str, one: impl Fn(u8) -> String) -> String {
    text.bytes().map(one).collect()
}

/// A token as debugging pages, error texts and logs write it.
fn dressed(token: &str) -> Vec<String> {
    let percent = escaped(token, |byte| format!("%{byte:02x}"));
    let entities = escaped(token, |byte| format!("&#x{byte:x};"));
    vec![
        token.to_owned(),
        percent.clone(),
        percent.replace('%', "%25"),
        escaped(token, |byte| format!("&#{byte};")),
        entities.replace('&', "&amp;"),
        escaped(token, |byte| format!("\\u{byte:04X}")),
        STANDARD.encode(format!("user:{token}")),
        URL_SAFE_NO_PAD.encode(format!("{{\"authorization\":\"Bearer {token}\"}}")),
        STANDARD.encode(STANDARD.encode(token)),
        escaped(token, |byte| format!("{byte:02x}")),
    ]
}

#[tokio::test]
async fn a_token_stays_here_in_whatever_clothes_it_comes_back() {
    let world = World::start().await;
    for said in dressed(TOKEN) {
        let header = format!("content-type: text/plain\r\nx-debug: {said}\r\n");
        let answer = world.echo(&header, &said).await;
        assert!(!answer.contains(&said), "{said}: {answer}");
        assert_eq!(answer.matches("[token removed]").count(), 2, "{said}: {answer}");
    }
    let removed = world.sidecar.metric(r#"bearerd_token_echoes_total{route="/free"}"#).await;
    assert_eq!(removed, 2.0 * dressed(TOKEN).len() as f64);
}

#[tokio::test]
async fn a_token_stays_here_whatever_the_answer_calls_itself() {
    let world = World::start().await;
    for kind in [
        "",
        "content-type: \r\n",
        "content-type: application/http\r\n",
        "content-type: application/octet-stream\r\n",
        "content-type: text/csv\r\n",
        "content-type: application/vnd.openxmlformats\r\n",
        "content-type: image/png\r\n",
        "content-type: text/plain\r\ncontent-encoding: identity\r\n",
        "content-type: text/plain\r\ncontent-encoding: aws-chunked\r\n",
    ] {
        let answer = world.echo(kind, TOKEN).await;
        assert!(!answer.contains(TOKEN) && answer.contains("[token removed]"), "{kind}: {answer}");
    }
}

#[tokio::test]
async fn the_token_before_the_current_one_stays_here_too() {
    let world = World::start().await;
    let refused = issuer::status("401 Unauthorized", "", TOKEN);
    world.upstream.script([refused]);
    let healed = world.echo(&format!("x-debug: {LATER} {TOKEN}\r\n"), TOKEN).await;
    assert!(!healed.contains(TOKEN) && !healed.contains(LATER), "{healed}");
    let later = world.echo(&format!("x-debug: {TOKEN}\r\n"), &STANDARD.encode(TOKEN)).await;
    assert!(!later.contains(TOKEN) && !later.contains(&STANDARD.encode(TOKEN)), "{later}");
    let seen = world.upstream.seen();
    assert_eq!(seen.last().unwrap().header("authorization"), [format!("Bearer {LATER}")]);
}

#[tokio::test]
async fn the_token_that_another_route_sends_to_the_same_upstream_stays_here_too() {
    let issuer = Peer::start(issuer::token(LATER, 3600)).await;
    issuer.script([issuer::token(TOKEN, 3600)]);
    let upstream = Peer::start(Behaviour::ok(&format!("of all: {TOKEN} {LATER}"))).await;
    let config = issuer.config(&upstream.url(), "", "");
    let other = format!(
        "clients:\n  d: {{ token_url: \"{}/oauth/token\", client_id: id, client_secret: s3cret }}\n",
        issuer.url()
    );
    let config = config
        .replace("clients:\n", &other)
        .replace("  u: {", "  u: { client: c,")
        .replace("path: /data,", "path: /data, client: d,");
    let sidecar = Sidecar::ready(&config).await;
    for path in ["/free", "/data"] {
        let text = sidecar.get(path).await.text().await.unwrap();
        assert!(text.starts_with("of all: [token removed]"), "{text}");
        assert!(!text.contains(TOKEN) && !text.contains(LATER), "{text}");
    }
    let sent: Vec<_> =
        upstream.seen().iter().map(|seen| seen.header("authorization").join("")).collect();
    assert_ne!(sent[0], sent[1]);
}

#[tokio::test]
async fn the_tokens_of_clients_that_a_reload_replaced_stay_here_as_long_as_they_are_valid() {
    let tokens: Vec<String> = (0..3).map(|one| format!("{TOKEN}-{one}")).collect();
    let issuer = Peer::start(issuer::token(LATER, 3600)).await;
    issuer.script(tokens.iter().map(|token| issuer::token(token, 3600)));
    let upstream = Peer::start(Behaviour::ok(&format!("of all: {}", tokens.join(" ")))).await;
    let folder = tempfile::tempdir().unwrap();
    let first = issuer.config(&upstream.url(), "", "");
    let process = Process::start(folder.path(), &first, &[]).await;
    // Another client, then one that is called otherwise, and goes there by another name.
    let other = first.replace("client_id: id", "client_id: other");
    let renamed = other.replace("  c: {", "  d: {").replace("  u: {", "  v: {");
    for (count, (config, token)) in [first, other, renamed].iter().zip(&tokens).enumerate() {
        std::fs::write(folder.path().join("bearerd.yaml"), config).unwrap();
        let wanted = [format!("Bearer {token}")];
        let mut text = String::new();
        eventually(&format!("client {count}"), async || {
            let answer = http().get(format!("{}/free", process.url)).send().await.unwrap();
            text = answer.text().await.unwrap();
            upstream.seen().last().is_some_and(|seen| seen.header("authorization") == wanted)
        })
        .await;
        for known in &tokens[..=count] {
            assert!(!text.contains(known), "{text}");
        }
        assert_eq!(text.matches("[token removed]").count(), count + 1, "{text}");
    }
}

#[tokio::test]
async fn the_csrf_session_that_the_sidecar_added_stays_here_and_a_callers_own_does_not() {
    const CSRF: &str = "b5e9d3a5-77c1-4a5e";
    const SESSION: &str = "s%3A0123456789abcdef.Zm9v";
    let world = World::start().await;
    let fetched = format!(
        "x-csrf-token: {CSRF}\r\nset-cookie: JSESSIONID={SESSION}; Path=/\r\nset-cookie: sap-usercontext=sap-client=100\r\n"
    );
    world.upstream.always("/api/v1/csrf", issuer::status("200 OK", &fetched, ""));
    let said = format!("{CSRF}, {SESSION}, s:0123456789abcdef.Zm9v, sap-client=100");
    let encoded = STANDARD.encode(format!("id={CSRF}"));
    let write = async |own: &[(&str, &str)]| {
        let debug = format!("x-debug: {CSRF}\r\n");
        world.upstream.script([issuer::status("200 OK", &debug, &format!("{said} {encoded}"))]);
        let mut request = http().post(format!("{}/users/x", world.sidecar.url)).body("b");
        for (name, value) in own {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        (format!("{:?}", answer.headers()), answer.text().await.unwrap())
    };
    let (headers, text) = write(&[]).await;
    for secret in [CSRF, SESSION, "0123456789abcdef", &encoded] {
        assert!(!headers.contains(secret) && !text.contains(secret), "{secret}: {headers} {text}");
    }
    assert!(text.contains("sap-client=100"), "it is a setting: {text}");
    let cookie = format!("JSESSIONID={SESSION}");
    let (headers, text) = write(&[("x-csrf-token", CSRF), ("cookie", &cookie)]).await;
    assert!(headers.contains(CSRF) && text.starts_with(&said), "it knows them: {headers} {text}");
}

#[tokio::test]
async fn the_key_that_a_route_adds_stays_here() {
    let issuer = Peer::start(issuer::token(TOKEN, 3600)).await;
    let upstream = Peer::start(Behaviour::ok("you sent 0123456789abcdef")).await;
    let config = issuer.config(&upstream.url(), "", "");
    let config =
        config.replace("path: /free,", "path: /free, headers: { apikey: 0123456789abcdef },");
    let sidecar = Sidecar::ready(&config).await;
    let text = sidecar.get("/free").await.text().await.unwrap();
    assert_eq!(upstream.seen()[0].header("apikey"), ["0123456789abcdef"]);
    assert!(text.starts_with("you sent [token removed]"), "{text}");
}

#[tokio::test]
async fn an_issuers_words_are_not_quoted_whatever_clothes_the_secret_wears_in_them() {
    const SECRET: &str = "7d3f$aV+/9=de<mo>";
    let percent = escaped(SECRET, |byte| format!("%{byte:02x}"));
    for said in [
        SECRET.replace('<', "&lt;").replace('>', "&gt;"),
        percent.clone(),
        percent.replace('%', "%25"),
        "7d3f%24aV%2b%2f9%3dde%3cmo%3e".to_owned(),
        escaped(SECRET, |byte| format!("&#x{byte:X};")),
        escaped(SECRET, |byte| format!("\\u{byte:04x}")),
        STANDARD.encode(format!("id:{SECRET}")),
        STANDARD.encode(format!("xid:{SECRET}")).replace('=', "%3D"),
        escaped(SECRET, |byte| format!("{byte:02X}")),
    ] {
        let words = serde_json::json!({
            "error": "unauthorized",
            "error_description": format!("{} no client has {said}", "x".repeat(130)),
        });
        let issuer = Peer::start(issuer::status("401 Unauthorized", "", &words.to_string())).await;
        let config = issuer.config("https://127.0.0.1:9", "", "");
        let sidecar = Sidecar::start(&config.replace("s3cret", &format!("'{SECRET}'")));
        eventually("refused", async || sidecar.probe("/readyz").await.1.contains("refuses")).await;
        let told = sidecar.probe("/readyz").await.1;
        assert!(told.contains("reason not shown: it holds the secret"), "{said}: {told}");
        let page = sidecar.probe("/").await.1 + &sidecar.probe("/status").await.1;
        assert!(!page.contains("no client has") && !page.contains(&said), "{said}: {page}");
    }
}
