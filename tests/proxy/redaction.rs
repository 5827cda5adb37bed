//! Redaction: secrets that an upstream, an issuer or a forward proxy sends back are removed, in
//! every encoding.

use crate::support::issuer;
use crate::support::process::Process;
use crate::support::scene::{Scene, unchanged};
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{eventually, http};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJhIjoxfQ.c2lnbmF0dXJl";
const LATER: &str = "eyJhbGciOiJub25lIn0.eyJhIjoyfQ.bGF0ZXItb25l";

/// A scene whose first access token is `TOKEN` and whose next one is `LATER`.
async fn start() -> Scene {
    let issuer = Peer::start(issuer::token(LATER, 3600)).await;
    issuer.script([issuer::token(TOKEN, 3600)]);
    Scene::between(issuer, Peer::start(Behaviour::ok("fine")).await, unchanged).await
}

/// The header and text of a response for which the upstream sends these header lines and this text.
async fn echo(scene: &Scene, headers: &str, text: &str) -> String {
    scene.upstream.script([issuer::status("200 OK", headers, &format!("[{text}] sorry"))]);
    let response = scene.sidecar.get("/free").await;
    let headers = format!("{:?}", response.headers());
    let text = response.text().await.unwrap();
    assert!(text.ends_with("] sorry"), "{text}");
    headers + &text
}

fn escaped(text: &str, one: impl Fn(u8) -> String) -> String {
    text.bytes().map(one).collect()
}

