//! Through forward proxies: everything that goes to a server, and nothing that need not.

use crate::support::forward_proxy::{Asked, ForwardProxy};
use crate::support::process::{Process, bearerd, output};
use crate::support::sidecar::Sidecar;
use crate::support::{Fixture, eventually, http};
use serde_json::Value;

const SALES: &str = "/api/v1/datasphere/consumption/relational/DEMO/SALES/SALES?$top=1";
const USERS: &str = "/api/v1/scim2/Users";

/// A configuration whose servers have a name that nobody resolves but the proxy.
fn elsewhere(fixture: &Fixture) -> String {
    fixture.config("", "").replace("https://localhost:", "https://acme.test:")
}

/// The same with this in the client and in the upstream.
fn with(config: &str, keys: &str) -> String {
    let client = config.replace("    client_id:", &format!("    {keys}\n    client_id:"));
    client.replace("datasphere: { ", &format!("datasphere: {{ {}, ", keys.replace("\n    ", ", ")))
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
    let keys = format!("proxy: \"http://tool:open%20sesame@{}\"", proxy.address);
    let sidecar = Sidecar::ready(&with(&elsewhere(&fixture), &keys)).await;
    // A tunnel is kept when its answer has ended, which the caller may know first.
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
    // Nobody resolves acme.test here, so that what is an exception can't be reached.
    for (no_proxy, status) in [("", 200), (&*tenant, 502)] {
        let environment = [("HTTPS_PROXY", address.as_str()), ("NO_PROXY", no_proxy)];
        let mut process =
            Process::start_in(folder.path(), &elsewhere(&fixture), &environment).await;
        let ready = format!("{}/readyz", process.admin);
        eventually("ready", async || http().get(&ready).send().await.unwrap().status() == 200)
            .await;
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
async fn a_proxy_that_refuses_is_told_with_its_status() {
    let (fixture, proxy) = (Fixture::start().await, ForwardProxy::start().await);
    // Only the upstream is behind it.
    let config = fixture
        .config("", "")
        .replace("datasphere: { ", &format!("datasphere: {{ proxy: \"{}\", ", proxy.address));
    let sidecar = Sidecar::ready(&config).await;
    for (answer, told) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno", "407"),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "503"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "is it a proxy?"),
        ("", "no answer"),
    ] {
        proxy.answer(answer);
        let before = proxy.asked().len();
        let refused = sidecar.get(SALES).await;
        assert_eq!(refused.status(), 502);
        let text = refused.text().await.unwrap();
        assert!(text.contains(r#""kind":"upstream_proxy""#) && text.contains(told), "{text}");
        assert_eq!(proxy.asked().len() - before, 1, "a refusal is not asked for again: {answer}");
    }
    let series = r#"bearerd_requests_total{code_class="5xx",method="GET",outcome="upstream_proxy""#;
    eventually("counted", async || sidecar.metric(series).await == 4.0).await;
    drop(proxy);
    let text = sidecar.get(SALES).await.text().await.unwrap();
    assert!(
        text.contains(r#""kind":"upstream_proxy""#) && text.contains("cannot connect"),
        "{text}"
    );
    assert_eq!(fixture.tenant.seen().tenant_requests, 0);
}

#[tokio::test]
async fn an_issuer_behind_a_proxy_that_refuses_is_told_and_credentials_are_not_tried_over_and_over()
{
    let (fixture, proxy) = (Fixture::start().await, ForwardProxy::start().await);
    let keys = format!("proxy: \"http://tool:wrong@{}\"", proxy.address);
    for (status, advice, least, most) in [
        ("407 Proxy Authentication Required", "proxy_credentials_file", 27.0, 33.0),
        ("503 Service Unavailable", "`bearerd doctor` shows its answer", 0.0, 1.0),
    ] {
        proxy.answer(&format!("HTTP/1.1 {status}\r\n\r\n"));
        let folder = tempfile::tempdir().unwrap();
        let process = Process::start(folder.path(), &with(&elsewhere(&fixture), &keys), &[]).await;
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
    let keys =
        format!("proxy: \"{}\"\n    proxy_credentials_file: {}", proxy.address, file.display());
    let config = with(&elsewhere(&fixture), &keys);
    let process = Process::start(fixture.folder.path(), &config, &[]).await;
    let ready = format!("{}/readyz", process.admin);
    eventually("ready", async || http().get(&ready).send().await.unwrap().status() == 200).await;
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
async fn tls_is_verified_through_a_tunnel_as_without() {
    let (fixture, other, proxy) =
        (Fixture::start().await, Fixture::start().await, ForwardProxy::start().await);
    let proxied = format!("datasphere: {{ proxy: \"{}\", ", proxy.address);
    let config = fixture.config("", "").replace("datasphere: { ", &proxied);
    // The last one is the upstream's.
    let (before, after) = config.rsplit_once(fixture.path("ca.pem").to_str().unwrap()).unwrap();
    let config = format!("{before}{}{after}", other.path("ca.pem").display());
    let sidecar = Sidecar::ready(&config).await;
    let text = sidecar.get(SALES).await.text().await.unwrap();
    assert!(text.contains(r#""kind":"upstream_tls""#), "{text}");
    assert_eq!(fixture.tenant.seen().tenant_requests, 0);
}

#[tokio::test]
async fn the_doctor_goes_the_same_way() {
    let (fixture, proxy) = (Fixture::start().await, ForwardProxy::start().await);
    let config = with(&elsewhere(&fixture), &format!("proxy: \"{}\"", proxy.address));
    let file = fixture.path("bearerd.yaml");
    std::fs::write(&file, config).unwrap();
    let arguments = ["doctor", "--config", file.to_str().unwrap()];
    let healthy = output(bearerd().args(arguments)).await;
    let told = String::from_utf8(healthy.stdout).unwrap();
    assert!(told.contains(&format!("{} leads there", proxy.address)), "{told}");
    proxy.answer("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    let ill = output(bearerd().args(arguments)).await;
    let told = String::from_utf8(ill.stdout).unwrap();
    assert_eq!(ill.status.code(), Some(1), "{told}");
    assert!(told.contains("407") && told.contains("proxy_credentials_file"), "{told}");
}
