//! Two sidecars as a gateway behind HAProxy, which passes TLS on: restarted one after the other,
//! they lose no request.

use super::debian_server::Running;
use crate::support::process::Process;
use crate::support::tls::Authority;
use crate::support::upstream::{Behaviour, Peer};
use crate::support::{eventually, free_address, issuer};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const KEY: &str = "a-key-of-a-caller-with-32-characters";

/// A replica: its addresses stay the same over restarts.
struct Replica {
    address: SocketAddr,
    admin: SocketAddr,
    folder: PathBuf,
}

impl Replica {
    fn new(folder: &Path, name: &str, issuer: &Peer, upstream: &Peer, tls: &str) -> Self {
        let replica =
            Self { address: free_address(), admin: free_address(), folder: folder.join(name) };
        std::fs::create_dir(&replica.folder).unwrap();
        let key = folder.join("key");
        std::fs::write(&key, KEY).unwrap();
        let config = issuer
            .configuration(&upstream.url())
            .key("listen", format!("{{ address: {}, tls: {tls} }}", replica.address))
            .key("admin", format!("{{ listen: {} }}", replica.admin))
            .key("access", "{ hosts: [localhost] }")
            .key("callers", format!("{{ etl: {{ api_key_file: {} }} }}", key.display()))
            .key("shutdown", "{ lame_duck: 2s }");
        std::fs::write(replica.folder.join("bearerd.yaml"), config.to_string()).unwrap();
        replica
    }

    async fn start(&self) -> Process {
        let config = self.folder.join("bearerd.yaml");
        let process = Process::start_with_file(&self.folder, &config).await;
        process.wait_until_ready().await;
        process
    }
}

fn haproxy(address: SocketAddr, replicas: &[Replica]) -> String {
    let server = |(index, replica): (usize, &Replica)| {
        format!(
            "  server r{index} {} check port {} inter 200ms fall 1 rise 1\n",
            replica.address,
            replica.admin.port()
        )
    };
    let servers: String = replicas.iter().enumerate().map(server).collect();
    format!(
        "defaults
  mode tcp
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  retries 3
  option redispatch
listen gateway
  bind {address}
  balance roundrobin
  option httpchk GET /readyz
{servers}"
    )
}

#[tokio::test]
#[ignore = "needs HAProxy; make test installs it and runs this"]
async fn replicas_behind_a_balancer_are_restarted_without_a_lost_request() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let authority = Authority::new();
    let tls = authority.listener(folder, "");
    let (issuer, upstream) = (issuer::steady().await, Peer::start(Behaviour::ok("fine")).await);
    let replicas = ["a", "b"].map(|name| Replica::new(folder, name, &issuer, &upstream, &tls));
    let mut running = Vec::new();
    for replica in &replicas {
        running.push(replica.start().await);
    }
    let address = free_address();
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, haproxy(address, &replicas)).unwrap();
    let _balancer =
        Running::start(folder, "haproxy", &["-db", "-f", file.to_str().unwrap()], address).await;

    let trusting = || {
        let authority = reqwest::Certificate::from_pem(authority.pem.as_bytes()).unwrap();
        reqwest::Client::builder().no_proxy().add_root_certificate(authority)
    };
    // The load keeps its connections, and the other client makes new ones, which are balanced.
    let (client, fresh) =
        (trusting().build().unwrap(), trusting().pool_max_idle_per_host(0).build().unwrap());
    let url = format!("https://localhost:{}/free/x", address.port());
    let send = async |client: &reqwest::Client| {
        let request = client.get(&url).header("x-api-key", KEY).timeout(Duration::from_secs(20));
        request.send().await.map(|answer| answer.status().as_u16())
    };
    let (stop, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let load = async || {
        let mut lost = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            match send(&client).await {
                Ok(200) => {}
                other => lost.push(format!("{other:?}")),
            }
            sent.fetch_add(1, Ordering::Relaxed);
        }
        lost
    };
    let restart = async {
        for (index, replica) in replicas.iter().enumerate() {
            running[index].signal("TERM").await;
            assert_eq!(running[index].exit_code().await, Some(0));
            running[index] = replica.start().await;
            // The balancer has seen it: it gets connections again.
            let before = sent.load(Ordering::Relaxed);
            let series = r#"bearerd_caller_requests_total{caller="etl",code_class="2xx""#;
            eventually("used again", async || {
                assert_eq!(send(&fresh).await.unwrap(), 200);
                running[index].metric(series).await > 0.0
            })
            .await;
            eventually("under load", async || sent.load(Ordering::Relaxed) > before).await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    let (one, two, three, ()) = tokio::join!(load(), load(), load(), restart);
    let lost = [one, two, three].concat();
    assert!(lost.is_empty(), "{} of {}: {lost:?}", lost.len(), sent.load(Ordering::Relaxed));
}
