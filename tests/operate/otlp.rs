//! Spans of the real binary at a collector on loopback: one a request, in the caller's trace, and at no
//! request's cost.

use crate::proxy::dead_paths::{SOON, probed_in};
use crate::proxy::requests::raw;
use crate::support::collector::{Collector, Span};
use crate::support::process::Process;
use crate::support::raw_client::RawClient;
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{Fixture, eventually, http, issuer};
use std::collections::BTreeMap;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
/// What becomes of spans that the collector does not take.
const LOST: &str = "does not take spans";

struct World {
    process: Process,
    upstream: Peer,
    issuer: Peer,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start(rest: &str, environment: &[(&str, &str)]) -> Self {
        let issuer = issuer::steady().await;
        let upstream = Peer::start(Behaviour::ok("fine")).await;
        let config = issuer.config(&upstream.url(), "", rest).replace("read: 1s", "read: 1h");
        let folder = tempfile::tempdir().unwrap();
        let process = Process::start_in(folder.path(), &config, environment).await;
        let ready = format!("{}/readyz", process.admin);
        eventually("ready", async || http().get(&ready).send().await.unwrap().status() == 200)
            .await;
        Self { process, upstream, issuer, _folder: folder }
    }

    /// With this collector, named in the usual way.
    async fn telling(collector: &Collector, rest: &str) -> Self {
        Self::start(rest, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.0.url())]).await
    }

    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        http().request(method, format!("{}{path}", self.process.url))
    }

    async fn status(&self, method: &str, path: &str) -> u16 {
        self.request(method, path).send().await.unwrap().status().as_u16()
    }

    /// Ends the process, which tells what it has not told yet.
    async fn end(&mut self) {
        self.process.signal("TERM").await;
        assert_eq!(self.process.exit_code().await, Some(0), "{}", self.process.log());
    }

    /// The `traceparent` of each request that went upstream.
    fn sent(&self) -> Vec<String> {
        let seen = self.upstream.seen();
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
    let mut world = World::start("", &environment).await;
    world.upstream.script([
        issuer::status("401 Unauthorized", "", ""),
        issuer::status("201 Created", "", "made"),
    ]);
    let request = world.request("PUT", "/free/a%20b?$top=1").header("traceparent", TRACE);
    let answer = request.header("tracestate", "v=1").body("12345").send().await.unwrap();
    assert_eq!(answer.status(), 201);
    eventually("told while it runs", async || !collector.spans().is_empty()).await;
    world.end().await;

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
    assert_eq!(world.sent(), [span.traceparent(), span.traceparent()], "of both attempts");
    assert!(world.upstream.seen().iter().all(|seen| seen.header("tracestate") == ["v=1"]));
}

#[tokio::test]
async fn a_trace_that_nobody_began_begins_with_the_span() {
    let collector = Collector::start().await;
    let mut world = World::telling(&collector, "").await;
    let get = || world.request("GET", "/free").header("tracestate", "v=1");
    get().send().await.unwrap();
    get().header("traceparent", "nonsense").send().await.unwrap();
    world.end().await;
    let spans = collector.spans();
    assert_eq!(spans.len(), 2);
    for (span, seen) in spans.iter().zip(world.upstream.seen()) {
        assert_eq!((&*span.parent, &*span.state), ("", ""));
        assert_eq!(seen.header("traceparent"), [span.traceparent()]);
        assert!(seen.header("tracestate").is_empty(), "of no trace: {}", seen.head);
        let told = format!("\"trace_id\":\"{}\"", span.trace);
        assert!(world.process.log().contains(&told), "the access log has the same id");
    }
    assert_ne!(spans[0].trace, spans[1].trace);
    assert_eq!(collector.0.seen()[0].line(), "POST /v1/traces HTTP/1.1");
}

#[tokio::test]
async fn a_trace_that_its_caller_does_not_record_is_not_told() {
    let collector = Collector::start().await;
    let mut world = World::telling(&collector, "").await;
    world.request("GET", "/free/not").header("traceparent", UNSAMPLED).send().await.unwrap();
    world.request("GET", "/free/told").header("traceparent", TRACE).send().await.unwrap();
    world.end().await;
    let spans = collector.spans();
    let [span] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(span.attribute("url.path"), "/free/told");
    let sent = world.sent().remove(0);
    let (trace, own) = sent.split_at(UNSAMPLED.find("b7ad").unwrap());
    assert!(UNSAMPLED.starts_with(trace) && own.ends_with("-00"), "not recorded here: {sent}");
    assert_ne!(sent, UNSAMPLED, "it is ours all the same");
}

