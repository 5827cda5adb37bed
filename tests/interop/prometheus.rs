//! A real Prometheus scrapes a sidecar through refreshes, an outage of the issuer, an expired
//! client, a tenant that refuses tokens, and the sidecar's end. The shipped alerts fire when they
//! should, and no other does. The panels of the dashboard show data.
//!
//! A night passes in two minutes: every duration in the rules and panels is shortened from minutes
//! to seconds.

use crate::operate::monitoring::dashboard_expressions;
use crate::support::process::{Process, tool};
use crate::support::{Fixture, SALES, eventually, free_address, http};
use bearerd::demo::{DemoFaults, IssuerFault, TenantFault};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};
use tokio::process::{Child, Command};
use tokio_util::task::AbortOnDropHandle;

const RULES: &str = include_str!("../../deploy/prometheus/bearerd.rules.yaml");
/// The longest stage. It is longer than any back-off that a stage waits for.
const STAGE: Duration = Duration::from_secs(75);
/// The lifetime of tokens in seconds.
const LIFETIME: u64 = 12;

/// Shortens minutes to seconds and hours to minutes in brackets and behind `for:`, and the one
/// number that goes with a window.
fn hurried(text: &str) -> String {
    let faster = |duration: &str| duration.replace('m', "s").replace('h', "m");
    let lines = text.lines().map(|line| match line.trim_start().strip_prefix("for: ") {
        Some(duration) => line.replace(duration, &faster(duration)),
        None => {
            let mut parts = line.split('[');
            let first = parts.next().unwrap_or_default().replace("- 300", "- 5");
            parts.fold(first, |line, part| match part.split_once(']') {
                Some((window, rest)) => format!("{line}[{}]{rest}", faster(window)),
                None => format!("{line}[{part}"),
            })
        }
    });
    lines.map(|line| line + "\n").collect()
}

struct Prometheus {
    url: String,
    _child: Child,
}

