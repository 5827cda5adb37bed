//! Export of traces by OTLP to a collector on loopback: one span for each request, in the caller's
//! trace.

use crate::proxy::dead_paths::{SOON, probed_in};
use crate::support::collector::{Collector, Span};
use crate::support::configuration::Configuration;
use crate::support::process::{Process, bearerd};
use crate::support::raw_client::{RawClient, exchange};
use crate::support::scene::{Scene, unchanged};
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{Fixture, eventually, http, issuer};
use std::collections::BTreeMap;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
/// A part of the warning about spans that the collector does not accept.
const LOST: &str = "does not accept spans";

struct TracingScene(Scene<Peer, Process>);

impl TracingScene {
    async fn start(environment: &[(&str, &str)]) -> Self {
        Self::with(environment, unchanged).await
    }

    async fn with(
        environment: &[(&str, &str)],
        change: impl FnOnce(Configuration) -> Configuration,
    ) -> Self {
        let mut command = bearerd();
        command.envs(environment.iter().copied());
        let timeouts = "{ connect: 1s, read: 1h }";
        let change = |config: Configuration| change(config.upstream("timeouts", timeouts));
        Self(Scene::process_by(command, change).await)
    }

    /// A process that exports traces to this collector.
    async fn exporting(
        collector: &Collector,
        change: impl FnOnce(Configuration) -> Configuration,
    ) -> Self {
        Self::with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.0.url())], change).await
    }

    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        http().request(method, format!("{}{path}", self.0.sidecar.url))
    }

    async fn status(&self, method: &str, path: &str) -> u16 {
        self.request(method, path).send().await.unwrap().status().as_u16()
    }

    /// Ends the process, which exports the remaining spans.
    async fn end(&mut self) {
        self.0.sidecar.signal("TERM").await;
        assert_eq!(self.0.sidecar.exit_code().await, Some(0), "{}", self.0.sidecar.log());
    }

    /// The `traceparent` of each request that the upstream received.
    fn sent(&self) -> Vec<String> {
        let seen = self.0.upstream.seen();
        seen.iter().map(|seen| seen.header("traceparent").join(",")).collect()
    }
}

fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn a_request_is_one_span_in_its_callers_trace() {
    let collector = Collector::start().await;
    let url = format!("{}/v1/", collector.0.url());
    let environment = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*url),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20of-the-collector"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
    ];
    let mut scene = TracingScene::start(&environment).await;
    scene.0.upstream.script([
        issuer::status("401 Unauthorized", "", ""),
        issuer::status("201 Created", "", "made"),
    ]);
    let request = scene.request("PUT", "/free/a%20b?$top=1").header("traceparent", TRACE);
    let answer = request.header("tracestate", "v=1").body("12345").send().await.unwrap();
    assert_eq!(answer.status(), 201);
    eventually("exported before the end", async || !collector.spans().is_empty()).await;
    scene.end().await;

    let spans = collector.spans();
    let [span] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(span.trace, "0af7651916cd43dd8448eb211c80319c");
    assert_eq!((&*span.parent, &*span.state), ("b7ad6b7169203331", "v=1"));
    assert_eq!((&*span.name, span.kind, span.failed), ("PUT /free", 2, false), "2 is a server's");
    let expected = attributes(&[
        ("bearerd.attempt", "2"),
        ("bearerd.heal", "unauthorized"),
        ("bearerd.outcome", "forwarded"),
        ("http.request.method", "PUT"),
        ("http.response.status_code", "201"),
        ("http.route", "/free"),
        ("url.path", "/free/a%20b"),
        ("url.scheme", "http"),
    ]);
    assert_eq!(span.attributes, expected);
    assert_eq!(span.resource["service.name"], "bearerd");
    assert_eq!(span.resource["deployment.environment.name"], "test");

    let seen = collector.0.seen().remove(0);
    assert_eq!(seen.line(), "POST /v1/ HTTP/1.1", "the URL of traces is used as it is");
    assert_eq!(seen.header("authorization"), ["Bearer of-the-collector"]);
    assert_eq!(seen.header("content-type"), ["application/x-protobuf"]);
    assert_eq!(scene.sent(), [span.traceparent(), span.traceparent()], "of both attempts");
    assert!(scene.0.upstream.seen().iter().all(|seen| seen.header("tracestate") == ["v=1"]));
}