#[tokio::test]
async fn a_sampler_of_the_environment_decides_for_traces_that_begin_here() {
    let collector = Collector::start().await;
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.0.url());
    let sampler = ("OTEL_TRACES_SAMPLER", "parentbased_always_off");
    let mut world = World::start("", &[endpoint, sampler, ("OTEL_SERVICE_NAME", "mine")]).await;
    assert_eq!(world.status("GET", "/free").await, 200);
    world.request("GET", "/free").header("traceparent", TRACE).send().await.unwrap();
    world.end().await;
    let spans = collector.spans();
    assert_eq!(spans.len(), 1, "the caller's is recorded: {spans:?}");
    assert_eq!(spans[0].resource["service.name"], "mine");
    let sent = world.sent();
    assert!(sent[0].ends_with("-00") && sent[1] == spans[0].traceparent(), "{sent:?}");
}

#[tokio::test]
async fn failures_are_told_by_their_kind() {
    let collector = Collector::start().await;
    let mut world = World::telling(&collector, "").await;
    world.upstream.script([
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
        assert_eq!(world.status(method, path).await, status);
    }
    let half = world.request("POST", "/free/half").send().await.unwrap();
    assert!(half.bytes().await.is_err());
    assert_eq!(world.status("GET", "/nowhere?$top=1").await, 404);
    assert_eq!(world.status("DELETE", "/data/x").await, 405);
    assert_eq!(world.status("SECRET", "/free").await, 405);
    world.end().await;
    let told = |span: &Span| {
        let attribute = |key| span.attribute(key).to_owned();
        let status = attribute("http.response.status_code");
        let outcome = attribute("bearerd.outcome");
        (span.name.clone(), status, outcome, attribute("error.type"), span.failed)
    };
    let spans: Vec<_> = collector.spans().iter().map(told).collect();
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
async fn a_request_that_is_cut_off_or_left_by_its_caller_is_told_once() {
    let collector = Collector::start().await;
    let mut world = World::telling(&collector, "shutdown: { grace: 200ms }").await;
    world.upstream.script([Behaviour::Hang, Behaviour::Hang]);
    let host = world.process.url.strip_prefix("http://").unwrap().to_owned();
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let mut left = RawClient::connect(&host).await;
    left.send(&request("/free/left")).await;
    eventually("in flight", async || world.upstream.seen().len() == 1).await;
    drop(left);
    eventually("left", async || world.process.log().contains("downstream_closed")).await;
    let mut cut = RawClient::connect(&host).await;
    cut.send(&request("/free/cut")).await;
    eventually("in flight", async || world.upstream.seen().len() == 2).await;
    world.end().await;
    let told = |span: &Span| {
        (
            span.attribute("url.path").to_owned(),
            span.attribute("error.type").to_owned(),
            span.failed,
        )
    };
    let spans: Vec<_> = collector.spans().iter().map(told).collect();
    let expected =
        [("/free/left".into(), String::new(), false), ("/free/cut".into(), "aborted".into(), true)];
    assert_eq!(spans, expected);
}

#[tokio::test]
async fn where_no_collector_is_named_a_trace_goes_on_as_it_came() {
    let mut world = World::start("", &[("OTEL_SERVICE_NAME", "mine")]).await;
    world.request("GET", "/free").header("traceparent", TRACE).send().await.unwrap();
    assert_eq!(world.status("GET", "/free").await, 200);
    world.end().await;
    let sent = world.sent();
    assert_eq!(sent[0], TRACE);
    assert!(sent[1].ends_with("-00"), "nobody records it: {sent:?}");
    assert!(!world.process.log().contains("traces"), "{}", world.process.log());
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_no_request_and_is_told_once() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://user:of-the-url@{nobody}");
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*url), ("OTEL_BSP_SCHEDULE_DELAY", "10")];
    let mut world = World::start("", &environment).await;
    assert_eq!(world.status("GET", "/free").await, 200);
    eventually("told", async || world.process.log().contains(LOST)).await;
    assert_eq!(world.status("GET", "/free").await, 200);
    world.end().await;
    let log = world.process.log();
    assert_eq!(log.matches(LOST).count(), 1, "{log}");
    assert!(log.contains("Connection refused") && !log.contains("of-the-url"), "{log}");
}

#[tokio::test]
async fn a_collector_that_does_not_answer_holds_up_neither_requests_nor_the_end() {
    let collector = Collector(Peer::start(Behaviour::Hang).await);
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.0.url()),
        // The process has to end before that.
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000"),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "2"),
    ];
    let mut world = World::start("", &environment).await;
    assert_eq!(world.status("GET", "/free").await, 200);
    eventually("asked", async || collector.0.seen().len() == 1).await;
    for _ in 0..8 {
        assert_eq!(world.status("GET", "/free").await, 200, "more than the queue holds");
    }
    world.end().await;
}