impl Prometheus {
    fn start(folder: &Path, target: &str) -> Self {
        let address = free_address();
        std::fs::write(folder.join("rules.yaml"), hurried(RULES)).unwrap();
        let config = format!(
            "global: {{ scrape_interval: 500ms, scrape_timeout: 400ms, evaluation_interval: 500ms }}
rule_files: [rules.yaml]
scrape_configs:
  - {{ job_name: bearerd, static_configs: [{{ targets: ['{target}'] }}] }}
"
        );
        std::fs::write(folder.join("prometheus.yaml"), config).unwrap();
        let child = Command::new(tool("prometheus"))
            .arg(format!("--config.file={}", folder.join("prometheus.yaml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("prometheus.log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .expect("there is a Prometheus (scripts/setup.sh --with-prometheus)");
        Self { url: format!("http://{address}"), _child: child }
    }

    /// The names of the firing alerts.
    async fn firing(&self) -> BTreeSet<String> {
        let Ok(answer) = http().get(format!("{}/api/v1/alerts", self.url)).send().await else {
            return BTreeSet::new();
        };
        let answer: Value = answer.json().await.unwrap();
        let alerts = answer["data"]["alerts"].as_array().unwrap().iter();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        firing.map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
    }

    /// The result of an expression.
    async fn query(&self, expression: &str) -> Vec<Value> {
        let query = [("query", expression)];
        let request = http().get(format!("{}/api/v1/query", self.url)).query(&query);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().unwrap().clone()
    }

    /// Waits until an expression has a result.
    async fn shows(&self, title: &str, expression: &str) {
        eventually(title, async || !self.query(expression).await.is_empty()).await;
    }

    /// Waits until a panel shows data.
    async fn panel(&self, title: &str) {
        let (_, expression) = panels().into_iter().find(|(known, _)| known == title).unwrap();
        self.shows(title, &expression).await;
    }

    async fn value(&self, expression: &str) -> f64 {
        let series = self.query(expression).await;
        let value = series.first().and_then(|series| series["value"][1].as_str());
        value.map_or(f64::NAN, |value| value.parse().unwrap())
    }

    /// Waits until the wanted alerts fire. Fails if one fires that is not wanted or tolerated.
    async fn expect(&self, stage: &str, wanted: &[&str], tolerated: &[&str]) {
        let wanted: BTreeSet<String> = wanted.iter().map(ToString::to_string).collect();
        let mut seen = BTreeSet::new();
        let waiting = async {
            loop {
                seen = self.firing().await;
                let is_known =
                    |name: &String| wanted.contains(name) || tolerated.contains(&name.as_str());
                assert!(seen.iter().all(is_known), "{stage}: {seen:?}, wanted {wanted:?}");
                if seen.is_superset(&wanted) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        };
        let in_time = tokio::time::timeout(STAGE, waiting).await;
        assert!(in_time.is_ok(), "{stage}: {seen:?}, wanted {wanted:?}");
    }

    /// Waits until exactly these alerts fire.
    async fn calm(&self, stage: &str, left: &[&str]) {
        let left: BTreeSet<String> = left.iter().map(ToString::to_string).collect();
        let mut seen = BTreeSet::new();
        let waiting = async {
            loop {
                seen = self.firing().await;
                if seen == left {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        };
        let in_time = tokio::time::timeout(STAGE, waiting).await;
        assert!(in_time.is_ok(), "{stage}: {seen:?} fire, wanted {left:?}");
    }
}

/// The expressions of the dashboard with shortened durations, and with all values for its
/// variables.
fn panels() -> Vec<(String, String)> {
    let asked = dashboard_expressions().into_iter().map(|shown| {
        let mut parts = shown.expression.split("\"$");
        let first = parts.next().unwrap_or_default().to_owned();
        let filled = parts.fold(first, |filled, part| {
            let rest = part.split_once('"').map_or("", |(_, rest)| rest);
            format!("{filled}\".*\"{rest}")
        });
        (shown.title, hurried(&filled))
    });
    asked.collect()
}

fn trouble(issuer: IssuerFault) -> DemoFaults {
    DemoFaults { issuer, token_lifetime: LIFETIME, ..DemoFaults::default() }
}

/// A tool that reads five times a second.
fn reader(url: String) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let (http, mut ticks) = (http(), tokio::time::interval(Duration::from_millis(200)));
        loop {
            ticks.tick().await;
            // The result does not matter: the sidecar counts it.
            let _ = http.get(format!("{url}{SALES}")).send().await;
        }
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Prometheus; make test installs it and runs this"]
async fn the_alerts_and_panels_follow_the_events_of_a_night() {
    const AHEAD: &str = "BearerdClientExpiring";
    let fixture = Fixture::start().await;
    fixture.tenant.set_faults(trouble(IssuerFault::None));
    let end = SystemTime::now() + Duration::from_secs(20 * 86_400);
    let end = humantime::format_rfc3339_seconds(end).to_string();
    let config = fixture.configuration().client("expires_on", &end[..10]).client("wait", "100ms");
    let mut process = Process::start(fixture.folder.path(), &config).await;
    let folder = tempfile::tempdir().unwrap();
    let prometheus =
        Prometheus::start(folder.path(), process.admin.strip_prefix("http://").unwrap());
    let _reader = reader(process.url.clone());

    // Two refreshes pass.
    prometheus.expect("a quiet evening", &[AHEAD], &[]).await;
    let generation = "bearerd_token_generation";
    while prometheus.value(generation).await.is_nan() || prometheus.value(generation).await < 3.0 {
        prometheus.expect("a quiet evening", &[AHEAD], &[]).await;
    }
    // Without incidents these panels show no data, and all others do.
    let quiet = [
        "Local answers by kind",
        "CSRF tokens fetched",
        "New credentials by outcome",
        "Reloads of the configuration",
        // These are of a gateway, with callers, TLS and an audit log.
        "Requests by caller",
        "Time left of listener certificates",
        "Audit log",
        "Starts",
        "Tokens that the upstream refused",
    ];
    for (title, expression) in panels() {
        if quiet.contains(&title.as_str()) {
            assert!(prometheus.query(&expression).await.is_empty(), "{title}");
        } else {
            prometheus.shows(&title, &expression).await;
        }
    }
    assert!(prometheus.value("bearerd_token_expiry_timestamp_seconds - time()").await > 0.0);

    fixture.tenant.set_faults(trouble(IssuerFault::Unavailable));
    let outage = [
        AHEAD,
        "BearerdNoUsableToken",
        "BearerdRequestsFailing",
        "BearerdTokenExpiring",
        "BearerdTokenRefreshFailing",
        "BearerdTokenWaitsFailing",
    ];
    // This alert looks back for longer than the rest of the night.
    let some = "BearerdSomeRequestsFailing";
    prometheus.expect("the issuer is down", &outage, &[some]).await;
    prometheus.panel("Local answers by kind").await;
    assert_eq!(prometheus.value("bearerd_token_usable").await, 0.0);
    assert!(prometheus.value("bearerd_token_refresh_consecutive_failures").await > 0.0);

    fixture.tenant.set_faults(trouble(IssuerFault::RefuseClient));
    let refused = [&outage[..], &["BearerdCredentialRejected"]].concat();
    prometheus.expect("the client has expired", &refused, &[some]).await;

    fixture.tenant.set_faults(trouble(IssuerFault::None));
    // A new secret ends the back-off.
    let secret = fixture.tenant.rotate_client_secret();
    std::fs::write(fixture.path("secret"), secret).unwrap();
    prometheus.panel("New credentials by outcome").await;
    let late = [AHEAD, some];
    prometheus.calm("recovered", &late).await;

    fixture
        .tenant
        .set_faults(DemoFaults { tenant: TenantFault::RefuseAlways, ..trouble(IssuerFault::None) });
    let tolerated = [some, "BearerdTokenHealsFrequent"];
    prometheus.expect("the tenant refuses", &[AHEAD, "BearerdTokenRefused"], &tolerated).await;

    prometheus.panel("Tokens that the upstream refused").await;

    process.signal("KILL").await;
    process.exit_code().await;
    let gone = [&tolerated[..], &[AHEAD, "BearerdTokenRefused", "BearerdRequestsFailing"]].concat();
    prometheus.expect("it is gone", &["BearerdDown"], &gone).await;
}
