//! Scenes: a sidecar with the servers that it stands between.

use super::closing_upstream::ClosingUpstream;
use super::configuration::Configuration;
use super::http2::Http2Upstream;
use super::process::{Process, bearerd};
use super::sidecar::Sidecar;
use super::strict_upstream::StrictUpstream;
use super::tls::{Authority, TlsUpstream};
use super::upstream::{Behaviour, Peer};
use super::{Fixture, eventually, issuer};
use bearerd::demo::DemoFaults;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;

/// Leaves a configuration as it is.
pub(crate) fn unchanged(config: Configuration) -> Configuration {
    config
}

/// A server with a URL.
pub(crate) trait Upstream {
    fn url(&self) -> String;
}

macro_rules! upstreams {
    ($($server:ty),*) => {$(
        impl Upstream for $server {
            fn url(&self) -> String {
                <$server>::url(self)
            }
        }
    )*};
}
upstreams!(Peer, ClosingUpstream, Http2Upstream, StrictUpstream, TlsUpstream);

/// An upstream that the test itself plays.
impl Upstream for TcpListener {
    fn url(&self) -> String {
        format!("http://{}", self.local_addr().unwrap())
    }
}

/// A sidecar between an issuer and an upstream, in this process or in one of its own.
pub(crate) struct Scene<U = Peer, S = Sidecar> {
    pub(crate) sidecar: S,
    pub(crate) upstream: U,
    pub(crate) issuer: Peer,
    /// Files that the configuration names, and the log of a process.
    _folder: TempDir,
}

impl Scene {
    /// A sidecar with a steady issuer, and an upstream that answers `fine`.
    pub(crate) async fn start() -> Self {
        Self::with(unchanged).await
    }

    /// The same scene with a changed configuration.
    pub(crate) async fn with(change: impl FnOnce(Configuration) -> Configuration) -> Self {
        Self::before(Peer::start(Behaviour::ok("fine")).await, change).await
    }
}

impl Scene {
    /// A sidecar as a gateway: with TLS at a second listener, a caller with a name, and an audit
    /// log. Nothing calls it.
    pub(crate) async fn gateway() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        std::fs::write(&key, "a-key-of-a-caller-with-32-characters").unwrap();
        let tls = Authority::new().listener(folder.path(), "");
        let scene = Self::with(|config| {
            config
                .key("listen", format!("[127.0.0.1:0, {{ address: 127.0.0.1:0, tls: {tls} }}]"))
                .key("callers", format!("{{ tool: {{ api_key_file: {} }} }}", key.display()))
                .key("audit", format!("{{ folder: {} }}", folder.path().display()))
        })
        .await;
        Self { _folder: folder, ..scene }
    }
}

impl<U: Upstream> Scene<U> {
    /// A sidecar with a steady issuer before this upstream.
    pub(crate) async fn before(
        upstream: U,
        change: impl FnOnce(Configuration) -> Configuration,
    ) -> Self {
        Self::between(issuer::steady().await, upstream, change).await
    }

    /// A sidecar before an upstream whose certificate this authority has signed.
    pub(crate) async fn trusting(
        authority: &Authority,
        upstream: U,
        change: impl FnOnce(Configuration) -> Configuration,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = authority.write_pem(folder.path());
        let change = |config: Configuration| change(config.upstream("ca_file", ca));
        Self { _folder: folder, ..Self::before(upstream, change).await }
    }

    /// A sidecar between these, as soon as it is ready.
    pub(crate) async fn between(
        issuer: Peer,
        upstream: U,
        change: impl FnOnce(Configuration) -> Configuration,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = change(issuer.configuration(&upstream.url()));
        let sidecar = Sidecar::ready(&config).await;
        Self { sidecar, upstream, issuer, _folder: folder }
    }
}

impl<U> Scene<U> {
    /// Sends the request with which the histograms of a route begin, and waits for them.
    pub(crate) async fn first_request(&self) {
        assert_eq!(self.sidecar.get("/free").await.status(), 200);
        let begun = r#"bearerd_request_duration_seconds_count{route="/free"} 1"#;
        eventually("counted", async || self.sidecar.probe("/metrics").await.1.contains(begun))
            .await;
    }
}

impl Scene<Peer, Process> {
    /// The scene of [`Scene::start`] with a process of its own and a changed configuration.
    pub(crate) async fn process(change: impl FnOnce(Configuration) -> Configuration) -> Self {
        Self::process_by(bearerd(), change).await
    }

    /// The same scene with a command that becomes bearerd.
    pub(crate) async fn process_by(
        command: Command,
        change: impl FnOnce(Configuration) -> Configuration,
    ) -> Self {
        let (issuer, upstream) = (issuer::steady().await, Peer::start(Behaviour::ok("fine")).await);
        let folder = tempfile::tempdir().unwrap();
        let config = change(issuer.configuration(&upstream.url()));
        let sidecar = Process::start_by(command, folder.path(), &config).await;
        sidecar.wait_until_ready().await;
        Self { sidecar, upstream, issuer, _folder: folder }
    }
}

/// A sidecar before a demo tenant, in this process or in one of its own.
pub(crate) struct DemoScene<S = Sidecar> {
    pub(crate) sidecar: S,
    pub(crate) fixture: Fixture,
}

impl DemoScene {
    /// A ready sidecar before a tenant without faults.
    pub(crate) async fn start() -> Self {
        Self::with(DemoFaults::default()).await
    }

    /// A ready sidecar before a tenant with these faults.
    pub(crate) async fn with(faults: DemoFaults) -> Self {
        let fixture = Fixture::start().await;
        fixture.tenant.set_faults(faults);
        let sidecar = Sidecar::ready(&fixture.configuration()).await;
        Self { sidecar, fixture }
    }
}

impl DemoScene<Process> {
    /// A ready process before a tenant without faults, with a changed configuration.
    pub(crate) async fn process(change: impl FnOnce(Configuration) -> Configuration) -> Self {
        Self::process_by(bearerd(), change).await
    }

    /// The same scene with a command that becomes bearerd.
    pub(crate) async fn process_by(
        command: Command,
        change: impl FnOnce(Configuration) -> Configuration,
    ) -> Self {
        let fixture = Fixture::start().await;
        let config = change(fixture.configuration());
        let sidecar = Process::start_by(command, fixture.folder.path(), &config).await;
        sidecar.wait_until_ready().await;
        Self { sidecar, fixture }
    }
}