/// A token in the encodings of debugging pages, error texts and logs.
fn encodings(token: &str) -> Vec<String> {
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
async fn a_token_is_removed_in_every_encoding() {
    let scene = start().await;
    for said in encodings(TOKEN) {
        let header = format!("content-type: text/plain\r\nx-debug: {said}\r\n");
        let answer = echo(&scene, &header, &said).await;
        assert!(!answer.contains(&said), "{said}: {answer}");
        assert_eq!(answer.matches("[token removed]").count(), 2, "{said}: {answer}");
    }
    let removed = scene.sidecar.metric(r#"bearerd_token_echoes_total{route="/free"}"#).await;
    assert_eq!(removed, 2.0 * encodings(TOKEN).len() as f64);
}

#[tokio::test]
async fn a_token_is_removed_whatever_the_type_of_the_response() {
    let scene = start().await;
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
        let answer = echo(&scene, kind, TOKEN).await;
        assert!(!answer.contains(TOKEN) && answer.contains("[token removed]"), "{kind}: {answer}");
    }
}

#[tokio::test]
async fn the_token_before_the_current_one_is_removed_too() {
    let scene = start().await;
    let refused = issuer::status("401 Unauthorized", "", TOKEN);
    scene.upstream.script([refused]);
    let healed = echo(&scene, &format!("x-debug: {LATER} {TOKEN}\r\n"), TOKEN).await;
    assert!(!healed.contains(TOKEN) && !healed.contains(LATER), "{healed}");
    let later = echo(&scene, &format!("x-debug: {TOKEN}\r\n"), &STANDARD.encode(TOKEN)).await;
    assert!(!later.contains(TOKEN) && !later.contains(&STANDARD.encode(TOKEN)), "{later}");
    let seen = scene.upstream.seen();
    assert_eq!(seen.last().unwrap().header("authorization"), [format!("Bearer {LATER}")]);
}

#[tokio::test]
async fn the_token_that_another_route_sends_to_the_same_upstream_is_removed_too() {
    let issuer = Peer::start(issuer::token(LATER, 3600)).await;
    issuer.script([issuer::token(TOKEN, 3600)]);
    let upstream = Peer::start(Behaviour::ok(&format!("of all: {TOKEN} {LATER}"))).await;
    let config = issuer
        .configuration(&upstream.url())
        .upstream("client", "c")
        .route("/data", "client", "d")
        .add_client("d")
        .client("token_url", format!("\"{}/oauth/token\"", issuer.url()))
        .client("client_id", "id")
        .client("client_secret", "s3cret");
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
async fn the_tokens_of_clients_that_a_reload_replaced_are_removed_as_long_as_they_are_valid() {
    let tokens: Vec<String> = (0..3).map(|one| format!("{TOKEN}-{one}")).collect();
    let issuer = Peer::start(issuer::token(LATER, 3600)).await;
    issuer.script(tokens.iter().map(|token| issuer::token(token, 3600)));
    let upstream = Peer::start(Behaviour::ok(&format!("of all: {}", tokens.join(" ")))).await;
    let folder = tempfile::tempdir().unwrap();
    let first = issuer.configuration(&upstream.url());
    let process = Process::start(folder.path(), &first).await;
    // Another client, then another name for it and for the upstream.
    let other = first.clone().client("client_id", "other");
    let renamed = other.clone().rename_client("d").rename_upstream("v");
    for (count, (config, token)) in [first, other, renamed].iter().zip(&tokens).enumerate() {
        std::fs::write(folder.path().join("bearerd.yaml"), config.to_string()).unwrap();
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
async fn the_csrf_session_that_the_sidecar_added_is_removed_and_a_callers_own_is_not() {
    const CSRF: &str = "b5e9d3a5-77c1-4a5e";
    const SESSION: &str = "s%3A0123456789abcdef.Zm9v";
    let scene = start().await;
    let fetched = format!(
        "x-csrf-token: {CSRF}\r\nset-cookie: JSESSIONID={SESSION}; Path=/\r\nset-cookie: sap-usercontext=sap-client=100\r\n"
    );
    scene.upstream.always("/api/v1/csrf", issuer::status("200 OK", &fetched, ""));
    let said = format!("{CSRF}, {SESSION}, s:0123456789abcdef.Zm9v, sap-client=100");
    let encoded = STANDARD.encode(format!("id={CSRF}"));
    let write = async |own: &[(&str, &str)]| {
        let debug = format!("x-debug: {CSRF}\r\n");
        scene.upstream.script([issuer::status("200 OK", &debug, &format!("{said} {encoded}"))]);
        let mut request = http().post(format!("{}/users/x", scene.sidecar.url)).body("b");
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
    assert!(text.contains("sap-client=100"), "a setting stays: {text}");
    let cookie = format!("JSESSIONID={SESSION}");
    let (headers, text) = write(&[("x-csrf-token", CSRF), ("cookie", &cookie)]).await;
    assert!(
        headers.contains(CSRF) && text.starts_with(&said),
        "the caller has them: {headers} {text}"
    );
}

#[tokio::test]
async fn the_key_that_a_route_adds_is_removed() {
    let issuer = Peer::start(issuer::token(TOKEN, 3600)).await;
    let upstream = Peer::start(Behaviour::ok("you sent 0123456789abcdef")).await;
    let config = issuer.configuration(&upstream.url());
    let config = config.route("/free", "headers", "{ apikey: 0123456789abcdef }");
    let sidecar = Sidecar::ready(&config).await;
    let text = sidecar.get("/free").await.text().await.unwrap();
    assert_eq!(upstream.seen()[0].header("apikey"), ["0123456789abcdef"]);
    assert!(text.starts_with("you sent [token removed]"), "{text}");
}

#[tokio::test]
async fn an_issuers_message_is_not_quoted_if_it_holds_the_secret_in_any_encoding() {
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
        let config = issuer.configuration("https://127.0.0.1:9");
        let sidecar = Sidecar::start(&config.client("client_secret", format!("'{SECRET}'")));
        eventually("refused", async || sidecar.probe("/readyz").await.1.contains("refuses")).await;
        let text = sidecar.probe("/readyz").await.1;
        assert!(text.contains("reason not shown: it holds the secret"), "{said}: {text}");
        let page = sidecar.probe("/").await.1 + &sidecar.probe("/status").await.1;
        assert!(!page.contains("no client has") && !page.contains(&said), "{said}: {page}");
    }
}
