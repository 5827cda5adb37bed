//! Clocks that disagree: the issuer's, this machine's, and that of a server between them.

use crate::support::configuration::Configuration;
use crate::support::issuer;
use crate::support::process::{bearerd, output, written};
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer, Seen};
use crate::support::{Fixture, SALES, eventually};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bearerd::demo::{DemoFaults, IssuerFault};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::Value;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const HOUR: i64 = 3600;

fn unix_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

fn issuer_clock(seconds: i64) -> DemoFaults {
    DemoFaults { issuer_clock_s: seconds, ..DemoFaults::default() }
}

/// A configuration whose client signs assertions with a key that the issuer knows.
fn signing(fixture: &Fixture) -> Configuration {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    fixture.tenant.register_client_key(&key.public_key_pem()).unwrap();
    std::fs::write(fixture.path("key.pem"), key.serialize_pem()).unwrap();
    fixture
        .configuration()
        .without_client_keys(&["client_secret_file"])
        .client("client_auth", "private-key-jwt")
        .client("private_key_file", fixture.path("key.pem").display())
}

async fn token_requests(sidecar: &Sidecar, outcome: &str) -> f64 {
    let labels = format!(r#"{{client="technical-user",outcome="{outcome}"}}"#);
    sidecar.metric(&format!("bearerd_token_requests_total{labels}")).await
}

#[tokio::test]
async fn a_machine_whose_clock_is_hours_off_gets_and_uses_its_tokens() {
    for ahead in [-2 * HOUR, 2 * HOUR] {
        let fixture = Fixture::start().await;
        fixture.tenant.set_faults(issuer_clock(ahead));
        let sidecar = Sidecar::ready(&fixture.configuration()).await;
        assert_eq!(sidecar.get(SALES).await.status(), 200, "{ahead}");
        let lifetime = sidecar.metric("bearerd_token_expiry_timestamp_seconds").await
            - sidecar.metric("bearerd_token_issued_timestamp_seconds").await;
        assert!((lifetime - 43_200.0).abs() < 60.0, "{ahead}: {lifetime}");
        let skew = sidecar.metric("bearerd_clock_skew_seconds").await;
        assert!((skew - ahead as f64).abs() < 60.0, "{ahead}: {skew}");
    }
}

#[tokio::test]
async fn an_assertion_is_accepted_by_an_issuer_with_another_clock() {
    for (ahead, requests) in [(0, 1), (-1, 1), (-50, 1), (150, 1), (-2 * HOUR, 2), (2 * HOUR, 2)] {
        let fixture = Fixture::start().await;
        fixture.tenant.set_faults(issuer_clock(ahead));
        let sidecar = Sidecar::ready(&signing(&fixture)).await;
        assert_eq!(sidecar.get(SALES).await.status(), 200, "{ahead}");
        assert_eq!(token_requests(&sidecar, "success").await, 1.0, "{ahead}");
        assert_eq!(fixture.tenant.seen().token_requests, requests, "{ahead}: it learns the time");
        // From now on it knows the issuer's time.
        fixture.tenant.rotate_keys();
        assert_eq!(sidecar.get(SALES).await.status(), 200, "{ahead}");
        assert_eq!(fixture.tenant.seen().token_requests, requests + 1, "{ahead}");
    }
}

/// The claims of the assertion in a token request.
fn assertion(seen: &Seen) -> Value {
    let form = url::form_urlencoded::parse(&seen.body).into_owned();
    let found = form.into_iter().find(|(name, _)| name == "client_assertion").unwrap().1;
    let claims = URL_SAFE_NO_PAD.decode(found.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&claims).unwrap()
}

#[tokio::test]
async fn if_the_date_header_is_not_the_issuers_clock_the_next_assertion_has_the_sidecars_time_again()
 {
    let date = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let date = format!("date: {}\r\n", httpdate::fmt_http_date(date));
    let token = r#"{"access_token":"t","token_type":"bearer","expires_in":3600}"#;
    let refusal = issuer::status("401 Unauthorized", &date, r#"{"error":"invalid_client"}"#);
    let issuer = Peer::start(issuer::status("200 OK", &date, token)).await;
    let upstream = Peer::start(issuer::status("401 Unauthorized", "", "")).await;
    upstream.script([Behaviour::ok("fine")]);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pem");
    std::fs::write(&path, key.serialize_pem()).unwrap();
    let config = issuer
        .configuration(&upstream.url())
        .without_client_keys(&["client_secret"])
        .client("client_auth", "private-key-jwt")
        .client("private_key_file", path.display());
    let sidecar = Sidecar::ready(&config).await;
    assert_eq!(sidecar.get("/free").await.status(), 200);
    issuer.script([refusal]);
    // The upstream's refusal causes another token request.
    sidecar.get("/free").await;
    eventually("asked twice more", async || issuer.seen().len() >= 3).await;
    let times: Vec<_> =
        issuer.seen().iter().map(|seen| assertion(seen)["iat"].as_i64().unwrap()).collect();
    let is_local = |time: i64| (unix_now() - time).abs() < 600;
    assert!(is_local(times[0]), "no other time is known yet: {times:?}");
    assert!((times[1] - 1_000_000_000).abs() < 600, "by the date of its response: {times:?}");
    assert!(is_local(times[2]), "that time was refused: {times:?}");
}

#[tokio::test]
async fn a_refusal_shows_the_issuers_time_too() {
    let fixture = Fixture::start().await;
    let refusing = DemoFaults { issuer: IssuerFault::RefuseClient, ..issuer_clock(-2 * HOUR) };
    fixture.tenant.set_faults(refusing);
    let sidecar = Sidecar::start(&fixture.configuration());
    let skew = async || sidecar.metric("bearerd_clock_skew_seconds").await;
    eventually("known", async || (skew().await + 7200.0).abs() < 60.0).await;
}

#[tokio::test]
async fn the_doctor_reports_the_clock_when_the_issuer_refuses() {
    let fixture = Fixture::start().await;
    let refusing = DemoFaults { issuer: IssuerFault::RefuseClient, ..issuer_clock(-2 * HOUR) };
    fixture.tenant.set_faults(refusing);
    let config = written(fixture.folder.path(), &signing(&fixture));
    let mut command = bearerd();
    let ended = output(command.args(["doctor", "--config"]).arg(config)).await;
    let text = String::from_utf8(ended.stdout).unwrap();
    let distance = text.split_once("the issuer's clock is ").and_then(|(_, text)| {
        humantime::parse_duration(text.split_once(" behind this machine's")?.0).ok()
    });
    // A busy machine takes a while between the two readings.
    assert!(distance.is_some_and(|time| time.as_secs().abs_diff(7200) < 60), "{text}");
    assert!(text.contains("set this machine's clock (NTP)"), "{text}");
}