#[tokio::test]
async fn a_second_signal_does_not_wait_for_the_collector() {
    let collector = Collector(Peer::start(Behaviour::Hang).await);
    let mut world = World::telling(&collector, "shutdown: { lame_duck: 1h }").await;
    assert_eq!(world.status("GET", "/free").await, 200);
    world.process.signal("TERM").await;
    let ready = format!("{}/readyz", world.process.admin);
    eventually("ending", async || http().get(&ready).send().await.unwrap().status() == 503).await;
    world.end().await;
    assert!(collector.spans().is_empty(), "at once");
}

#[tokio::test]
async fn the_collectors_certificate_is_judged_by_the_systems_authorities() {
    for (is_known, reason) in
        [(true, "it answers 40"), (false, "invalid peer certificate: UnknownIssuer")]
    {
        // A demo tenant is no collector, but it has a certificate.
        let fixture = Fixture::start().await;
        let (url, ca) = (fixture.tenant.url().to_string(), fixture.path("ca.pem"));
        let mut environment = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", &*url)];
        if is_known {
            environment.push(("SSL_CERT_FILE", ca.to_str().unwrap()));
        }
        let mut world = World::start("", &environment).await;
        assert_eq!(world.status("GET", "/free").await, 200);
        world.end().await;
        let log = world.process.log();
        assert_eq!(log.matches(reason).count(), 1, "{log}");
    }
}

#[tokio::test]
async fn a_variable_that_cannot_be_followed_is_told_and_nothing_is_exported() {
    let collector = Collector::start().await;
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.0.url());
    let mut world = World::start("", &[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).await;
    world.request("GET", "/free").header("traceparent", TRACE).send().await.unwrap();
    world.end().await;
    let log = world.process.log();
    let told = "No traces are exported: OTEL_EXPORTER_OTLP_PROTOCOL is not http/protobuf";
    assert!(log.contains(told), "{log}");
    assert!(collector.0.seen().is_empty() && world.sent() == [TRACE]);
}

#[tokio::test]
async fn no_secret_token_cookie_or_query_reaches_the_collector() {
    let collector = Collector::start().await;
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.0.url()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=canary-collector"),
    ];
    let mut world = World::start("", &environment).await;
    let host = world.process.url.strip_prefix("http://").unwrap().to_owned();
    let csrf = "x-csrf-token: canary-csrf\r\nset-cookie: JSESSIONID=canary-session; Path=/\r\n";
    world.upstream.always("/api/v1/csrf", issuer::status("200 OK", csrf, ""));
    world.upstream.script([Behaviour::AnswerAndClose("not HTTP: canary-answer\r\n\r\n".into())]);
    for path in ["/free/x", "/free/x", "/nowhere", "/free/../x", "/data/x", "/users/x"] {
        let request = format!(
            "POST {path}?canary-query HTTP/1.1\r\nHost: {host}\r\nCookie: canary-cookie\r\n\
             Authorization: Bearer canary-caller\r\nUser-Agent: canary-agent\r\n\
             Connection: close\r\nContent-Length: 0\r\n\r\n"
        );
        raw(&host, &request).await;
    }
    world.end().await;
    assert_eq!(collector.spans().len(), 6);
    let seen = collector.0.seen();
    assert_eq!(seen[0].header("x-key"), ["canary-collector"], "where it belongs");
    let mut told = world.process.log();
    for seen in &seen {
        told += &seen.head.replace("x-key: canary-collector", "");
        told += &String::from_utf8_lossy(&seen.body);
    }
    for canary in ["canary", "steady-token", "s3cret"] {
        let place = told.find(canary).map(|at| &told[at.saturating_sub(200)..]);
        assert_eq!(place, None, "{canary} came out");
    }
    assert!(world.upstream.seen()[0].head.contains("steady-token"), "on the wire it is");
    assert!(!world.issuer.seen().is_empty());
}

#[tokio::test]
async fn the_connection_to_the_collector_is_looked_after() {
    let collector = Collector::start().await;
    let environment =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.0.url()), ("OTEL_BSP_SCHEDULE_DELAY", "10")];
    let world = World::start("", &environment).await;
    assert_eq!(world.status("GET", "/free").await, 200);
    eventually("told", async || !collector.spans().is_empty()).await;
    assert!(probed_in(collector.0.address.port()).await <= SOON);
}
