//! Support for tests: sidecars on free ports, scripted issuers and upstreams that record every
//! request, and waiting with a deadline.

pub(crate) mod closing_upstream;
#[cfg(feature = "otlp")]
pub(crate) mod collector;
pub(crate) mod configuration;
pub(crate) mod faulty_upstream;
pub(crate) mod forward_proxy;
pub(crate) mod hosts_file;
pub(crate) mod http2;
pub(crate) mod issuer;
pub(crate) mod network;
pub(crate) mod one_token;
pub(crate) mod podman;
pub(crate) mod process;
pub(crate) mod promql;
pub(crate) mod raw_client;
pub(crate) mod rewriter_laws;
pub(crate) mod scene;
pub(crate) mod sidecar;
pub(crate) mod strict_upstream;
pub(crate) mod tls;
pub(crate) mod upstream;

use bearerd::demo::{Tenant, TenantOptions};
use configuration::Configuration;
use reqwest::redirect::Policy;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// The longest wait for anything. It is long enough for a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The path of one row of the demo tenant's data.
pub(crate) const SALES: &str = "/api/v1/datasphere/consumption/relational/DEMO/SALES/SALES?$top=1";
/// The path of the demo tenant's users.
pub(crate) const USERS: &str = "/api/v1/scim2/Users";

/// An unused loopback address, for a process that cannot choose a free port by itself.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A temporary folder with these files.
pub(crate) fn folder_of(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

/// Serves every connection of a listener until the handle is dropped.
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

/// Polls a condition until it holds. Fails the test at the deadline.
pub(crate) async fn eventually<F: AsyncFnMut() -> bool>(what: &str, mut condition: F) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waiting).await.is_ok(), "not in time: {what}");
}

/// A client like a legacy tool's: without a proxy, redirects or credentials.
pub(crate) fn http() -> reqwest::Client {
    http_builder().build().unwrap()
}

/// The settings of [`http`].
pub(crate) fn http_builder() -> reqwest::ClientBuilder {
    pingora::tls::install_default_crypto_provider();
    let builder = reqwest::Client::builder().no_proxy().redirect(Policy::none()).timeout(DEADLINE);
    if tls::over_tls() { builder.add_root_certificate(tls::listeners_authority()) } else { builder }
}

/// Whether sidecars use HTTP/2 towards demo tenants. `make test` runs all tests both ways.
fn over_http2() -> bool {
    std::env::var_os("OVER_HTTP2").is_some()
}

/// A demo tenant, with the files that a sidecar's configuration names.
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

    /// A configuration with client `technical-user` and upstream `datasphere`. It has no routes:
    /// the defaults apply.
    pub(crate) fn configuration(&self) -> Configuration {
        let ca = self.path("ca.pem").display().to_string();
        let config = Configuration::new()
            .add_client("technical-user")
            .client("token_url", self.tenant.token_url())
            .client("client_id", format!("\"{}\"", self.tenant.client_id()))
            .client("client_secret_file", self.path("secret").display())
            .client("ca_file", &ca)
            .add_upstream("datasphere")
            .upstream("url", self.tenant.url())
            .upstream("ca_file", ca);
        if over_http2() { config.upstream("http2", true) } else { config }
    }
}