#[tokio::test]
async fn a_request_without_a_trace_begins_one_with_its_span() {
    let collector = Collector::start().await;
    let mut scene = TracingScene::exporting(&collector, unchanged).await;
    let get = || scene.request("GET", "/free").header("tracestate", "v=1");
    get().send().await.unwrap();
    get().header("traceparent", "nonsense").send().await.unwrap();
    scene.end().await;
    let spans = collector.spans();
    assert_eq!(spans.len(), 2);
    for (span, seen) in spans.iter().zip(scene.0.upstream.seen()) {
        assert_eq!((&*span.parent, &*span.state), ("", ""));
        assert_eq!(seen.header("traceparent"), [span.traceparent()]);
        assert!(seen.header("tracestate").is_empty(), "it belongs to no trace: {}", seen.head);
        let field = format!("\"trace_id\":\"{}\"", span.trace);
        assert!(scene.0.sidecar.log().contains(&field), "the access log has the same id");
    }
    assert_ne!(spans[0].trace, spans[1].trace);
    assert_eq!(collector.0.seen()[0].line(), "POST /v1/traces HTTP/1.1");
}

#[tokio::test]
async fn a_trace_that_its_caller_does_not_record_is_not_exported() {
    let collector = Collector::start().await;
    let mut scene = TracingScene::exporting(&collector, unchanged).await;
    scene.request("GET", "/free/not").header("traceparent", UNSAMPLED).send().await.unwrap();
    scene.request("GET", "/free/recorded").header("traceparent", TRACE).send().await.unwrap();
    scene.end().await;
    let spans = collector.spans();
    let [span] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(span.attribute("url.path"), "/free/recorded");
    let sent = scene.sent().remove(0);
    let (trace, own) = sent.split_at(UNSAMPLED.find("b7ad").unwrap());
    assert!(UNSAMPLED.starts_with(trace) && own.ends_with("-00"), "not recorded here: {sent}");
    assert_ne!(sent, UNSAMPLED, "it has a span of its own");
}

#[tokio::test]
async fn a_sampler_of_the_environment_decides_for_traces_that_begin_here() {
    let collector = Collector::start().await;
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.0.url());
    let sampler = ("OTEL_TRACES_SAMPLER", "parentbased_always_off");
    let mut scene = TracingScene::start(&[endpoint, sampler, ("OTEL_SERVICE_NAME", "mine")]).await;
    assert_eq!(scene.status("GET", "/free").await, 200);
    scene.request("GET", "/free").header("traceparent", TRACE).send().await.unwrap();
    scene.end().await;
    let spans = collector.spans();
    assert_eq!(spans.len(), 1, "the caller's is recorded: {spans:?}");
    assert_eq!(spans[0].resource["service.name"], "mine");
    let sent = scene.sent();
    assert!(sent[0].ends_with("-00") && sent[1] == spans[0].traceparent(), "{sent:?}");
}

#[tokio::test]
async fn failures_are_exported_with_their_kind() {
    let collector = Collector::start().await;
    let mut scene = TracingScene::exporting(&collector, unchanged).await;
    scene.0.upstream.script([
        issuer::status("500 Trouble", "", ""),
        issuer::status("404 Not Found", "", ""),
        Behaviour::AnswerAndClose("not HTTP\r\n\r\n".into()),
        Behaviour::AnswerAndClose("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".into()),
    ]);
    for (method, path, status) in [
        ("POST", "/free/trouble", 500),
        ("POST", "/free/missing", 404),
        ("POST", "/free/nonsense", 502),
    ] {
        assert_eq!(scene.status(method, path).await, status);
    }
    let half = scene.request("POST", "/free/half").send().await.unwrap();
    assert!(half.bytes().await.is_err());
    assert_eq!(scene.status("GET", "/nowhere?$top=1").await, 404);
    assert_eq!(scene.status("DELETE", "/data/x").await, 405);
    assert_eq!(scene.status("SECRET", "/free").await, 405);
    scene.end().await;
    let summary = |span: &Span| {
        let attribute = |key| span.attribute(key).to_owned();
        let status = attribute("http.response.status_code");
        let outcome = attribute("bearerd.outcome");
        (span.name.clone(), status, outcome, attribute("error.type"), span.failed)
    };
    let spans: Vec<_> = collector.spans().iter().map(summary).collect();
    let expected = [
        ("POST /free", "500", "forwarded", "500", true),
        ("POST /free", "404", "forwarded", "", false),
        ("POST /free", "502", "upstream_unreachable", "upstream_unreachable", true),
        ("POST /free", "200", "upstream_incomplete", "upstream_incomplete", true),
        ("GET", "404", "no_route", "", false),
        ("DELETE /data", "405", "method_not_allowed", "", false),
        ("HTTP /free", "405", "method_not_allowed", "", false),
    ];
    let expected = expected.map(|(name, status, outcome, error, failed)| {
        (name.to_owned(), status.to_owned(), outcome.to_owned(), error.to_owned(), failed)
    });
    assert_eq!(spans, expected);
}

