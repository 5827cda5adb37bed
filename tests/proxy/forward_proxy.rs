//! Forward proxies, from the configuration and from the environment.

use crate::support::configuration::Configuration;
use crate::support::forward_proxy::{Asked, ForwardProxy};
use crate::support::process::{Process, bearerd, output, written};
use crate::support::sidecar::Sidecar;
use crate::support::{Fixture, SALES, USERS, eventually, http};
use serde_json::Value;
use std::fmt::Display;

/// A configuration whose servers have a name that only the proxy resolves.
fn elsewhere(fixture: &Fixture) -> Configuration {
    let renamed = |url: String| url.replace("https://localhost:", "https://acme.test:");
    fixture
        .configuration()
        .client("token_url", renamed(fixture.tenant.token_url()))
        .upstream("url", renamed(fixture.tenant.url()))
}

/// The configuration with this key in the client and in the upstream.
fn with(config: Configuration, key: &str, value: impl Display) -> Configuration {
    config.client(key, &value).upstream(key, value)
}

fn targets(fixture: &Fixture) -> [String; 2] {
    [fixture.tenant.token_url(), fixture.tenant.url()].map(|url| {
        let port = url.trim_end_matches("/oauth/token").rsplit(':').next().unwrap().to_owned();
        format!("acme.test:{port}")
    })
}

#[tokio::test]
async fn tokens_csrf_tokens_and_requests_go_through_the_configured_proxy() {
    let (fixture, proxy) = (Fixture::start().await, ForwardProxy::start().await);
    let url = format!("\"http://tool:open%20sesame@{}\"", proxy.address);
    let sidecar = Sidecar::ready(&with(elsewhere(&fixture), "proxy", url)).await;
    // A tunnel is kept once its response has ended, which the caller may notice first.
    eventually("through a kept tunnel", async || {
        let before = proxy.asked().len();
        assert_eq!(sidecar.get(SALES).await.status(), 200);
        proxy.asked().len() == before
    })
    .await;
    let user = r#"{"userName":"ANNA"}"#;
    let create = http().post(format!("{}{USERS}", sidecar.url)).body(user);
    let created = create.header("content-type", "application/json").send().await.unwrap();
    assert_eq!(created.status(), 201);
    let [issuer, tenant] = targets(&fixture);
    let authorization = Some("Basic dG9vbDpvcGVuIHNlc2FtZQ==".to_owned());
    let tunnel =
        |target: &String| Asked { target: target.clone(), authorization: authorization.clone() };
    let asked = proxy.asked();
    assert_eq!(asked[0], tunnel(&issuer));
    assert!(
        asked.len() > 2 && asked[1..].iter().all(|asked| *asked == tunnel(&tenant)),
        "{asked:?}"
    );
}

#[tokio::test]
async fn the_proxy_of_the_environment_is_used_but_for_its_exceptions() {
    let (fixture, proxy) = (Fixture::start().await, ForwardProxy::start().await);
    let (folder, address) = (tempfile::tempdir().unwrap(), proxy.address.to_string());
    let [_, tenant] = targets(&fixture);
    // acme.test resolves nowhere here, so that an exception can't be reached.
    for (no_proxy, status) in [("", 200), (&*tenant, 502)] {
        let environment = [("HTTPS_PROXY", address.as_str()), ("NO_PROXY", no_proxy)];
        let mut process =
            Process::start_in(folder.path(), &elsewhere(&fixture), &environment).await;
        process.wait_until_ready().await;
        let answer = http().get(format!("{}{SALES}", process.url)).send().await.unwrap();
        assert_eq!(answer.status(), status, "{no_proxy:?}: {}", process.log());
        process.signal("TERM").await;
        process.exit_code().await;
    }
    let asked: Vec<_> = proxy.asked().into_iter().map(|asked| asked.target).collect();
    let [issuer, tenant] = targets(&fixture);
    assert_eq!(asked, [issuer.clone(), tenant, issuer]);
}

