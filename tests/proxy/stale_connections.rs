//! Kept connections that end, in every way and at the moment of their reuse.

use crate::support::closing_upstream::{ClosingUpstream, Moment, Way};
use crate::support::configuration::Configuration;
use crate::support::http;
use crate::support::scene::Scene;
use crate::support::tls::Authority;

/// Repetitions of each way to end. Their timing differs.
const ROUNDS: usize = 25;

struct Reuse {
    scene: Scene<ClosingUpstream>,
    http: reqwest::Client,
}

async fn start(is_tls: bool) -> Reuse {
    let authority = Authority::new();
    let upstream = ClosingUpstream::start(is_tls.then_some(&authority)).await;
    let timeouts = "{ connect: 20s, read: 20s }";
    let change = |config: Configuration| config.upstream("timeouts", timeouts);
    Reuse { scene: Scene::trusting(&authority, upstream, change).await, http: http() }
}

impl Reuse {
    async fn send(&self, method: &str) -> u16 {
        let url = format!("{}/free", self.scene.sidecar.url);
        let request = self.http.request(method.parse().unwrap(), url);
        request.send().await.unwrap().status().as_u16()
    }

    /// Checks that every read over a kept connection that ends like this gets a response.
    async fn reads_survive(&self, ways: &[Way], method: &str) {
        for way in ways {
            for moment in [Moment::OnRequest, Moment::AfterResponse] {
                if moment == Moment::AfterResponse && way.can_lose_response() {
                    continue;
                }
                self.scene.upstream.set_end(*way, moment);
                for round in 0..ROUNDS {
                    let status = self.send(method).await;
                    assert_eq!(status, 200, "{way:?} {moment:?}, round {round}");
                }
                let lost = self.scene.upstream.take_lost();
                // A connection serves its first request and loses the second one, which is then
                // sent over a new connection.
                assert!(moment != Moment::OnRequest || lost >= ROUNDS / 2 - 1, "{way:?}: {lost}");
            }
        }
    }

    /// Checks that a write that the upstream may have begun with fails and is sent once.
    async fn writes_are_sent_once(&self, ways: &[Way]) {
        for way in ways {
            for method in ["POST", "PUT", "PATCH", "DELETE"] {
                self.scene.upstream.set_end(*way, Moment::OnRequest);
                assert_eq!(self.send("GET").await, 200, "this leaves a kept connection");
                self.scene.upstream.take_lost();
                let status = self.send(method).await;
                let expected = if *way == Way::RequestTimeout { 408 } else { 502 };
                assert_eq!(status, expected, "{way:?} {method}");
                assert_eq!(self.scene.upstream.take_lost(), 1, "{way:?} {method}");
            }
        }
    }
}

#[tokio::test]
async fn however_a_kept_connection_of_tls_ends_a_read_is_answered() {
    let reuse = start(true).await;
    reuse.reads_survive(&Way::ALL, "GET").await;
    reuse.reads_survive(&Way::ALL, "HEAD").await;
}

#[tokio::test]
async fn however_a_kept_connection_without_tls_ends_a_read_is_answered() {
    let reuse = start(false).await;
    reuse.reads_survive(&Way::PLAIN, "GET").await;
}

#[tokio::test]
async fn however_a_kept_connection_ends_a_write_is_sent_once() {
    start(true).await.writes_are_sent_once(&Way::ALL).await;
    start(false).await.writes_are_sent_once(&Way::PLAIN).await;
}
