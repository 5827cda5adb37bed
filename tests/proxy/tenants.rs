//! Several tenants behind one sidecar: no tenant receives a token of another one.

use crate::support::configuration::Configuration;
use crate::support::issuer;
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{USERS, eventually, http};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use reqwest::Response;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

/// A configuration, and requests to send. Clients, upstreams and listeners go by number.
#[derive(Clone, Debug)]
struct Case {
    clients: usize,
    upstreams: usize,
    listeners: usize,
    /// The routes by path and listener.
    routes: BTreeMap<(String, usize), Route>,
    requests: Vec<Request>,
}

#[derive(Clone, Debug)]
struct Route {
    client: usize,
    upstream: usize,
    strip_path: bool,
    profile: &'static str,
}

#[derive(Clone, Debug)]
struct Request {
    path: String,
    listener: usize,
    is_write: bool,
    /// A header that could mislead a proxy.
    astray: Option<(&'static str, &'static str)>,
    /// Whether the upstream refuses the token once.
    is_refused: bool,
}

/// Adds client `c<number>` of this issuer.
fn with_client(config: Configuration, number: usize, issuer: &Peer) -> Configuration {
    config
        .add_client(&format!("c{number}"))
        .client("token_url", format!("\"{}/oauth/token\"", issuer.url()))
        .client("client_id", "id")
        .client("client_secret", "s3cret")
}

/// The address of a listener. Each has its own, so that routes can name it before its port is
/// known.
fn address(listener: usize) -> String {
    format!("127.0.0.{}:0", listener + 1)
}

fn path(most: usize) -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "b", "c", "ab"]);
    prop::collection::vec(segment, 1..=most).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn cases() -> impl Strategy<Value = Case> {
    (1..4_usize, 1..4_usize, 1..4_usize).prop_flat_map(|(clients, upstreams, listeners)| {
        let profile = prop::sample::select(vec!["passthrough", "scim", "rest"]);
        let route = (0..clients, 0..upstreams, any::<bool>(), profile);
        let route = route.prop_map(|(client, upstream, strip_path, profile)| Route {
            client,
            upstream,
            strip_path,
            profile,
        });
        let astray = prop::sample::select(vec![
            ("authorization", "Bearer token-of-0."),
            ("x-forwarded-host", "other.example"),
            ("x-original-url", "/a/b"),
            ("cookie", "JSESSIONID=other"),
            ("x-csrf-token", "of-another"),
        ]);
        let astray = prop::option::of(astray);
        let request = (path(3), 0..listeners, any::<bool>(), astray, prop::bool::weighted(0.2));
        let request = request.prop_map(|(path, listener, is_write, astray, is_refused)| Request {
            path,
            listener,
            is_write,
            astray,
            is_refused,
        });
        let routes = prop::collection::btree_map((path(2), 0..listeners), route.clone(), 0..9);
        // Each listener has at least one route.
        let least = prop::collection::vec((path(2), route), listeners);
        let requests = prop::collection::vec(request, 1..24);
        (routes, least, requests).prop_map(move |(mut routes, least, requests)| {
            let least = least.into_iter().enumerate();
            routes.extend(least.map(|(listener, (path, route))| ((path, listener), route)));
            Case { clients, upstreams, listeners, routes, requests }
        })
    })
}