#[tokio::test]
async fn a_proxys_refusal_is_reported_with_its_status() {
    let (fixture, proxy) = (Fixture::start().await, ForwardProxy::start().await);
    // Only the upstream is reached through it.
    let config = fixture.configuration();
    let config = config.upstream("proxy", format!("\"{}\"", proxy.address));
    let sidecar = Sidecar::ready(&config).await;
    for (answer, reason) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno", "407"),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "503"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "check that this address is an HTTP proxy's"),
        ("", "did not answer"),
    ] {
        proxy.answer(answer);
        let before = proxy.asked().len();
        let refused = sidecar.get(SALES).await;
        assert_eq!(refused.status(), 502);
        let text = refused.text().await.unwrap();
        assert!(text.contains(r#""kind":"upstream_proxy""#) && text.contains(reason), "{text}");
        assert_eq!(proxy.asked().len() - before, 1, "a refusal is final: {answer}");
    }
    let series = r#"bearerd_requests_total{code_class="5xx",method="GET",outcome="upstream_proxy""#;
    eventually("counted", async || sidecar.metric(series).await == 4.0).await;
    drop(proxy);
    let text = sidecar.get(SALES).await.text().await.unwrap();
    assert!(
        text.contains(r#""kind":"upstream_proxy""#)
            && text.contains("the proxy refuses connections"),
        "{text}"
    );
    assert_eq!(fixture.tenant.seen().tenant_requests, 0);
}

#[tokio::test]
async fn a_proxys_refusal_for_the_issuer_is_reported_and_credentials_are_not_tried_over_and_over() {
    let (fixture, proxy) = (Fixture::start().await, ForwardProxy::start().await);
    let url = format!("\"http://tool:wrong@{}\"", proxy.address);
    for (status, advice, least, most) in [
        ("407 Proxy Authentication Required", "proxy_credentials_file", 27.0, 33.0),
        ("503 Service Unavailable", "`bearerd doctor` shows its answer", 0.0, 1.0),
    ] {
        proxy.answer(&format!("HTTP/1.1 {status}\r\n\r\n"));
        let folder = tempfile::tempdir().unwrap();
        let process =
            Process::start(folder.path(), &with(elsewhere(&fixture), "proxy", &url)).await;
        let refusal = async || {
            let log = process.log();
            let mut lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            lines.find(|line| line["outcome"] == "proxy_refused")
        };
        eventually("refused", async || refusal().await.is_some()).await;
        let refusal = refusal().await.unwrap();
        assert!(refusal["message"].as_str().unwrap().contains(advice), "{refusal}");
        let next = refusal["next_attempt_seconds"].as_f64().unwrap();
        assert!((least..=most).contains(&next), "{refusal}");
    }
}

#[tokio::test]
async fn new_credentials_of_a_proxy_are_used_without_a_restart() {
    let (fixture, proxy) = (Fixture::start().await, ForwardProxy::start().await);
    let file = fixture.path("proxy");
    std::fs::write(&file, "tool:first\n").unwrap();
    let config = with(elsewhere(&fixture), "proxy", format!("\"{}\"", proxy.address));
    let config = with(config, "proxy_credentials_file", file.display());
    let process = Process::start(fixture.folder.path(), &config).await;
    process.wait_until_ready().await;
    std::fs::write(&file, "tool:second\n").unwrap();
    eventually("reloaded", async || process.log().contains("The new configuration is in force"))
        .await;
    assert_eq!(http().get(format!("{}{SALES}", process.url)).send().await.unwrap().status(), 200);
    let last = proxy.asked().pop().unwrap();
    assert_eq!(last.authorization.as_deref(), Some("Basic dG9vbDpzZWNvbmQ="));
    let log = process.log();
    assert!(!log.contains("dG9vbD") && !log.contains("first") && !log.contains("tool:"), "{log}");
}

#[tokio::test]
async fn tls_is_verified_through_a_tunnel_too() {
    let (fixture, other, proxy) =
        (Fixture::start().await, Fixture::start().await, ForwardProxy::start().await);
    let config = fixture
        .configuration()
        .upstream("proxy", format!("\"{}\"", proxy.address))
        .upstream("ca_file", other.path("ca.pem").display());
    let sidecar = Sidecar::ready(&config).await;
    let text = sidecar.get(SALES).await.text().await.unwrap();
    assert!(text.contains(r#""kind":"upstream_tls""#), "{text}");
    assert_eq!(fixture.tenant.seen().tenant_requests, 0);
}

#[tokio::test]
async fn the_doctor_uses_the_proxy_too() {
    let (fixture, proxy) = (Fixture::start().await, ForwardProxy::start().await);
    let config = with(elsewhere(&fixture), "proxy", format!("\"{}\"", proxy.address));
    let file = written(fixture.folder.path(), &config);
    let arguments = ["doctor", "--config", file.to_str().unwrap()];
    let healthy = output(bearerd().args(arguments)).await;
    let text = String::from_utf8(healthy.stdout).unwrap();
    assert!(text.contains(&format!("connected through {}", proxy.address)), "{text}");
    proxy.answer("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    let failed = output(bearerd().args(arguments)).await;
    let text = String::from_utf8(failed.stdout).unwrap();
    assert_eq!(failed.status.code(), Some(1), "{text}");
    assert!(text.contains("407") && text.contains("proxy_credentials_file"), "{text}");
}
