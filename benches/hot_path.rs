//! Costs that every request has: its token, its route, and the proxy's hooks.
//!
//! `cargo bench --bench hot_path` measures. `cargo test --benches` only runs each benchmark once.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/support/one_token.rs"]
mod one_token;

use bearerd::config::{self, Config, Flags, ListenerId};
use bearerd::drain::Drain;
use bearerd::environment::Environment;
use bearerd::http_client::set_up_tls;
use bearerd::metrics::Metrics;
use bearerd::otlp::Spans;
use bearerd::proxy::context::Context;
use bearerd::proxy::credentials::Credentials;
use bearerd::proxy::guard::Guard;
use bearerd::proxy::route::Router;
use bearerd::proxy::upstream::UpstreamHandle;
use bearerd::proxy::{Proxy, RouteParts, Table, TableParts};
use bearerd::telemetry;
use bearerd::token::ClientHandle;
use bearerd::token::refresher::{NewSource, Refresher};
use bearerd::token::store::TokenStore;
use bearerd::traffic::Traffic;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use one_token::OneToken;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{ProxyHttp, Session};
use std::hint::black_box;
use std::io::{Cursor, sink};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;
use tracing::subscriber;

const CONFIG: &str = "
clients:
  technical-user: { token_url: https://acme.example/oauth/token, client_id: id, client_secret: s }
upstreams:
  datasphere: { url: https://acme.eu10.hcs.cloud.sap }
";
/// The header of a request for a page of data, as a tool sends it.
const REQUEST: &str =
    "GET /api/v1/datasphere/consumption/relational/SPACE/VIEW/VIEW?$top=500 HTTP/1.1\r
Host: 127.0.0.1:8080\r
User-Agent: python-requests/2.32.5\r
Accept-Encoding: gzip, deflate\r
Accept: application/json\r
Connection: keep-alive\r
Authorization: Basic dG9vbDpwYXNzd29yZA==\r
X-Forwarded-For: 10.0.0.7\r
OData-MaxVersion: 4.0\r
\r
";

/// A store whose token comes from the real refresher.
fn store(metrics: &Metrics) -> Arc<TokenStore> {
    let store = Arc::new(TokenStore::new());
    let metrics = metrics.client("c");
    let wait = Duration::ZERO;
    let client = ClientHandle { name: "c".into(), store: store.clone(), wait, metrics };
    let refresher = Refresher::new(client, Arc::new(OneToken), NewSource::never(), 0.5);
    let stop = CancellationToken::new();
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let running = tokio::spawn(refresher.run(stop.clone()));
        store.wait(Duration::from_secs(5)).await.unwrap();
        stop.cancel();
        running.await.unwrap();
    });
    store
}

fn token(criterion: &mut Criterion) {
    let store = store(&Metrics::new().unwrap());
    criterion.bench_function("token: read the usable one", |bencher| {
        bencher.iter(|| black_box(store.usable()));
    });
}

fn route(criterion: &mut Criterion) {
    let few = ["/api/v1/datasphere/consumption", "/api/v1/dwc", "/api/v1/scim2", "/api/v1/content"];
    let many: Vec<String> = (0..200).map(|index| format!("/tenant-{index}/api/v1")).collect();
    let target = b"/api/v1/datasphere/consumption/relational/SPACE/VIEW/VIEW?$top=500&$skip=1000";
    let router = Router::new(few);
    criterion.bench_function("route: one of 4", |bencher| {
        bencher.iter(|| black_box(router.find(black_box(target))));
    });
    let router = Router::new(many.iter().map(String::as_str).chain(few));
    criterion.bench_function("route: one of 204", |bencher| {
        bencher.iter(|| black_box(router.find(black_box(target))));
    });
}