#[tokio::test]
async fn a_request_that_is_cut_off_or_left_by_its_caller_is_exported_once() {
    let collector = Collector::start().await;
    let mut scene =
        TracingScene::exporting(&collector, |config| config.key("shutdown", "{ grace: 200ms }"))
            .await;
    scene.0.upstream.script([Behaviour::Hang, Behaviour::Hang]);
    let host = scene.0.sidecar.host().to_owned();
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let mut left = RawClient::connect(&host).await;
    left.send(&request("/free/left")).await;
    eventually("in flight", async || scene.0.upstream.seen().len() == 1).await;
    drop(left);
    eventually("left", async || scene.0.sidecar.log().contains("downstream_closed")).await;
    let mut cut = RawClient::connect(&host).await;
    cut.send(&request("/free/cut")).await;
    eventually("in flight", async || scene.0.upstream.seen().len() == 2).await;
    scene.end().await;
    let summary = |span: &Span| {
        (
            span.attribute("url.path").to_owned(),
            span.attribute("error.type").to_owned(),
            span.failed,
        )
    };
    let spans: Vec<_> = collector.spans().iter().map(summary).collect();
    let expected =
        [("/free/left".into(), String::new(), false), ("/free/cut".into(), "aborted".into(), true)];
    assert_eq!(spans, expected);
}

#[tokio::test]
async fn without_a_collector_a_trace_context_is_passed_on_unchanged() {
    let mut scene = TracingScene::start(&[("OTEL_SERVICE_NAME", "mine")]).await;
    scene.request("GET", "/free").header("traceparent", TRACE).send().await.unwrap();
    assert_eq!(scene.status("GET", "/free").await, 200);
    scene.end().await;
    let sent = scene.sent();
    assert_eq!(sent[0], TRACE);
    assert!(sent[1].ends_with("-00"), "it is not recorded: {sent:?}");
    assert!(!scene.0.sidecar.log().contains("traces"), "{}", scene.0.sidecar.log());
}

#[tokio::test]
async fn an_unreachable_collector_costs_no_request_and_is_reported_once() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://user:of-the-url@{closed}");
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*url), ("OTEL_BSP_SCHEDULE_DELAY", "10")];
    let mut scene = TracingScene::start(&environment).await;
    assert_eq!(scene.status("GET", "/free").await, 200);
    eventually("reported", async || scene.0.sidecar.log().contains(LOST)).await;
    assert_eq!(scene.status("GET", "/free").await, 200);
    scene.end().await;
    let log = scene.0.sidecar.log();
    assert_eq!(log.matches(LOST).count(), 1, "{log}");
    assert!(log.contains("it refuses connections") && !log.contains("of-the-url"), "{log}");
}

#[tokio::test]
async fn a_collector_that_does_not_answer_does_not_hold_up_requests_or_the_end() {
    let collector = Collector(Peer::start(Behaviour::Hang).await);
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.0.url()),
        // Longer than the test waits for the end of the process.
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000"),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "2"),
    ];
    let mut scene = TracingScene::start(&environment).await;
    assert_eq!(scene.status("GET", "/free").await, 200);
    eventually("asked", async || collector.0.seen().len() == 1).await;
    for _ in 0..8 {
        assert_eq!(scene.status("GET", "/free").await, 200, "more than the queue holds");
    }
    scene.end().await;
}