impl Case {
    /// The longest route of the listener whose segments are the first ones of the path.
    fn route_of(&self, request: &Request) -> Option<&Route> {
        let leads = |route: &str| {
            let rest = request.path.strip_prefix(route);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let matching = self
            .routes
            .iter()
            .filter(|((route, listener), _)| *listener == request.listener && leads(route));
        matching.max_by_key(|((route, _), _)| route.len()).map(|(_, route)| route)
    }

    fn config(&self, issuers: &[Peer], upstreams: &[Peer]) -> String {
        let addresses: Vec<_> = (0..self.listeners).map(address).collect();
        let hosts = addresses.join(", ").replace(":0", "");
        let mut config = Configuration::new()
            .key("listen", format!("[{}]", addresses.join(", ")))
            .key("access", format!("{{ hosts: [{hosts}] }}"));
        for (number, issuer) in issuers.iter().enumerate() {
            config = with_client(config, number, issuer);
        }
        for (number, upstream) in upstreams.iter().enumerate() {
            config = config
                .add_upstream(&format!("u{number}"))
                .upstream("url", upstream.url())
                .upstream("client", "c0");
        }
        // Two listeners may have routes with the same path, which the builder takes for one.
        let mut text = format!("{config}routes:\n");
        for ((path, listener), route) in &self.routes {
            let listen = address(*listener);
            let Route { client, upstream, strip_path, profile } = route;
            writeln!(
                text,
                "  - {{ path: {path}, listen: \"{listen}\", upstream: u{upstream}, client: c{client}, profile: {profile}, strip_path: {strip_path} }}"
            )
            .unwrap();
        }
        text
    }

    /// Sends all requests and checks what the upstreams received.
    async fn run(&self) -> Result<(), TestCaseError> {
        let mut issuers = Vec::new();
        for number in 0..self.clients {
            issuers.push(Peer::start(issuer::token(&format!("token-of-{number}."), 3600)).await);
        }
        let mut upstreams = Vec::new();
        for _ in 0..self.upstreams {
            let upstream = Peer::start(Behaviour::ok("fine")).await;
            upstream.always(
                "/api/v1/csrf",
                issuer::status("200 OK", "x-csrf-token: of-the-tenant\r\n", ""),
            );
            upstreams.push(upstream);
        }
        let sidecar = Sidecar::ready(&self.config(&issuers, &upstreams)).await;
        for (number, request) in self.requests.iter().enumerate() {
            let route = self.route_of(request);
            if let Some(route) = route.filter(|_| request.is_refused) {
                upstreams[route.upstream].script([issuer::status("401 Unauthorized", "", "")]);
            }
            let url = format!("{}{}?n={number}.", sidecar.urls[request.listener], request.path);
            let method = if request.is_write { "POST" } else { "GET" };
            let mut sent = http().request(method.parse().unwrap(), url);
            if let Some((name, value)) = request.astray {
                sent = sent.header(name, value);
            }
            let status = sent.send().await.unwrap().status();
            prop_assert_eq!(status == 404, route.is_none(), "{:?}: {}", request, status);
        }
        self.check(&upstreams)
    }

    fn check(&self, upstreams: &[Peer]) -> Result<(), TestCaseError> {
        let mut arrived = 0;
        for (place, upstream) in upstreams.iter().enumerate() {
            for seen in upstream.seen() {
                let tokens = seen.header("authorization");
                prop_assert_eq!(tokens.len(), 1, "{:?}", tokens);
                let is_of = |client: usize| tokens[0] == format!("Bearer token-of-{client}.");
                let number = seen.line().split("?n=").nth(1);
                if let Some(number) = number {
                    let number: usize = number.split('.').next().unwrap().parse().unwrap();
                    let route = self.route_of(&self.requests[number]).unwrap();
                    arrived += 1;
                    prop_assert_eq!(route.upstream, place);
                    prop_assert!(is_of(route.client), "{} got {:?}", seen.line(), tokens);
                } else {
                    // A CSRF token is fetched with the access token of a route to this upstream.
                    let mut leading = self.routes.values().filter(|route| route.upstream == place);
                    prop_assert!(leading.any(|route| is_of(route.client)), "{tokens:?}");
                }
            }
        }
        let routed = self.requests.iter().filter(|request| self.route_of(request).is_some());
        prop_assert!(arrived >= routed.count());
        Ok(())
    }
}

#[test]
fn whatever_the_configuration_and_the_request_a_tenant_gets_the_token_of_its_route_and_no_other() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 48, ..Config::default() });
    runner.run(&cases(), |case| runtime.block_on(case.run())).unwrap();
}

/// Two tenants with the same paths, each on a listener of its own.
struct Pair {
    _issuers: [Peer; 2],
    tenants: [Peer; 2],
    sidecar: Sidecar,
}

impl Pair {
    async fn start() -> Self {
        let issuers = [
            Peer::start(issuer::token("token-of-0.", 3600)).await,
            Peer::start(issuer::token("token-of-1.", 3600)).await,
        ];
        let tenants =
            [Peer::start(Behaviour::ok("0")).await, Peer::start(Behaviour::ok("1")).await];
        let mut config = Configuration::new()
            .key("listen", "[127.0.0.1:0, 127.0.0.2:0]")
            .key("access", "{ hosts: [localhost, 127.0.0.1, 127.0.0.2] }");
        for (number, issuer) in issuers.iter().enumerate() {
            config = with_client(config, number, issuer);
        }
        for (number, tenant) in tenants.iter().enumerate() {
            config = config
                .add_upstream(&format!("u{number}"))
                .upstream("url", tenant.url())
                .upstream("client", format!("c{number}"))
                .upstream("listen", format!("\"{}\"", address(number)));
        }
        Self { _issuers: issuers, tenants, sidecar: Sidecar::ready(&config).await }
    }