/// The proxy for this configuration, built as the app builds it.
fn proxy(config: &Config) -> Proxy {
    set_up_tls();
    let metrics = Arc::new(Metrics::new().unwrap());
    let guard = Arc::new(Guard::new(&config.access.hosts, Credentials::default()));
    let client = config.clients.first().unwrap();
    let upstream = config.upstreams.first().unwrap();
    let upstream = Arc::new(UpstreamHandle::new(upstream).unwrap());
    let client = ClientHandle {
        name: client.name.clone(),
        store: store(&metrics),
        wait: client.wait,
        metrics: metrics.client(&client.name),
    };
    let routes = config.routes.iter().map(|route| RouteParts {
        config: route.clone(),
        client: client.clone(),
        upstream: upstream.clone(),
    });
    let routes: Vec<_> = routes.collect();
    let parts = TableParts {
        config,
        guard: &guard,
        addresses: &config.listen,
        routes: &routes,
        clients: &[client],
        metrics: &metrics,
        traffic: &Traffic::default(),
    };
    let table = Table::new(&parts, None);
    Proxy::new(table, metrics, Drain::default(), Spans::default(), None)
}

/// A request with its proxy. Its hooks must be done at the first poll: the hot path never waits.
struct Way<'a> {
    proxy: &'a Proxy,
    session: Session,
    context: Box<Context>,
}

impl<'a> Way<'a> {
    /// A request whose header was read.
    fn new(proxy: &'a Proxy) -> Self {
        let mut session = Session::new_h1(Box::new(Cursor::new(REQUEST.as_bytes().to_vec())));
        assert!(session.as_downstream_mut().read_request().now_or_never().unwrap().unwrap());
        let mut context = proxy.new_ctx();
        proxy.enter(ListenerId(0), &mut context);
        Self { proxy, session, context }
    }

    fn begun(mut self) -> Self {
        let begun = self.proxy.early_request_filter(&mut self.session, &mut self.context);
        begun.now_or_never().unwrap().unwrap();
        self
    }

    fn admitted(mut self) -> Self {
        let answered = self.proxy.request_filter(&mut self.session, &mut self.context);
        assert!(!answered.now_or_never().unwrap().unwrap(), "it goes upstream");
        self
    }

    /// The request with the copy of its header that pingora makes for the upstream.
    fn copied(self) -> (Self, RequestHeader) {
        let header = self.session.req_header().clone();
        (self, header)
    }

    fn sent((mut way, mut header): (Self, RequestHeader)) -> (Self, RequestHeader) {
        let (session, context) = (&mut way.session, &mut way.context);
        let sent = way.proxy.upstream_request_filter(session, &mut header, context);
        sent.now_or_never().unwrap().unwrap();
        (way, header)
    }

    fn answered(mut self) -> Self {
        let header = Box::new(ResponseHeader::build(200, None).unwrap());
        let written = self.session.write_response_header(header, true);
        written.now_or_never().unwrap().unwrap();
        self
    }

    fn logged(mut self) -> Self {
        self.proxy.logging(&mut self.session, None, &mut self.context).now_or_never().unwrap();
        self
    }
}

fn hooks(criterion: &mut Criterion) {
    let config =
        config::parse("bench", CONFIG, &Environment::default(), &Flags::default()).resolve();
    let config = config.unwrap();
    let (proxy, log) = (proxy(&config), config.log);
    let arrive = || Way::new(&proxy);
    criterion.bench_function("begin: a trace", |bencher| {
        bencher.iter_batched(arrive, Way::begun, BatchSize::SmallInput);
    });
    criterion.bench_function("admit: framing, guard, route, method, token", |bencher| {
        bencher.iter_batched(|| arrive().begun(), Way::admitted, BatchSize::SmallInput);
    });
    criterion.bench_function("headers: strip and inject", |bencher| {
        let copy = || arrive().begun().admitted().copied();
        bencher.iter_batched(copy, Way::sent, BatchSize::SmallInput);
    });
    let answer = || arrive().begun().admitted().answered();
    criterion.bench_function("access log: one line of JSON", |bencher| {
        let (subscriber, _) = telemetry::subscriber(log, sink);
        subscriber::with_default(subscriber, || {
            bencher.iter_batched(answer, Way::logged, BatchSize::SmallInput);
        });
    });
    criterion.bench_function("metrics: count one request", |bencher| {
        let count = |way: Way<'_>| {
            drop(way.context);
            way.session
        };
        bencher.iter_batched(|| answer().logged(), count, BatchSize::SmallInput);
    });
}

criterion_group!(hot_path, token, route, hooks);
criterion_main!(hot_path);
