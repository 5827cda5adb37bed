//! The alerting rules, their examples, the runbook and the dashboard use only metrics and labels
//! that exist. `interop::promtool` has the tests that need promtool.

use crate::support::configuration::Configuration;
use crate::support::issuer;
use crate::support::promql;
use crate::support::scene::{DemoScene, Scene};
use crate::support::upstream::{Behaviour, Peer};
use bearerd::error::ErrorKind;
use bearerd::metrics::labels::RequestOutcome;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use strum::VariantArray;

const RULES: &str = include_str!("../../deploy/prometheus/bearerd.rules.yaml");
const EXAMPLES: &str = include_str!("../../deploy/prometheus/bearerd.test.yaml");
const DASHBOARD: &str = include_str!("../../deploy/grafana/bearerd.json");
const RUNBOOK: &str = include_str!("../../docs/runbook.md");

/// Labels that Prometheus gives to each series.
const TARGET: [&str; 2] = ["job", "instance"];
/// Labels whose values are closed sets.
const CLOSED: [&str; 4] = ["outcome", "reason", "kind", "code_class"];

/// Every series by name, with its labels and their known values.
struct Exported {
    series: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
    families: BTreeSet<String>,
}

impl Exported {
    /// The series that a sidecar exports if every optional value is known.
    async fn get() -> Self {
        let json = r#"{"access_token":"steady-token","token_type":"bearer","expires_in":3600}"#;
        let headers = "content-type: application/json\r\ndate: Wed, 21 Oct 2026 07:28:00 GMT\r\n";
        let issuer = Peer::start(issuer::status("200 OK", headers, json)).await;
        let upstream = Peer::start(Behaviour::ok("fine")).await;
        let expiring = |config: Configuration| config.client("expires_on", "2030-01-01");
        let scene = Scene::between(issuer, upstream, expiring).await;
        scene.first_request().await;
        let gateway = Scene::gateway().await.sidecar;
        let text = scene.sidecar.probe("/metrics").await.1 + &gateway.probe("/metrics").await.1;
        let mut exported = Self::parse(&text);
        let outcomes = [
            RequestOutcome::Forwarded,
            RequestOutcome::UpstreamIncomplete,
            RequestOutcome::DownstreamClosed,
            RequestOutcome::Aborted,
        ];
        let outcomes = outcomes
            .into_iter()
            .chain(ErrorKind::VARIANTS.iter().copied().map(RequestOutcome::Local));
        let labels = exported.series.get_mut("bearerd_requests_total").unwrap();
        let known = labels.get_mut("outcome").unwrap();
        known.extend(outcomes.map(|outcome| outcome.label().to_owned()));
        // These begin with the first request.
        labels.get_mut("code_class").unwrap().extend(["3xx", "4xx"].map(str::to_owned));
        exported.series.insert("up".into(), BTreeMap::new());
        exported
    }

    fn parse(text: &str) -> Self {
        let mut series: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let parsed = promql::parse(line);
            let [selector] = &parsed.selectors[..] else { panic!("{line}") };
            let labels = series.entry(selector.metric.clone()).or_default();
            for (name, value) in &selector.matchers {
                labels.entry(name.clone()).or_default().insert(value.clone());
            }
        }
        let family = |line: &str| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned());
        Self { series, families: text.lines().filter_map(family).collect() }
    }

    fn has(&self, metric: &str, label: &str) -> bool {
        TARGET.contains(&label) || self.series[metric].contains_key(label)
    }

    /// Checks that an expression uses only series and labels that exist. Returns its metrics.
    fn check_expression(&self, text: &str) -> BTreeSet<String> {
        let found = promql::parse(text);
        for selector in &found.selectors {
            let metric = &selector.metric;
            assert!(self.series.contains_key(metric), "no metric {metric}: {text}");
            for (label, values) in &selector.matchers {
                assert!(self.has(metric, label), "{metric} has no label {label}: {text}");
                for value in values.split('|').filter(|_| CLOSED.contains(&&**label)) {
                    let known = self.series[metric][label].contains(value);
                    assert!(known, "{metric} has no {label} {value}: {text}");
                }
            }
        }
        for grouping in &found.groupings {
            for label in &grouping.labels {
                let mut metrics = grouping.metrics.iter();
                let known = match &*grouping.keyword {
                    "by" => metrics.all(|metric| self.has(metric, label)),
                    _ => metrics.any(|metric| self.has(metric, label)),
                };
                assert!(known, "{} {label}: {text}", grouping.keyword);
            }
        }
        let metrics = found.selectors.into_iter().map(|selector| selector.metric).collect();
        assert!(!BTreeSet::is_empty(&metrics), "no metric at all: {text}");
        metrics
    }

    /// Checks that each of these labels exists on one of these metrics.
    fn check_labels<'a>(
        &self,
        metrics: &BTreeSet<String>,
        labels: impl IntoIterator<Item = &'a str>,
    ) {
        for label in labels {
            let known = metrics.iter().any(|metric| self.has(metric, label));
            assert!(known, "{label} of {metrics:?}");
        }
    }
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