    /// Gets a URL without credentials. Returns the response and the number of the tenant that gave
    /// it.
    async fn get(&self, url: &str) -> (Response, usize) {
        let before = self.tenants.each_ref().map(|tenant| tenant.seen().len());
        let answer = http().get(url).send().await.unwrap();
        let after = self.tenants.each_ref().map(|tenant| tenant.seen().len());
        let place = (0..2).find(|place| after[*place] > before[*place]).unwrap();
        let token = self.tenants[place].seen()[before[place]].header("authorization").join("");
        assert_eq!(token, format!("Bearer token-of-{place}."));
        (answer, place)
    }
}

#[tokio::test]
async fn two_tenants_with_the_same_paths_are_reached_each_on_its_own_listener() {
    let pair = Pair::start().await;
    for place in 0..2 {
        let (_, reached) = pair.get(&format!("{}{USERS}", pair.sidecar.urls[place])).await;
        assert_eq!(reached, place);
    }
    for listen in ["127.0.0.1:0", "127.0.0.2:0"] {
        let series = format!(
            r#"bearerd_requests_total{{code_class="2xx",method="GET",outcome="forwarded",route="{listen}/api/v1/scim2"}}"#
        );
        eventually("counted", async || pair.sidecar.metric(&series).await == 1.0).await;
    }
}

#[tokio::test]
async fn links_between_tenants_lead_to_the_listener_of_their_target() {
    let pair = Pair::start().await;
    for place in 0..2 {
        for target in 0..2 {
            let body =
                format!(r#"{{"@odata.nextLink":"{}{USERS}?page=2"}}"#, pair.tenants[target].url());
            let headers = format!(
                "content-type: application/json\r\nlocation: {}{USERS}/7\r\n",
                pair.tenants[target].url()
            );
            pair.tenants[place].script([issuer::status("200 OK", &headers, &body)]);
            let path = "/api/v1/datasphere/consumption/catalog/spaces";
            let (answer, _) = pair.get(&format!("{}{path}", pair.sidecar.urls[place])).await;
            let location = answer.headers()["location"].to_str().unwrap().to_owned();
            assert_eq!(location, format!("{}{USERS}/7", pair.sidecar.urls[target]));
            let next = answer.json::<Value>().await.unwrap();
            let next = next["@odata.nextLink"].as_str().unwrap();
            assert_eq!(next, format!("{}{USERS}?page=2", pair.sidecar.urls[target]));
            assert_eq!(pair.get(next).await.1, target);
        }
    }
}

#[tokio::test]
async fn a_path_that_another_listener_serves_is_answered_with_its_address() {
    let issuer = issuer::steady().await;
    let upstream = Peer::start(Behaviour::ok("")).await;
    let config = issuer
        .configuration(&upstream.url())
        .key("listen", "[127.0.0.1:0, 127.0.0.2:0]")
        .key("access", "{ hosts: [127.0.0.1, 127.0.0.2] }")
        .without_routes()
        .route("/a", "profile", "rest")
        .route("/a", "listen", "127.0.0.1:0")
        .route("/b", "profile", "rest")
        .route("/b", "listen", "[127.0.0.1:0, 127.0.0.2:0]");
    let sidecar = Sidecar::ready(&config).await;
    let get = async |listener: usize, path: &str| {
        let answer = http().get(format!("{}{path}", sidecar.urls[listener])).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    for (listener, path) in [(0, "/a"), (0, "/b"), (1, "/b")] {
        assert_eq!(get(listener, path).await.0, 200, "{listener}{path}");
    }
    let (status, text) = get(1, "/a").await;
    let address = sidecar.host();
    assert!(
        status == 404 && text.contains(&format!("not served on this listener, only on {address};")),
        "{text}"
    );
    assert!(get(1, "/c").await.1.contains("this sidecar has no route"));
    assert_eq!(upstream.seen().len(), 3);
}
