//! Property: over random callers, requests, batches, connections and changes of the configuration,
//! nobody is served what the matrix does not allow, and nobody is taken for another.

mod attempt;
mod connection;
mod oracle;
mod world;

use super::with_second_client;
use crate::support::configuration::Configuration;
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer, Seen};
use crate::support::{eventually, issuer};
use attempt::{Attempt, attempts};
use connection::{Authorities, Connection, Way, ways};
use oracle::Answer;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeMap;
use tempfile::TempDir;
use world::{Change, Kind, World, changes, worlds};

/// What happens in a world.
#[derive(Clone, Debug)]
enum Step {
    Attempt(Attempt),
    Change(Change),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        16 => attempts().prop_map(Step::Attempt),
        1 => changes().prop_map(Step::Change),
    ];
    vec(step, 1..60)
}

/// A sidecar in a world, and its neighbours.
struct Scene {
    world: World,
    connections: Vec<Connection>,
    sidecar: Sidecar,
    upstream: Peer,
    /// The configuration without callers and routes.
    base: Configuration,
    /// How many changes are in force.
    changes: u32,
    /// How many requests of each caller were served.
    served: BTreeMap<usize, u32>,
    folder: TempDir,
    _issuer: Peer,
}

impl Scene {
    async fn start(world: World, ways: Vec<Way>, authorities: &Authorities) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (issuer, upstream) = (issuer::steady().await, Peer::start(Behaviour::ok("")).await);
        let base = with_second_client(issuer.configuration(&upstream.url()), &issuer);
        let base = base.without_routes().key("listen", authorities.listen(folder.path()));
        let config = world.configuration(base.clone(), folder.path());
        let sidecar = Sidecar::reloading(&config).await;
        let connections = ways.into_iter().map(|way| Connection::new(way, &world, authorities));
        Self {
            connections: connections.collect(),
            world,
            sidecar,
            upstream,
            base,
            changes: 0,
            served: BTreeMap::new(),
            folder,
            _issuer: issuer,
        }
    }

    /// Makes a change, and waits until it is in force.
    async fn change(&mut self, change: &Change) {
        let before = self.world.clone();
        self.world.change(change, self.folder.path());
        if self.world == before {
            return;
        }
        if let Change::Rights { .. } = change {
            let config = self.world.configuration(self.base.clone(), self.folder.path());
            self.sidecar.reload(&config);
        }
        self.changes += 1;
        let (changes, success) =
            (f64::from(self.changes), "bearerd_config_reloads_total{outcome=\"success\"}");
        eventually("in force", async || self.sidecar.metric(success).await == changes).await;
    }

    /// Sends a request and compares what comes of it with the matrix.
    async fn attempt(&mut self, attempt: &Attempt, number: usize) {
        let (world, before) = (&self.world, self.upstream.seen().len());
        let connection = attempt.connection.index(self.connections.len());
        let connection = &mut self.connections[connection];
        let text = attempt.text(world, number);
        let (head, body) =
            connection.exchange(&text, attempt.is_head(), &self.sidecar, self.folder.path()).await;
        let expected = world.answer(&connection.way, attempt);
        let status = match expected {
            Answer::Served(_) => 200,
            Answer::Refused(status) => status,
        };
        let context = || format!("{expected:?} at {:?}:\n{text}\n\n{head}{body}", connection.way);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{}", context());
        let seen = self.upstream.seen();
        let Answer::Served(caller) = expected else {
            assert!(seen.len() == before, "{}\n{:?}", context(), seen.last());
            return;
        };
        *self.served.entry(caller).or_default() += 1;
        let has_own_client = world.callers[caller].rights.has_own_client;
        let token = if has_own_client { "Bearer second-token" } else { "Bearer steady-token" };
        // Besides the request itself there may be a fetch of a CSRF token.
        let new = &seen[before..];
        assert!(new.iter().all(|seen| seen.header("authorization") == [token]), "{}", context());
        // Where no caller has a key, X-Api-Key is for the upstream.
        let has_key = attempt.shown(world).iter().any(|shown| shown.kind == Kind::Key);
        let leaks = |seen: &Seen| !seen.header("x-api-key").is_empty();
        assert_eq!(new.iter().any(leaks), has_key && !world.has(Kind::Key), "{}", context());
        let is_it = |seen: &&Seen| seen.header("x-number") == [number.to_string()];
        assert_eq!(new.iter().filter(is_it).count(), 1, "{}", context());
    }

    /// Checks that each request was counted for its caller.
    async fn check_counts(&self) {
        for (index, caller) in self.world.callers.iter().enumerate() {
            let series = format!(
                "bearerd_caller_requests_total{{caller=\"{}\",code_class=\"2xx\",outcome=\"forwarded\"}}",
                caller.label()
            );
            let times = f64::from(self.served.get(&index).copied().unwrap_or_default());
            let is_counted = async || self.sidecar.metric(&series).await == times;
            eventually("counted for it alone", is_counted).await;
        }
    }
}

#[test]
fn nobody_is_served_what_the_matrix_does_not_allow() {
    let authorities = Authorities::new();
    // A request that is counted for another caller is noticed at the end of a wait only.
    let (max_shrink_iters, max_shrink_time) = (40, 60_000);
    let config = Config { cases: 60, max_shrink_iters, max_shrink_time, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let run = runner.run(&(worlds(), vec(ways(), 2..6), steps()), |(world, ways, steps)| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut scene = Scene::start(world, ways, &authorities).await;
            for (number, step) in steps.iter().enumerate() {
                match step {
                    Step::Attempt(attempt) => scene.attempt(attempt, number).await,
                    Step::Change(change) => scene.change(change).await,
                }
            }
            scene.check_counts().await;
        });
        Ok(())
    });
    run.unwrap();
}
