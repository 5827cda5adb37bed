//! The status page and its data in each state.

use crate::support::configuration::Configuration;
use crate::support::issuer;
use crate::support::scene::{Scene, unchanged};
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{eventually, http};
use serde_json::Value;

async fn status(sidecar: &Sidecar) -> Value {
    let (code, text) = sidecar.probe("/status").await;
    assert_eq!(code, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Waits for this state. Returns the status and the text of the page.
async fn in_state(sidecar: &Sidecar, state: &str) -> (Value, String) {
    eventually(state, async || status(sidecar).await["state"] == state).await;
    (status(sidecar).await, sidecar.probe("/").await.1)
}

fn events(status: &Value) -> Vec<&str> {
    let events = status["events"].as_array().unwrap();
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

/// Makes the client refresh its token as early as possible.
fn eager(config: Configuration) -> Configuration {
    config.client("expires_on", "2099-01-01").client("refresh_at", 0.1).client("wait", "100ms")
}

#[tokio::test]
async fn each_state_says_what_it_means_for_requests() {
    let upstream = Peer::start(Behaviour::ok("")).await;

    let silent = Peer::start(Behaviour::Hang).await;
    let sidecar = Sidecar::start(&silent.configuration(&upstream.url()));
    let (state, page) = in_state(&sidecar, "starting").await;
    assert_eq!(state["clients"][0]["state"], "waiting");
    assert_eq!(state["clients"][0]["token"], Value::Null);
    assert!(page.contains("waiting for its first token: requests wait for a while"), "{page}");
    assert!(page.contains("Nothing has happened yet."), "{page}");

    // The refresh of a short-lived token fails while the token is still valid.
    let trouble = issuer::status("503 Service Unavailable", "", "");
    let issuer = Peer::start(trouble).await;
    issuer.script([issuer::token("one", 20)]);
    let sidecar = Sidecar::start(&eager(issuer.configuration(&upstream.url())));
    let (state, page) = in_state(&sidecar, "degraded").await;
    assert_eq!(state["clients"][0]["state"], "degraded");
    assert_eq!(state["clients"][0]["client_expires"], "2099-01-01T00:00:00Z");
    assert_eq!(state["clients"][0]["token"]["generation"], 1);
    assert_eq!(events(&state), ["token_request_failed", "token_issued"]);
    assert!(page.contains("degraded: requests work for now"), "{page}");
    assert!(page.contains("<progress") && page.contains("Failures in a row"), "{page}");

    let words = r#"{"error":"unauthorized","error_description":"<script>alert(1)</script>"}"#;
    let refusing = Peer::start(issuer::status("401 Unauthorized", "", words)).await;
    let sidecar = Sidecar::start(&refusing.configuration(&upstream.url()));
    eventually("refused", async || status(&sidecar).await["clients"][0]["state"] == "rejected")
        .await;
    let (state, page) = in_state(&sidecar, "not_ready").await;
    let error = state["clients"][0]["last_error"].as_str().unwrap();
    assert!(error.contains("check client_id and secret"), "advice: {error}");
    assert!(page.contains("refused by the issuer: requests are answered 503"), "{page}");
    assert!(!page.contains("<script>") && page.contains("&lt;script&gt;"), "{page}");
}

#[tokio::test]
async fn the_status_lists_the_configuration_and_the_events() {
    let issuer = issuer::steady().await;
    let upstream = Peer::start(issuer::status("401 Unauthorized", "", "")).await;
    let sidecar = Sidecar::ready(&issuer.configuration(&upstream.url())).await;
    assert_eq!(sidecar.get("/free").await.status(), 401);
    eventually("listed", async || events(&status(&sidecar).await).contains(&"token_refused")).await;
    let state = status(&sidecar).await;
    let route = &state["routes"][0];
    assert_eq!((&route["path"], &route["profile"]), (&"/free".into(), &"passthrough".into()));
    assert_eq!((&route["upstream"], &route["client"]), (&"u".into(), &"c".into()));
    assert_eq!(route["origin"], upstream.url());
    let refused =
        state["events"].as_array().unwrap().iter().find(|event| event["event"] == "token_refused");
    assert_eq!(refused.unwrap()["detail"], "401: sent again with a new token, and refused again");
    assert_eq!(state["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere_and_may_not() {
    let issuer = issuer::steady().await;
    let sidecar = Sidecar::ready(&issuer.configuration("http://127.0.0.1:9")).await;
    let page = http().get(&sidecar.admin).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    assert_eq!(page.headers()["cache-control"], "no-store");
    let text = page.text().await.unwrap();
    assert!(!text.contains("style=") && !text.contains("onclick"), "nothing inline: {text}");
    for part in
        text.split(['"', ' ']).filter(|part| part.ends_with(".css") || part.ends_with(".js"))
    {
        let (code, body) = sidecar.probe(&format!("/{part}")).await;
        assert!(code == 200 && !body.contains("http"), "{part}");
    }
}

#[tokio::test]
async fn the_verbose_probe_names_every_check() {
    let upstream = Peer::start(Behaviour::ok("")).await;
    let silent = Peer::start(Behaviour::Hang).await;
    let sidecar = Sidecar::start(&silent.configuration(&upstream.url()));
    eventually("listening", async || {
        sidecar.probe("/readyz?verbose").await.1.contains("[+] listeners\n")
    })
    .await;
    let (code, text) = sidecar.probe("/readyz?verbose").await;
    let lines = "[+] no shutdown\n[+] listeners\n[-] token of c\nnot ready, pending: token of c\n";
    assert_eq!((code, text.as_str()), (503, lines));
    assert_eq!(sidecar.probe("/readyz").await.1, "not ready, pending: token of c\n");
}

#[tokio::test]
async fn a_tenant_that_fails_is_seen_although_the_token_is_fine() {
    let broken = Behaviour::Answer(
        "HTTP/1.1 500 Internal Server Error\r\nx-correlationid: 5f4d-7a8e\r\ncontent-length: 0\r\n\r\n".into(),
    );
    let Scene { sidecar, .. } = &Scene::before(Peer::start(broken).await, unchanged).await;
    for _ in 0..20 {
        assert_eq!(sidecar.get("/free?secret=query").await.status(), 500);
    }
    let headline = "ready, degraded: requests to u: 20 of 20 requests in the last 5 minutes failed (500 from the tenant); ";
    eventually("seen", async || sidecar.probe("/readyz").await.1.starts_with(headline)).await;
    assert_eq!(sidecar.probe("/readyz").await.0, 200, "it still gets traffic");
    let (state, page) = in_state(sidecar, "degraded").await;
    let failure = &state["failures"][0];
    assert_eq!((&failure["path"], &failure["status"]), (&"/free".into(), &500.into()));
    assert_eq!(
        (&failure["cause"], &failure["correlation_id"]),
        (&"500 from the tenant".into(), &"5f4d-7a8e".into())
    );
    assert_eq!(state["failures"].as_array().unwrap().len(), 10);
    let route =
        state["routes"].as_array().unwrap().iter().find(|route| route["name"] == "/free").unwrap();
    assert_eq!(route["recent"]["requests"]["failed"], 20);
    assert_eq!(state["minutes"].as_array().unwrap().len(), 60);
    for part in
        ["20 of 20", "5f4d-7a8e", "<svg", "20 requests in the last 60 minutes, 20 of them failed"]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("secret=query"), "{page}");
}

#[tokio::test]
async fn paths_are_shown_only_to_this_machine() {
    let broken = Behaviour::Answer("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n".into());
    let open = |config: Configuration| config.key("admin", "{ listen: 0.0.0.0:0 }");
    let Scene { sidecar, upstream, .. } = &Scene::before(Peer::start(broken).await, open).await;
    assert_eq!(sidecar.get("/free/of/a-person").await.status(), 500);
    eventually("seen", async || !status(sidecar).await["failures"].as_array().unwrap().is_empty())
        .await;
    let failure = &status(sidecar).await["failures"][0];
    assert_eq!((&failure["route"], &failure["path"]), (&"/free".into(), &Value::Null));
    let (page, state) = (sidecar.probe("/").await.1, status(sidecar).await);
    assert!(!page.contains("a-person"), "{page}");
    assert_eq!(
        (&state["routes"][0]["origin"], &state["config_file"]),
        (&Value::Null, &Value::Null)
    );
    assert!(!page.contains(&upstream.url().replace("http://", "")), "no tenant: {page}");
}
