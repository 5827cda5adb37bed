//! The whole sidecar, built from its parts: bind, run, drain, end.

mod caller_credentials;
mod client;
mod control;
mod error;
mod listener_certificates;
mod ready;
pub(crate) mod reload;
mod service;
mod setup;
mod transport_inputs;
mod upstream;

pub use caller_credentials::CredentialsError;
pub use error::AppError;
pub use reload::ConfigSource;

use crate::admin::{self, Admin};
use crate::audit::Audit;
use crate::config::{Config, ListenAddress, ListenerId};
use crate::drain::Drain;
use crate::http_client;
use crate::listener_tls::ListenerTls;
use crate::metrics::Metrics;
use crate::otlp::Spans;
use crate::proxy::Proxy;
use crate::readiness::Readiness;
use crate::server::{
    BindError, ConnectionLimits, Engines, InheritedSockets, Listener, Workers, bind_tcp,
};
use crate::service_manager;
use crate::shutdown::Shutdown;
use crate::status::{self, StatusView};
use crate::traffic::Traffic;
use control::Control;
use reload::Reloader;
use setup::Prepared;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tracing::{info, warn};

/// The last part of the grace period, in which requests that still wait for a token are answered.
const REPLY_TIME: Duration = Duration::from_millis(300);

/// A sidecar that is built and bound but does not run yet.
pub struct App {
    prepared: Prepared,
    workers: usize,
    listeners: Vec<Listener>,
    admin: TcpListener,
    metrics: Arc<Metrics>,
    source: Option<ConfigSource>,
    spans: Spans,
    /// Standard error, for an audit log that is written there.
    stderr: Option<Box<dyn Write + Send>>,
}

impl App {
    /// Reads what the configuration points at and binds every address.
    ///
    /// # Errors
    /// The first thing that fails. Nothing is left running.
    pub fn bind(config: Config) -> Result<Self, AppError> {
        Self::bind_with(config, InheritedSockets::default())
    }

    /// Like [`App::bind`], with sockets of the service manager where they fit.
    ///
    /// # Errors
    /// As before; also a socket that fits no address.
    pub fn bind_with(config: Config, mut sockets: InheritedSockets) -> Result<Self, AppError> {
        http_client::set_up_tls();
        let metrics = Arc::new(Metrics::new()?);
        let listeners = config
            .listen
            .iter()
            .map(|address| Listener::bind(address, &config.uids(), &mut sockets))
            .collect::<Result<Vec<_>, BindError>>()?;
        let admin = bind_tcp(config.admin.address, &mut sockets)
            .and_then(|admin| admin.set_nonblocking(true).map(|()| admin))
            .map_err(|error| BindError::new(config.admin.address, error, "admin.listen"))?;
        sockets.finish()?;
        let workers = config.workers;
        config.audit.as_ref().map_or(Ok(()), Audit::check)?;
        let prepared = Prepared::new(config, None)?;
        let spans = Spans::default();
        let (source, stderr) = (None, None);
        Ok(Self { prepared, workers, listeners, admin, metrics, source, spans, stderr })
    }

    /// Reloads the configuration from `source` when it changes.
    #[must_use]
    pub fn reloading(self, source: ConfigSource) -> Self {
        Self { source: Some(source), ..self }
    }

    /// Records a span of each request.
    #[must_use]
    pub fn spanning(self, spans: Spans) -> Self {
        Self { spans, ..self }
    }

    /// Writes an audit log on standard error by this writer, which other lines of the process use,
    /// too.
    #[must_use]
    pub fn writing_to(self, stderr: Box<dyn Write + Send>) -> Self {
        Self { stderr: Some(stderr), ..self }
    }

    /// The addresses where applications connect, with the real ports, in the configuration's order.
    pub fn addresses(&self) -> Vec<ListenAddress> {
        self.listeners.iter().map(Listener::address).collect()
    }

