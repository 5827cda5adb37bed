//! Property: over random callers, requests, batches and kept connections, nobody is served what the
//! matrix does not allow, and nobody is taken for another.

use super::{key, password, with_second_client, written};
use crate::support::raw_client::RawClient;
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer, Seen};
use crate::support::{eventually, issuer};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeMap;

/// Routes and what they allow: profile `transport` checks batches and allows every method.
const ROUTES: [(&str, &[&str]); 3] = [
    ("/all", &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]),
    ("/some", &["GET", "POST"]),
    ("/all/inner", &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]),
];
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// A caller: its rights, and how it is recognized.
#[derive(Clone, Debug)]
struct Caller {
    routes: Option<Vec<&'static str>>,
    methods: Option<Vec<&'static str>>,
    has_own_client: bool,
    by_password: bool,
}

/// A request of a connection.
#[derive(Clone, Debug)]
struct Attempt {
    connection: Index,
    route: Index,
    method: &'static str,
    /// Whose credentials are sent, and whether a wrong one is, too.
    shown: Vec<Index>,
    adds_wrong: bool,
    /// Methods and routes of the parts, if it is a batch.
    batch: Option<Vec<(&'static str, Index)>>,
}

fn callers() -> impl Strategy<Value = Vec<Caller>> {
    let paths: Vec<_> = ROUTES.iter().map(|(path, _)| *path).collect();
    // Every route allows GET, so that each caller may do something.
    let methods = subsequence(METHODS[1..].to_vec(), 0..=5);
    let methods = methods.prop_map(|more| [&["GET"][..], &more].concat());
    let caller =
        (option::of(subsequence(paths, 1..=3)), option::of(methods), any::<bool>(), any::<bool>());
    let caller = caller.prop_map(|(routes, methods, has_own_client, by_password)| Caller {
        routes,
        methods,
        has_own_client,
        by_password,
    });
    vec(caller, 1..5)
}

fn attempts() -> impl Strategy<Value = Vec<Attempt>> {
    let part = (select(&METHODS[..]), any::<Index>());
    let attempt = (
        any::<Index>(),
        any::<Index>(),
        select(&METHODS[..]),
        prop_oneof![1 => vec(any::<Index>(), 0), 6 => vec(any::<Index>(), 1), 2 => vec(any::<Index>(), 2)],
        any::<bool>(),
        option::weighted(0.3, vec(part, 1..4)),
    );
    let attempt = attempt.prop_map(|(connection, route, method, shown, adds_wrong, batch)| {
        Attempt { connection, route, method, shown, adds_wrong, batch }
    });
    vec(attempt, 1..40)
}

impl Caller {
    fn may(&self, route: usize, method: &str) -> bool {
        let (path, allowed) = ROUTES[route];
        self.routes.as_ref().is_none_or(|routes| routes.contains(&path))
            && self.methods.as_ref().is_none_or(|methods| methods.contains(&method))
            && allowed.contains(&method)
    }
}

impl Attempt {
    fn route(&self) -> usize {
        self.route.index(ROUTES.len())
    }

    fn method(&self) -> &str {
        if self.batch.is_some() { "POST" } else { self.method }
    }

    /// The callers whose credentials are sent.
    fn shown(&self, callers: usize) -> Vec<usize> {
        let mut shown: Vec<_> = self.shown.iter().map(|one| one.index(callers)).collect();
        shown.dedup();
        shown
    }

    /// The caller that is served, by the matrix alone.
    fn served(&self, callers: &[Caller]) -> Option<usize> {
        let [caller] = self.shown(callers.len())[..] else { return None };
        let parts = self.batch.iter().flatten();
        let may = |method: &str| callers[caller].may(self.route(), method);
        let may_all = parts.fold(may(self.method()), |all, (method, route)| {
            // A part belongs to the batch's own route.
            all && route.index(ROUTES.len()) == self.route() && may(method)
        });
        may_all.then_some(caller)
    }