fn array(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// Every alerting rule.
fn rules() -> Vec<Value> {
    let rules = yaml(RULES);
    array(&rules["groups"]).iter().flat_map(|group| array(&group["rules"])).cloned().collect()
}

fn alerts() -> BTreeSet<String> {
    rules().iter().map(|rule| text(&rule["alert"]).to_owned()).collect()
}

/// Each text between these two marks.
fn between<'a>(text: &'a str, begin: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(begin).skip(1).filter_map(move |rest| Some(rest.split_once(end)?.0.trim()))
}

/// The names of the variables in an annotation.
fn labels_in(annotation: &str) -> impl Iterator<Item = &str> {
    let end = |rest: &str| rest.find(|next: char| !next.is_alphanumeric() && next != '_');
    annotation.split("$labels.").skip(1).map(move |rest| &rest[..end(rest).unwrap_or(rest.len())])
}

/// The runbook's entries by heading.
fn entries() -> BTreeMap<&'static str, &'static str> {
    let entry = |entry: &'static str| entry.split_once('\n');
    let (_, entries) = RUNBOOK.split_once("\n## ").unwrap();
    entries
        .split("\n## ")
        .filter_map(entry)
        .filter(|(name, _)| name.starts_with("Bearerd"))
        .collect()
}

/// A panel, an annotation or a variable of the dashboard.
pub(crate) struct Shown {
    /// The title of the panel, or the name of the annotation or variable.
    pub(crate) title: String,
    pub(crate) expression: String,
    labels: BTreeSet<String>,
}

/// All expressions of the dashboard, with its variables replaced.
pub(crate) fn dashboard_expressions() -> Vec<Shown> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut shown = Vec::new();
    let mut add = |title: &Value, expression: &Value, legend: &str| {
        let labels = between(legend, "{{", "}}").map(str::to_owned).collect();
        let expression = text(expression).replace("$__rate_interval", "5m");
        shown.push(Shown { title: text(title).to_owned(), expression, labels });
    };
    for panel in array(&dashboard["panels"]).iter().filter(|panel| panel["type"] != "row") {
        for target in array(&panel["targets"]) {
            add(&panel["title"], &target["expr"], text(&target["legendFormat"]));
        }
    }
    for annotation in array(&dashboard["annotations"]["list"]) {
        if annotation["builtIn"] != 1 {
            add(&annotation["name"], &annotation["expr"], text(&annotation["textFormat"]));
        }
    }
    for variable in array(&dashboard["templating"]["list"]) {
        if variable["type"] == "query" {
            let query = text(&variable["query"]["query"]);
            let inner = between(query, "label_values(", ")").next().unwrap();
            let (expression, label) = inner.rsplit_once(", ").unwrap();
            add(&variable["name"], &expression.into(), &format!("{{{{{label}}}}}"));
        }
    }
    shown
}

#[tokio::test]
async fn the_rules_use_only_metrics_and_labels_that_exist() {
    let exported = Exported::get().await;
    for rule in rules() {
        let metrics = exported.check_expression(text(&rule["expr"]));
        for annotation in ["summary", "description"] {
            exported.check_labels(&metrics, labels_in(text(&rule["annotations"][annotation])));
        }
    }
}

#[tokio::test]
async fn the_examples_of_the_rules_use_series_as_they_are_exported() {
    let exported = Exported::get().await;
    let examples = yaml(EXAMPLES);
    for example in array(&examples["tests"]) {
        for series in array(&example["input_series"]) {
            let series = text(&series["series"]);
            exported.check_expression(series);
            let parsed = promql::parse(series);
            let selector = &parsed.selectors[0];
            let given: BTreeSet<_> = selector.matchers.iter().map(|(label, _)| &**label).collect();
            let labels = exported.series[&selector.metric].keys().map(String::as_str);
            assert_eq!(given, labels.chain(TARGET).collect(), "{series}");
        }
    }
}

