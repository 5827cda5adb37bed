//! Server for applications: accepts their connections, and hands their requests to pingora. Each
//! worker is a thread with a single-threaded runtime.
//!
//! pingora's own `Server` is not used. It binds late, reports no failure, sleeps through its whole
//! grace period, and does not report its port. Any accept loop can drive pingora's proxy. Here the
//! proxy gets a connection only when a request has begun: while pingora waits, it holds 25 KiB.

mod accept_error;
mod connections;
mod engine;
mod handshake;
mod inherited;
mod limits;
mod listener;
mod reply;
mod worker;

pub(crate) use accept_error::recover;
pub(crate) use engine::Engines;
pub use inherited::{InheritError, InheritedSockets};
pub(crate) use limits::ConnectionLimits;
pub(crate) use listener::bind_tcp;
pub use listener::{BindError, Listener, SocketFile};
pub(crate) use reply::deliver;

use crate::config::ListenerId;
use crate::listener_tls::ListenerTls;
use pingora::time::fast_timeout::fast_timeout;
use std::collections::BTreeMap;
use std::future::ready;
use std::io;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use worker::{Door, Worker};

/// Threads that serve requests.
pub(crate) struct Workers {
    sockets: Vec<SocketFile>,
    /// Cancelled to stop accepting and to let requests in flight finish.
    stop: CancellationToken,
    /// Cancelled to end requests that are still in flight.
    abort: CancellationToken,
    /// Cancelled when a worker ends by itself.
    failed: CancellationToken,
    /// Closed when the last worker has ended.
    ended: mpsc::Receiver<()>,
}

impl Workers {
    /// Starts the workers on the same listeners, which are in the configuration's order. Each
    /// worker serves at most `most` connections.
    pub(crate) fn start(
        engines: &Engines,
        listeners: Vec<Listener>,
        tls: &BTreeMap<ListenerId, Arc<ListenerTls>>,
        most: usize,
    ) -> io::Result<Self> {
        start_timers()?;
        let (alive, ended) = mpsc::channel(1);
        let sockets = listeners.iter().filter_map(|listener| match listener {
            Listener::Unix(_, file, _) => Some(file.clone()),
            Listener::Tcp(..) => None,
        });
        let workers = Self {
            sockets: sockets.collect(),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            failed: CancellationToken::new(),
            ended,
        };
        let load = |index| engines.proxy.load(ListenerId(index));
        let loads: Vec<_> = (0..listeners.len()).map(load).collect();
        for (index, engine) in engines.engines.iter().enumerate() {
            let listeners =
                listeners.iter().map(Listener::try_clone).collect::<io::Result<Vec<_>>>()?;
            let doors = listeners.into_iter().zip(loads.clone()).enumerate();
            let doors = doors.map(|(index, (listener, load))| {
                let tls = tls.get(&ListenerId(index)).cloned();
                Door { listener, load, tls }
            });
            let worker = Worker {
                doors: doors.collect(),
                engine: engine.clone(),
                most,
                stop: workers.stop.clone(),
                abort: workers.abort.clone(),
            };
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (alive, stop) = (alive.clone(), workers.stop.clone());
            let failure = workers.failed.clone().drop_guard();
            std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                let _alive = alive;
                if let Err(error) = runtime.block_on(worker.run()) {
                    warn!("A worker thread stopped unexpectedly: {error}.");
                }
                // Does not wait: a task that is left is past its deadline.
                runtime.shutdown_background();
                if stop.is_cancelled() {
                    failure.disarm();
                }
            })?;
        }
        Ok(workers)
    }

    /// Stops accepting connections. Requests in flight continue.
    pub(crate) fn stop_accepting(&self) {
        self.stop.cancel();
        // At once, so that a new process can bind its socket there.
        self.sockets.iter().for_each(SocketFile::remove);
    }

    /// Ends requests that are still in flight.
    pub(crate) fn abort(&self) {
        self.abort.cancel();
    }

    /// Resolves when a worker has stopped unexpectedly.
    pub(crate) async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Resolves when no worker is left.
    pub(crate) async fn ended(&mut self) {
        // Nothing is ever sent: the channel closes with the last worker.
        self.ended.recv().await;
    }
}

/// Starts the thread of pingora's timers.
///
/// pingora starts it with the first request to an upstream. If the system has no thread left then,
/// that request and all later ones panic.
fn start_timers() -> io::Result<()> {
    let timer = || drop(fast_timeout(Duration::ZERO, ready(())));
    catch_unwind(timer).map_err(|_| io::Error::other("cannot start the timer thread"))
}
