//! Several tenants behind one sidecar: none of them ever sees a token of another one's.

use crate::support::http;
use crate::support::issuer;
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Everything by number: which client and which upstream a route has, and what a request looks like.
#[derive(Clone, Debug)]
struct World {
    clients: usize,
    upstreams: usize,
    routes: BTreeMap<String, Route>,
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
    is_write: bool,
    /// A header that might lead a proxy astray.
    astray: Option<(&'static str, &'static str)>,
    /// Whether the upstream refuses the token once.
    is_refused: bool,
}

fn path(most: usize) -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "b", "c", "ab"]);
    prop::collection::vec(segment, 1..=most).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn worlds() -> impl Strategy<Value = World> {
    (1..4_usize, 1..4_usize).prop_flat_map(|(clients, upstreams)| {
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
        let request = (path(3), any::<bool>(), prop::option::of(astray), prop::bool::weighted(0.2));
        let request = request.prop_map(|(path, is_write, astray, is_refused)| Request {
            path,
            is_write,
            astray,
            is_refused,
        });
        let routes = prop::collection::btree_map(path(2), route, 1..6);
        (routes, prop::collection::vec(request, 1..24)).prop_map(move |(routes, requests)| World {
            clients,
            upstreams,
            routes,
            requests,
        })
    })
}

impl World {
    /// The longest of the routes whose segments the path begins with.
    fn route_of(&self, path: &str) -> Option<&Route> {
        let leads = |route: &str| {
            path.strip_prefix(route).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let matching = self.routes.iter().filter(|(route, _)| leads(route));
        matching.max_by_key(|(route, _)| route.len()).map(|(_, route)| route)
    }

    fn config(&self, issuers: &[Peer], upstreams: &[Peer]) -> String {
        let mut text =
            String::from("listen: 127.0.0.1:0\nadmin: { listen: 127.0.0.1:0 }\nclients:\n");
        for (number, issuer) in issuers.iter().enumerate() {
            let url = issuer.url();
            writeln!(
                text,
                "  c{number}: {{ token_url: \"{url}/oauth/token\", client_id: id, client_secret: s3cret }}"
            )
            .unwrap();
        }
        text += "upstreams:\n";
        for (number, upstream) in upstreams.iter().enumerate() {
            writeln!(text, "  u{number}: {{ url: \"{}\", client: c0 }}", upstream.url()).unwrap();
        }
        text += "routes:\n";
        for (path, route) in &self.routes {
            let Route { client, upstream, strip_path, profile } = route;
            writeln!(
                text,
                "  - {{ path: {path}, upstream: u{upstream}, client: c{client}, profile: {profile}, strip_path: {strip_path} }}"
            )
            .unwrap();
        }
        text
    }

    /// Sends all requests, and tells what was wrong with what the upstreams saw.
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
            let route = self.route_of(&request.path);
            if let Some(route) = route.filter(|_| request.is_refused) {
                upstreams[route.upstream].script([issuer::status("401 Unauthorized", "", "")]);
            }
            let url = format!("{}{}?n={number}.", sidecar.url, request.path);
            let method = if request.is_write { "POST" } else { "GET" };
            let mut sent = http().request(method.parse().unwrap(), url);
            if let Some((name, value)) = request.astray {
                sent = sent.header(name, value);
            }
            let status = sent.send().await.unwrap().status();
            prop_assert_eq!(status == 404, route.is_none(), "{:?}: {}", request, status);
        }
        self.judge(&upstreams)
    }

    fn judge(&self, upstreams: &[Peer]) -> Result<(), TestCaseError> {
        let mut arrived = 0;
        for (place, upstream) in upstreams.iter().enumerate() {
            for seen in upstream.seen() {
                let tokens = seen.header("authorization");
                prop_assert_eq!(tokens.len(), 1, "{:?}", tokens);
                let is_of = |client: usize| tokens[0] == format!("Bearer token-of-{client}.");
                let number = seen.line().split("?n=").nth(1);
                if let Some(number) = number {
                    let number: usize = number.split('.').next().unwrap().parse().unwrap();
                    let route = self.route_of(&self.requests[number].path).unwrap();
                    arrived += 1;
                    prop_assert_eq!(route.upstream, place);
                    prop_assert!(is_of(route.client), "{} got {:?}", seen.line(), tokens);
                } else {
                    // A CSRF token is fetched with the token of some route that leads here.
                    let mut leading = self.routes.values().filter(|route| route.upstream == place);
                    prop_assert!(leading.any(|route| is_of(route.client)), "{tokens:?}");
                }
            }
        }
        let routed = self.requests.iter().filter(|request| self.route_of(&request.path).is_some());
        prop_assert!(arrived >= routed.count());
        Ok(())
    }
}

#[test]
fn whatever_the_configuration_and_the_request_a_tenant_gets_the_token_of_its_route_and_no_other() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 48, ..Config::default() });
    runner.run(&worlds(), |world| runtime.block_on(world.run())).unwrap();
}
