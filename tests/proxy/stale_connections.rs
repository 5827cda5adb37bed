//! Kept connections that turn out dead: in every way, and in the very moment in which they are needed.

use crate::support::closing_upstream::{ClosingUpstream, Moment, Way};
use crate::support::http;
use crate::support::issuer;
use crate::support::sidecar::Sidecar;
use crate::support::tls::Authority;
use crate::support::upstream::Peer;
use tempfile::TempDir;

/// How often each way is tried: the moments are never the same.
const ROUNDS: usize = 25;

struct World {
    sidecar: Sidecar,
    upstream: ClosingUpstream,
    http: reqwest::Client,
    _issuer: Peer,
    _folder: TempDir,
}

async fn world(is_tls: bool) -> World {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let upstream = ClosingUpstream::start(is_tls.then_some(&authority)).await;
    let issuer = issuer::steady().await;
    let config = issuer.config(&upstream.url(), "", "");
    let keys = format!(", ca_file: {}, timeouts: {{ connect: 20s, read: 20s }}", ca.display());
    let config = config.replace(", timeouts: { connect: 1s, read: 1s }", &keys);
    let sidecar = Sidecar::ready(&config).await;
    World { sidecar, upstream, http: http(), _issuer: issuer, _folder: folder }
}

impl World {
    async fn send(&self, method: &str) -> u16 {
        let url = format!("{}/free", self.sidecar.url);
        let request = self.http.request(method.parse().unwrap(), url);
        request.send().await.unwrap().status().as_u16()
    }

    /// Reads over a kept connection that ends like this, as often as it takes, are all answered.
    async fn reads_survive(&self, ways: &[Way], method: &str) {
        for way in ways {
            for moment in [Moment::WhenAsked, Moment::AtOnce] {
                if moment == Moment::AtOnce && way.spoils_what_was_said() {
                    continue;
                }
                self.upstream.ends(*way, moment);
                for round in 0..ROUNDS {
                    let status = self.send(method).await;
                    assert_eq!(status, 200, "{way:?} {moment:?}, round {round}");
                }
                let lost = self.upstream.lost();
                // A connection serves the first request and loses the second, which goes over one that nobody else uses.
                assert!(moment != Moment::WhenAsked || lost >= ROUNDS / 2 - 1, "{way:?}: {lost}");
            }
        }
    }

    /// A write that may have been begun with ends as it did, and goes out once.
    async fn writes_are_sent_once(&self, ways: &[Way]) {
        for way in ways {
            for method in ["POST", "PUT", "PATCH", "DELETE"] {
                self.upstream.ends(*way, Moment::WhenAsked);
                assert_eq!(self.send("GET").await, 200, "it leaves a kept connection");
                self.upstream.lost();
                let status = self.send(method).await;
                let expected = if *way == Way::TimeoutAnswer { 408 } else { 502 };
                assert_eq!(status, expected, "{way:?} {method}");
                assert_eq!(self.upstream.lost(), 1, "{way:?} {method}");
            }
        }
    }
}

#[tokio::test]
async fn however_a_kept_connection_of_tls_ends_a_read_is_answered() {
    let world = world(true).await;
    world.reads_survive(&Way::ALL, "GET").await;
    world.reads_survive(&Way::ALL, "HEAD").await;
}

#[tokio::test]
async fn however_a_kept_connection_without_tls_ends_a_read_is_answered() {
    let world = world(false).await;
    world.reads_survive(&Way::PLAIN, "GET").await;
}

#[tokio::test]
async fn however_a_kept_connection_ends_a_write_is_sent_once() {
    world(true).await.writes_are_sent_once(&Way::ALL).await;
    world(false).await.writes_are_sent_once(&Way::PLAIN).await;
}