    fn text(&self, callers: &[Caller], number: usize) -> String {
        let path = ROUTES[self.route()].0;
        let mut lines = String::new();
        for caller in self.shown(callers.len()) {
            lines += &if callers[caller].by_password {
                let user = STANDARD.encode(format!("user-{caller}:{}", password("user")));
                format!("Authorization: Basic {user}\r\n")
            } else {
                format!("X-Api-Key: {}\r\n", key(&caller.to_string()))
            };
        }
        if self.adds_wrong {
            lines += "X-Api-Key: another-key-of-32-characters-or-more\r\n";
        }
        let (target, body) = match &self.batch {
            None => (format!("{path}/request-{number}-"), String::new()),
            Some(parts) => {
                let part = |(index, (method, route)): (usize, &(&str, Index))| {
                    let path = ROUTES[route.index(ROUTES.len())].0;
                    format!(r#"{{"id":"{index}","method":"{method}","url":"{path}/x"}}"#)
                };
                let parts: Vec<_> = parts.iter().enumerate().map(part).collect();
                (
                    format!("{path}/request-{number}-/$batch"),
                    format!(r#"{{"requests":[{}]}}"#, parts.join(",")),
                )
            }
        };
        format!(
            "{} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{lines}\r\n{body}",
            self.method(),
            body.len()
        )
    }
}

async fn holds(callers: &[Caller], attempts: &[Attempt]) {
    let folder = tempfile::tempdir().unwrap();
    let (issuer, upstream) = (issuer::steady().await, Peer::start(Behaviour::ok("")).await);
    let mut config = with_second_client(issuer.configuration(&upstream.url()), &issuer);
    let mut yaml = String::new();
    for (index, caller) in callers.iter().enumerate() {
        let credential = if caller.by_password {
            let file = written(folder.path(), &format!("password-{index}"), password("user"));
            format!("basic: {{ username: user-{index}, password_file: {file} }}")
        } else {
            let file = written(folder.path(), &format!("key-{index}"), key(&index.to_string()));
            format!("api_key_file: {file}")
        };
        let list = |name: &str, list: &Option<Vec<&str>>| {
            list.as_ref().map_or(String::new(), |list| format!(", {name}: [{}]", list.join(", ")))
        };
        let client = if caller.has_own_client { ", client: d" } else { "" };
        yaml += &format!(
            "\n  caller-{index}: {{ {credential}{}{}{client} }}",
            list("routes", &caller.routes),
            list("methods", &caller.methods)
        );
    }
    for (path, methods) in ROUTES {
        config = config.route(path, "profile", "transport");
        config = config.route(path, "methods", format!("[{}]", methods.join(", ")));
    }
    let sidecar = Sidecar::ready(&config.key("callers", yaml)).await;

    let mut connections = Vec::new();
    for _ in 0..3 {
        connections.push(RawClient::connect(sidecar.host()).await);
    }
    let mut served: BTreeMap<usize, u32> = BTreeMap::new();
    for (number, attempt) in attempts.iter().enumerate() {
        let index = attempt.connection.index(connections.len());
        let before = upstream.seen().len();
        connections[index].send(&attempt.text(callers, number)).await;
        let head = connections[index].head().await;
        let is_served = head.starts_with("HTTP/1.1 200 ");
        let expected = attempt.served(callers);
        assert_eq!(is_served, expected.is_some(), "{attempt:?}: {head}");
        if !is_served || head.to_ascii_lowercase().contains("connection: close") {
            // The body of a refusal is not read.
            connections[index] = RawClient::connect(sidecar.host()).await;
        }
        let seen = upstream.seen();
        // Besides the request itself there may be a fetch of a CSRF token.
        let target = format!("/request-{number}-");
        let new = seen[before..].iter();
        let new: Vec<_> = new.filter(|seen| seen.line().contains(&target)).collect();
        match expected {
            None => assert!(seen.len() == before, "{attempt:?}: {:?}", seen.last()),
            Some(caller) => {
                *served.entry(caller).or_default() += 1;
                let token = if callers[caller].has_own_client { "second" } else { "steady" };
                let token = format!("Bearer {token}-token");
                assert!(new.iter().all(|seen| seen.header("authorization") == [token.as_str()]));
                // Where no caller has a key, X-Api-Key is for the upstream.
                let has_keys = callers.iter().any(|caller| !caller.by_password);
                let leaks = |seen: &&&Seen| !seen.header("x-api-key").is_empty();
                assert_eq!(new.iter().find(leaks).is_some(), attempt.adds_wrong && !has_keys);
                assert_eq!(new.len(), 1, "{attempt:?}");
            }
        }
    }
    for caller in 0..callers.len() {
        let series = format!(
            "bearerd_caller_requests_total{{caller=\"caller-{caller}\",code_class=\"2xx\",outcome=\"forwarded\"}}"
        );
        let times = f64::from(served.get(&caller).copied().unwrap_or_default());
        eventually("counted for it alone", async || sidecar.metric(&series).await == times).await;
    }
}

#[test]
fn nobody_is_served_what_the_matrix_does_not_allow() {
    let mut runner =
        TestRunner::new(Config { cases: 40, max_shrink_iters: 40, ..Config::default() });
    let run = runner.run(&(callers(), attempts()), |(callers, attempts)| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(holds(&callers, &attempts));
        Ok(())
    });
    run.unwrap();
}
