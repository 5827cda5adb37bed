//! Names of upstreams: a changed address, and a resolver that does not answer.

use crate::support::hosts_file::{HostsFile, SilentHostsFile};
use crate::support::issuer;
use crate::support::process::{Process, written};
use crate::support::raw_client::RawClient;
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{Fixture, USERS, accepting, eventually, http};
use std::net::IpAddr;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use url::Url;

#[tokio::test]
async fn a_name_that_has_moved_is_resolved_again_at_once_if_its_old_address_refuses_connections() {
    let fixture = Fixture::start().await;
    let [old, new] = [9, 1].map(|last| IpAddr::from([127, 0, 0, last]));
    let urls = [fixture.tenant.token_url(), fixture.tenant.url()];
    let ports = urls.map(|url| url.parse::<Url>().unwrap().port().unwrap());
    let mut relays = Vec::new();
    for port in ports {
        let listener = TcpListener::bind((old, port)).await.unwrap();
        relays.push(accepting(listener, move |mut outside| async move {
            let mut inside = TcpStream::connect((new, port)).await.unwrap();
            copy_bidirectional(&mut outside, &mut inside).await
        }));
    }
    let names = HostsFile::new("localhost", &[old]);
    let config = written(fixture.folder.path(), &fixture.configuration());
    let process = Process::start_among(&names, fixture.folder.path(), &config).await;
    let url = format!("{}{USERS}", process.url);
    process.wait_until_ready().await;
    assert_eq!(http().get(&url).send().await.unwrap().status(), 200);

    names.point_to(&[new]);
    drop(relays);
    for port in ports {
        let is_there = async || TcpStream::connect((old, port)).await.is_ok();
        eventually("the old address is closed", async || !is_there().await).await;
    }
    // No byte of a write can have been sent to the old address, so it is sent to the new one.
    let create = http().post(&url).header("content-type", "application/json");
    let created = create.body(r#"{"userName":"ANNA"}"#).send().await.unwrap();
    assert_eq!(created.status(), 201, "{}", process.log());
}

#[tokio::test]
async fn a_caller_that_leaves_while_a_name_is_looked_up_is_noticed_at_once() {
    let (issuer, upstream) = (issuer::steady().await, Peer::start(Behaviour::ok("fine")).await);
    let folder = tempfile::tempdir().unwrap();
    let port = upstream.address.port();
    let config = issuer.configuration(&format!("http://localhost:{port}"));
    // The resolver waits for a writer of this pipe.
    let pipe = SilentHostsFile::new(folder.path());
    let process = Process::start_by(pipe.bearerd(), folder.path(), &config).await;
    process.wait_until_ready().await;
    let mut caller = RawClient::connect(process.host()).await;
    caller.send("POST /free HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}").await;
    eventually("it waits", async || process.metric("bearerd_requests_in_flight ").await == 1.0)
        .await;
    drop(caller);
    let left =
        r#"bearerd_requests_total{code_class="none",method="POST",outcome="downstream_closed""#;
    eventually("noticed", async || process.metric(left).await == 1.0).await;
    assert!(upstream.seen().is_empty());
}