#[tokio::test]
async fn a_second_signal_does_not_wait_for_the_collector() {
    let collector = Collector(Peer::start(Behaviour::Hang).await);
    let mut scene =
        TracingScene::exporting(&collector, |config| config.key("shutdown", "{ lame_duck: 1h }"))
            .await;
    assert_eq!(scene.status("GET", "/free").await, 200);
    scene.0.sidecar.signal("TERM").await;
    eventually("ending", async || scene.0.sidecar.probe("/readyz").await.0 == 503).await;
    scene.end().await;
    assert!(collector.spans().is_empty(), "at once");
}

#[tokio::test]
async fn the_collectors_certificate_is_verified_by_the_systems_authorities() {
    for (is_known, reason) in [
        (true, "it answers 40"),
        (false, "it has a certificate that is not trusted: its authority"),
    ] {
        // The demo tenant stands for a collector with a certificate.
        let fixture = Fixture::start().await;
        let (url, ca) = (fixture.tenant.url().to_string(), fixture.path("ca.pem"));
        let mut environment = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", &*url)];
        if is_known {
            environment.push(("SSL_CERT_FILE", ca.to_str().unwrap()));
        }
        let mut scene = TracingScene::start(&environment).await;
        assert_eq!(scene.status("GET", "/free").await, 200);
        scene.end().await;
        let log = scene.0.sidecar.log();
        assert_eq!(log.matches(reason).count(), 1, "{log}");
    }
}

#[tokio::test]
async fn an_unsupported_variable_is_reported_and_nothing_is_exported() {
    let collector = Collector::start().await;
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.0.url());
    let mut scene = TracingScene::start(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).await;
    scene.request("GET", "/free").header("traceparent", TRACE).send().await.unwrap();
    scene.end().await;
    let log = scene.0.sidecar.log();
    let output = "No traces are exported: OTEL_EXPORTER_OTLP_PROTOCOL is not http/protobuf";
    assert!(log.contains(output), "{log}");
    assert!(collector.0.seen().is_empty() && scene.sent() == [TRACE]);
}

#[tokio::test]
async fn no_secret_token_cookie_or_query_reaches_the_collector() {
    let collector = Collector::start().await;
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.0.url()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=canary-collector"),
    ];
    let mut scene = TracingScene::start(&environment).await;
    let host = scene.0.sidecar.host().to_owned();
    let csrf = "x-csrf-token: canary-csrf\r\nset-cookie: JSESSIONID=canary-session; Path=/\r\n";
    scene.0.upstream.always("/api/v1/csrf", issuer::status("200 OK", csrf, ""));
    scene.0.upstream.script([Behaviour::AnswerAndClose("not HTTP: canary-answer\r\n\r\n".into())]);
    for path in ["/free/x", "/free/x", "/nowhere", "/free/../x", "/data/x", "/users/x"] {
        let request = format!(
            "POST {path}?canary-query HTTP/1.1\r\nHost: {host}\r\nCookie: canary-cookie\r\n\
             Authorization: Bearer canary-caller\r\nUser-Agent: canary-agent\r\n\
             Connection: close\r\nContent-Length: 0\r\n\r\n"
        );
        exchange(&host, &request).await;
    }
    scene.end().await;
    assert_eq!(collector.spans().len(), 6);
    let seen = collector.0.seen();
    assert_eq!(seen[0].header("x-key"), ["canary-collector"], "the collector gets its own header");
    let mut output = scene.0.sidecar.log();
    for seen in &seen {
        output += &seen.head.replace("x-key: canary-collector", "");
        output += &String::from_utf8_lossy(&seen.body);
    }
    for canary in ["canary", "steady-token", "s3cret"] {
        let place = output.find(canary).map(|at| &output[at.saturating_sub(200)..]);
        assert_eq!(place, None, "{canary} is in the output");
    }
    assert!(scene.0.upstream.seen()[0].head.contains("steady-token"), "the upstream gets it");
    assert!(!scene.0.issuer.seen().is_empty());
}

#[tokio::test]
async fn the_connection_to_the_collector_has_keep_alive_probes() {
    let collector = Collector::start().await;
    let environment =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.0.url()), ("OTEL_BSP_SCHEDULE_DELAY", "10")];
    let scene = TracingScene::start(&environment).await;
    assert_eq!(scene.status("GET", "/free").await, 200);
    eventually("reported", async || !collector.spans().is_empty()).await;
    assert!(probed_in(collector.0.address.port()).await <= SOON);
}