    /// The address of probes and metrics, with the real port.
    ///
    /// # Errors
    /// The system does not report it.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Runs until `shutdown` is requested and the requests in flight have ended.
    ///
    /// Control tasks (refreshers, admin) run on the tokio runtime that polls this function,
    /// requests on threads of their own.
    ///
    /// # Errors
    /// A thread or a runtime can't be started.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), AppError> {
        let drain = Drain::default();
        let addresses = self.addresses();
        let control = Control::default();
        let (setup, _) = self.prepared.start(&self.metrics, &control);
        let traffic = Traffic::default();
        let table = setup.table(&addresses, &self.metrics, &traffic, None);
        let stderr = self.stderr.unwrap_or_else(|| Box::new(io::stderr()));
        let audit = setup.config.audit.as_ref().map(|audit| Audit::start(audit, stderr));
        let audit = audit.transpose()?;
        let (metrics, spans) = (self.metrics.clone(), self.spans);
        let proxy = Proxy::new(table, metrics, drain.clone(), spans, audit.clone());
        let readiness = Readiness::new(setup.handles(), traffic.clone(), drain.clone());
        readiness.replace_guard(setup.local.guard.clone());
        readiness.set_audit(audit.clone());
        let starting = readiness.pending_until_dropped("listeners");
        let file = self.source.as_ref().and_then(|source| source.file.as_deref());
        let view = StatusView::new(readiness, self.metrics.clone(), &setup.config, file);
        let view = Arc::new(view);
        let hosts = setup.config.access.hosts.clone().into();
        let listeners = self.listeners.len().try_into().unwrap_or(u64::MAX);
        let requests = u64::from(setup.config.limits.requests).saturating_mul(listeners);
        let connections = ConnectionLimits::of_process(self.workers, requests);
        let admin = Admin { view: view.clone(), hosts };
        start_admin(&self.admin, setup.tls.admin.clone(), admin, connections.admin, &control)?;
        let anchors = &setup.inputs.anchors;
        let engines = Engines::new(self.workers, connections.pooled, proxy.clone(), anchors)?;
        let workers =
            Workers::start(&engines, self.listeners, &setup.tls.callers, connections.callers)?;
        drop(starting);
        for address in &addresses {
            info!(%address, "Listening.");
        }
        let tls = setup.tls.by_address(&addresses, self.admin.local_addr()?);
        listener_certificates::start(&tls, &self.metrics, &control);
        view.readiness().set_tls(tls);
        let urls = addresses.iter().enumerate();
        let urls = urls.map(|(index, address)| setup.config.url_of(ListenerId(index), address));
        control.spawn(ready::report(setup.handles(), urls.collect()));
        // Token or not: systemd must not end a sidecar whose issuer is down at boot.
        service_manager::ready();
        control.spawn(service::report(view.readiness().clone()));
        control.spawn(status::keep_history(view.clone()));

        let mut reloader = Reloader {
            setup: Arc::new(setup),
            addresses,
            proxy,
            engines,
            view,
            metrics: self.metrics,
            traffic,
            control: control.clone(),
            audit: audit.clone(),
        };
        tokio::select! {
            () = shutdown.requested.cancelled() => {}
            () = workers.failed() => return Err(AppError::WorkerFailed),
            () = reloader.run(self.source) => {}
        }
        service_manager::stopping();
        end(workers, &reloader.setup.config.shutdown, &drain, &shutdown).await;
        control.end().await;
        if let Some(audit) = audit {
            audit.end().await;
        }
        info!("bearerd has stopped.");
        Ok(())
    }
}

fn start_admin(
    listener: &TcpListener,
    tls: Option<Arc<ListenerTls>>,
    admin: Admin,
    most: usize,
    control: &Control,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
    info!(%address, "Admin is listening.");
    control.spawn(admin::serve(listener, tls, admin::router(admin), most));
    Ok(())
}

/// Ends gracefully: lame duck, drain, deadline.
async fn end(
    mut workers: Workers,
    times: &crate::config::ShutdownTimes,
    drain: &Drain,
    shutdown: &Shutdown,
) {
    drain.begin();
    let graceful = async {
        tokio::time::sleep(times.lame_duck).await;
        workers.stop_accepting();
        if timeout(times.grace.saturating_sub(REPLY_TIME), workers.ended()).await.is_err() {
            warn!("Requests are still in flight at the end of `shutdown.grace`; ending them.");
            drain.expire();
            // The next step is the same whether or not they end in time.
            let _ = timeout(REPLY_TIME.min(times.grace), workers.ended()).await;
        }
    };
    shutdown.forced.run_until_cancelled(graceful).await;
    workers.stop_accepting();
    workers.abort();
    workers.ended().await;
}

/// Reads what the configuration points at (secrets, certificates) without binding or sending
/// anything.
///
/// # Errors
/// The first thing that fails.
pub fn check(config: &Config) -> Result<(), AppError> {
    http_client::set_up_tls();
    config.audit.as_ref().map_or(Ok(()), Audit::check)?;
    Prepared::new(config.clone(), None)?;
    Ok(())
}
