//! The whole: the only file that knows every part. Build, bind, run, end.

use crate::admin::{self, Admin};
use crate::config::{Config, ListenAddress};
use crate::credential::CredentialError;
use crate::drain::Drain;
use crate::http_client::HttpClientError;
use crate::metrics::Metrics;
use crate::proxy::upstream::Upstream;
use crate::proxy::{ClientHandle, Proxy};
use crate::readiness::Readiness;
use crate::server::{BindError, Listener, Workers};
use crate::shutdown::Shutdown;
use crate::token::TokenSource;
use crate::token::oauth::OAuthSource;
use crate::token::refresher::Refresher;
use crate::token::store::TokenStore;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// Before the end of the grace, how long requests that wait for a token have to be told so.
const FAREWELL: Duration = Duration::from_millis(300);

/// Everything built and bound; nothing runs yet.
pub struct App {
    config: Config,
    listeners: Vec<Listener>,
    admin: TcpListener,
    sources: Vec<Arc<dyn TokenSource>>,
    upstreams: Vec<Arc<Upstream>>,
    metrics: Arc<Metrics>,
}

/// Why the sidecar can't start, or can't go on. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// An address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A client's credential.
    #[error("client {client}: {source}")]
    Credential {
        /// The client's name.
        client: String,
        /// What is wrong.
        source: CredentialError,
    },
    /// A client's token endpoint.
    #[error("client {client}: {source}")]
    Issuer {
        /// The client's name.
        client: String,
        /// What is wrong.
        source: HttpClientError,
    },
    /// An upstream's trust anchors.
    #[error("upstream {upstream}: {source}")]
    Upstream {
        /// The upstream's name.
        upstream: String,
        /// What is wrong.
        source: HttpClientError,
    },
    /// A thread that serves requests has ended by itself; the log says why.
    #[error("a worker ended by itself; see the log, and report this")]
    WorkerFailed,
    /// A defect, found by any test.
    #[error("cannot declare the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// No thread, no runtime.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

impl App {
    /// Reads what the configuration points at and binds every address.
    ///
    /// # Errors
    /// The first thing that can't be had. Nothing is left running.
    pub fn bind(config: Config) -> Result<Self, AppError> {
        // One crypto provider for both TLS users; it must stand before either is built.
        pingora::tls::install_default_crypto_provider();
        let upstreams = upstreams(&config)?;
        let sources = sources(&config)?;
        let names: Vec<_> = config.clients.iter().map(|client| client.name.as_str()).collect();
        let routes: Vec<_> =
            config.routes.iter().map(|route| (route.path.as_str(), route.methods)).collect();
        let services: Vec<_> =
            config.upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
        let metrics = Arc::new(Metrics::new(&names, &services, &routes)?);
        let listeners =
            config.listen.iter().map(Listener::bind).collect::<Result<Vec<_>, BindError>>()?;
        let admin = TcpListener::bind(config.admin_listen)
            .and_then(|admin| admin.set_nonblocking(true).map(|()| admin))
            .map_err(|error| BindError::new(config.admin_listen, error, "admin.listen"))?;
        Ok(Self { config, listeners, admin, sources, upstreams, metrics })
    }

    /// Where applications connect, with the real ports.
    pub fn addresses(&self) -> Vec<ListenAddress> {
        self.listeners.iter().filter_map(Listener::address).collect()
    }

    /// Where probes and Prometheus connect, with the real port.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Runs until asked to end, and until what was in flight has ended.
    ///
    /// The control tasks (refreshers, admin) run on the caller's runtime, requests on threads of
    /// their own.
    ///
    /// # Errors
    /// A thread or runtime can't be made.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), AppError> {
        let drain = Drain::default();
        let clients = self.clients();
        let addresses = self.addresses();
        let proxy = Proxy::new(
            &self.config,
            &addresses,
            &clients,
            &self.upstreams,
            self.metrics.clone(),
            drain.clone(),
        );
        let readiness = Readiness::new(clients.clone(), drain.clone());
        let starting = readiness.pending_until_dropped("listeners");