#[tokio::test]
async fn the_dashboard_shows_every_metric_and_uses_no_other() {
    let exported = Exported::get().await;
    let mut shown = BTreeSet::new();
    for panel in dashboard_expressions() {
        let metrics = exported.check_expression(&panel.expression);
        exported.check_labels(&metrics, panel.labels.iter().map(String::as_str));
        shown.extend(metrics);
    }
    for family in exported.families.iter().filter(|family| family.starts_with("bearerd_")) {
        let is_shown = shown.contains(family) || shown.contains(&format!("{family}_bucket"));
        assert!(is_shown, "{family}");
    }
}

#[test]
fn the_dashboard_can_be_imported_anywhere_and_explains_itself() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut ids = BTreeSet::new();
    for panel in array(&dashboard["panels"]) {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "twice: {}", panel["id"]);
        if panel["type"] != "row" {
            assert!(text(&panel["description"]).ends_with('.'), "{}", panel["title"]);
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
    }
    let variables = array(&dashboard["templating"]["list"]);
    let variables: BTreeSet<_> = variables.iter().map(|variable| text(&variable["name"])).collect();
    for used in between(DASHBOARD, "=~\\\"$", "\\\"") {
        assert!(variables.contains(used), "{used}");
    }
    assert!(variables.contains("datasource") && dashboard["id"].is_null());
    assert!(!DASHBOARD.contains("__inputs") && !DASHBOARD.contains("://"));
}

#[test]
fn every_alert_has_a_severity_and_an_entry_in_the_runbook_that_says_so() {
    let entries = entries();
    for rule in rules() {
        let alert = text(&rule["alert"]);
        let severity = text(&rule["labels"]["severity"]);
        assert!(["critical", "warning", "info"].contains(&severity), "{alert}");
        let anchor = format!("docs/runbook.md#{}", alert.to_lowercase());
        assert_eq!(text(&rule["annotations"]["runbook"]), anchor);
        let entry = entries.get(alert).unwrap_or_else(|| panic!("no entry for {alert}"));
        let (means, _) = entry.split_once("**Now:**").unwrap();
        assert!(means.contains(severity), "{alert}: {means}");
        for part in ["**Look:**", "**Fix", "**Fixed"] {
            assert!(entry.contains(part), "{alert}: no {part}");
        }
    }
}

#[test]
fn every_entry_of_the_runbook_has_an_alert_and_every_link_an_entry() {
    let alerts = alerts();
    let named: BTreeSet<_> = entries().into_keys().map(str::to_owned).collect();
    assert_eq!(named, alerts);
    for link in between(RUNBOOK, "](#", ")") {
        assert!(alerts.iter().any(|alert| alert.to_lowercase() == link), "{link}");
    }
}

#[test]
fn every_alert_has_an_example_that_fires_and_one_that_is_silent() {
    let examples = yaml(EXAMPLES);
    let tests: Vec<_> = array(&examples["tests"])
        .iter()
        .flat_map(|example| array(&example["alert_rule_test"]))
        .collect();
    for rule in rules() {
        let labels = rule["labels"].as_object().unwrap();
        let is_of_rule =
            |alert: &Value| labels.iter().all(|(name, value)| alert["exp_labels"][name] == *value);
        let of_alert = || tests.iter().filter(|test| test["alertname"] == rule["alert"]);
        let fires = |test: &&Value| array(&test["exp_alerts"]).iter().any(is_of_rule);
        assert!(of_alert().any(&fires), "fires: {}", rule["alert"]);
        assert!(of_alert().any(|test| !fires(test)), "is silent: {}", rule["alert"]);
    }
    for test in &tests {
        assert!(alerts().contains(text(&test["alertname"])), "{test}");
    }
}

#[tokio::test]
async fn an_idle_sidecar_has_the_series_that_the_document_says() {
    let document = include_str!("../../docs/observability.md");
    let (_, after) = document.split_once("An idle sidecar with the default routes has ").unwrap();
    let DemoScene { sidecar, .. } = &DemoScene::start().await;
    let (_, text) = sidecar.probe("/metrics").await;
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(after.split(' ').next().unwrap(), series.to_string());
}
