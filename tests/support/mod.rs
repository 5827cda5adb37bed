//! What tests stand on: a sidecar on free ports, issuers and upstreams that remember what they saw,
//! and waiting with a deadline.

pub(crate) mod closing_upstream;
#[cfg(feature = "otlp")]
pub(crate) mod collector;
pub(crate) mod faulty_upstream;
pub(crate) mod forward_proxy;
pub(crate) mod hosts_file;
pub(crate) mod http2;
pub(crate) mod issuer;
pub(crate) mod network;
pub(crate) mod one_token;
pub(crate) mod process;
pub(crate) mod promql;
pub(crate) mod raw_client;
pub(crate) mod rewriter_laws;
pub(crate) mod sidecar;
pub(crate) mod strict_upstream;
pub(crate) mod tls;
pub(crate) mod upstream;

use bearerd::demo::{Tenant, TenantOptions};
use reqwest::redirect::Policy;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// Long enough for a busy machine; a test that hits it has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A port of loopback that nobody has, for a process that can't take any free one by itself.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Serves each connection of a listener, until dropped.
pub(crate) fn accepting<F: Future<Output: Send> + Send + 'static>(
    listener: tokio::net::TcpListener,
    mut serve: impl FnMut(TcpStream) -> F + Send + 'static,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut serving = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let served = serve(stream);
            serving.spawn(async move { drop(served.await) });
            while serving.try_join_next().is_some() {}
        }
    }))
}

/// Asks until the answer is yes. Fails the test at the deadline.
pub(crate) async fn eventually<F: AsyncFnMut() -> bool>(what: &str, mut condition: F) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waiting).await.is_ok(), "not in time: {what}");
}

/// A client as a legacy tool has it: no proxy, no redirects followed, nothing kept secret.
pub(crate) fn http() -> reqwest::Client {
    pingora::tls::install_default_crypto_provider();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .timeout(DEADLINE)
        .build()
        .unwrap()
}

/// Whether demo tenants are spoken to by HTTP/2: `make test` runs everything in both ways.
fn over_http2() -> bool {
    std::env::var_os("OVER_HTTP2").is_some()
}

/// A demo tenant with the files that a configuration in front of it names.
pub(crate) struct Fixture {
    pub(crate) tenant: Tenant,
    pub(crate) folder: TempDir,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::start_with(TenantOptions::default()).await
    }

    pub(crate) async fn start_with(options: TenantOptions) -> Self {
        let options = TenantOptions { http2: over_http2(), ..options };
        let tenant = Tenant::start(options).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), tenant.ca_pem()).unwrap();
        std::fs::write(folder.path().join("secret"), tenant.client_secret()).unwrap();
        Self { tenant, folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A configuration with free ports; `client` adds keys to the client, `rest` to the whole.
    pub(crate) fn config(&self, client: &str, rest: &str) -> String {
        let ca = self.path("ca.pem");
        format!(
            "listen: 127.0.0.1:0
admin: {{ listen: 127.0.0.1:0 }}
clients:
  technical-user:
    token_url: {token_url}
    client_id: {client_id}
    client_secret_file: {secret}
    ca_file: {ca}
    {client}
upstreams:
  datasphere: {{ url: {url}, ca_file: {ca}{http2} }}
{rest}
",
            token_url = self.tenant.token_url(),
            client_id = self.tenant.client_id(),
            secret = self.path("secret").display(),
            ca = ca.display(),
            url = self.tenant.url(),
            http2 = if over_http2() { ", http2: true" } else { "" },
        )
    }
}