        let control = Control::default();
        self.start_refreshers(&clients, &control);
        self.start_admin(readiness, &control)?;
        let workers = Workers::start(self.config.workers, self.listeners, &proxy)?;
        drop(starting);
        for address in &addresses {
            info!(%address, "Listening.");
        }

        tokio::select! {
            () = shutdown.requested.cancelled() => {}
            () = workers.failed() => return Err(AppError::WorkerFailed),
        }
        end(workers, &self.config.shutdown, &drain, &shutdown).await;
        control.end().await;
        info!("Ended.");
        Ok(())
    }

    fn clients(&self) -> Vec<ClientHandle> {
        let clients = self.config.clients.iter().map(|client| {
            let metrics = self.metrics.client(&client.name);
            if let Some(expiry) = client.expires_on {
                metrics.expires_on(expiry);
            }
            ClientHandle {
                name: client.name.clone(),
                store: Arc::new(TokenStore::new()),
                wait: client.wait,
                metrics,
            }
        });
        clients.collect()
    }

    fn start_refreshers(&self, clients: &[ClientHandle], control: &Control) {
        let all = clients.iter().zip(&self.config.clients).zip(&self.sources);
        for ((client, config), source) in all {
            let refresher = Refresher::new(
                client.name.clone(),
                source.clone(),
                client.store.clone(),
                client.metrics.clone(),
                config.refresh_at,
            );
            control.tasks.spawn(refresher.run(control.stop.clone()));
        }
    }

    fn start_admin(&self, readiness: Readiness, control: &Control) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.admin.try_clone()?)?;
        info!(address = %self.admin.local_addr()?, "Admin is listening.");
        let router = admin::router(Admin { readiness, metrics: self.metrics.clone() });
        let stop = control.stop.clone();
        control.tasks.spawn(async move {
            let serving = async { axum::serve(listener, router).await };
            stop.run_until_cancelled(serving).await;
        });
        Ok(())
    }
}

/// Tasks on the caller's runtime.
#[derive(Default)]
struct Control {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Control {
    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Lame duck, drain, deadline.
async fn end(
    mut workers: Workers,
    times: &crate::config::Shutdown,
    drain: &Drain,
    shutdown: &Shutdown,
) {
    drain.begin();
    let gently = async {
        tokio::time::sleep(times.lame_duck).await;
        workers.stop();
        if timeout(times.grace.saturating_sub(FAREWELL), workers.ended()).await.is_err() {
            warn!("Requests are still in flight at the end of `shutdown.grace`; ending them.");
            drain.expire();
            // Told or not, the next step is the same.
            let _ = timeout(FAREWELL.min(times.grace), workers.ended()).await;
        }
    };
    shutdown.forced.run_until_cancelled(gently).await;
    workers.stop();
    workers.force();
    workers.ended().await;
}

/// Reads what the configuration points at (secrets, certificates) without binding or sending anything.
///
/// # Errors
/// The first thing that can't be had.
pub fn check(config: &Config) -> Result<(), AppError> {
    pingora::tls::install_default_crypto_provider();
    upstreams(config)?;
    sources(config)?;
    Ok(())
}

fn upstreams(config: &Config) -> Result<Vec<Arc<Upstream>>, AppError> {
    let upstreams = config.upstreams.iter().zip(1..).map(|(upstream, group)| {
        Upstream::new(upstream, group)
            .map(Arc::new)
            .map_err(|source| AppError::Upstream { upstream: upstream.name.clone(), source })
    });
    upstreams.collect()
}

fn sources(config: &Config) -> Result<Vec<Arc<dyn TokenSource>>, AppError> {
    let sources = config.clients.iter().map(|client| {
        let name = || client.name.clone();
        // Read at start to tell of a wrong path at once; the value is read again for each request.
        client
            .credential
            .read()
            .map_err(|source| AppError::Credential { client: name(), source })?;
        let source = OAuthSource::new(client.clone())
            .map_err(|source| AppError::Issuer { client: name(), source })?;
        Ok(Arc::new(source) as Arc<dyn TokenSource>)
    });
    sources.collect()
}
