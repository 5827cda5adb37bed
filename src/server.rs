//! Where applications connect: connections accepted, their requests handed to pingora, one single-threaded
//! runtime a worker.
//!
//! pingora's own `Server` is not used: it binds late and in silence, sleeps through its whole grace
//! period, and does not tell which port it got. Its proxy is made to be driven by an accept loop
//! such as this one. It gets a connection only when a request has begun: to wait for one, it holds 25 KiB.

mod engine;
mod listener;
pub(crate) mod room;
mod seats;

pub(crate) use engine::Engines;
pub use listener::{BindError, Listener, SocketFile};
pub(crate) use room::Room;

use crate::config::ListenerId;
use crate::error::ErrorKind;
use crate::proxy::downstream::{Downstream, Load, Socket};
use crate::proxy::respond::Problem;
use engine::Engine;
use listener::{Accepted, Accepting};
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::time::fast_timeout::fast_timeout;
use seats::Seats;
use std::future::ready;
use std::io;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream as UnixCaller;
use tokio::runtime::Builder;
use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::task::yield_now;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

/// How long a caller has that finds no room. Others wait behind it.
const AT_ONCE: Duration = Duration::from_millis(5);
/// How long a caller that may not call has to read so.
const REPLY_TIME: Duration = Duration::from_secs(2);

/// Tells a stranger so. What it sends is read for a while: closing at once would take the answer away.
async fn reject(mut stream: UnixCaller, load: Arc<Load>) {
    let problem = Problem::new(ErrorKind::AccessDenied, "this user id is not in `access.uids`");
    load.record_rejected(&problem);
    let reply = async {
        stream.write_all(&problem.to_wire()).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    // Nobody is owed more than a try.
    let _ = timeout(REPLY_TIME, reply).await;
}

/// Starts the thread of pingora's timers. By itself it begins with the first request to an upstream, when the
/// system may have no thread to give; that request and all later ones would panic.
fn start_timers() -> io::Result<()> {
    let timer = || drop(fast_timeout(Duration::ZERO, ready(())));
    catch_unwind(timer).map_err(|_| io::Error::other("the thread of the timers cannot be started"))
}

/// The threads that serve requests.
pub(crate) struct Workers {
    sockets: Vec<SocketFile>,
    /// Cancelled to stop accepting and to let requests in flight finish.
    stop: CancellationToken,
    /// Cancelled to end whatever is still there.
    force: CancellationToken,
    /// Cancelled by a worker that ends without having been asked to.
    failed: CancellationToken,
    /// Closed when the last worker has ended.
    ended: mpsc::Receiver<()>,
}

impl Workers {
    /// Starts them on the same listeners, which are in the configuration's order. Each serves so many
    /// connections at most.
    pub(crate) fn start(
        engines: &Engines,
        listeners: Vec<Listener>,
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
            force: CancellationToken::new(),
            failed: CancellationToken::new(),
            ended,
        };
        let load = |index| engines.proxy.load(ListenerId(index));
        let loads: Vec<_> = (0..listeners.len()).map(load).collect();
        for (index, engine) in engines.engines.iter().enumerate() {
            let listeners =
                listeners.iter().map(Listener::try_clone).collect::<io::Result<Vec<_>>>()?;
            let listeners = listeners.into_iter().zip(loads.clone()).collect();
            let worker = Worker {
                listeners,
                engine: engine.clone(),
                most,
                stop: workers.stop.clone(),
                force: workers.force.clone(),
            };
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (alive, stop) = (alive.clone(), workers.stop.clone());
            let failure = workers.failed.clone().drop_guard();
            std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                let _alive = alive;
                if let Err(error) = runtime.block_on(worker.run()) {
                    warn!("A worker ended: {error}.");
                }
                // Waits for nothing: what is left was past its deadline.
                runtime.shutdown_background();
                if stop.is_cancelled() {
                    failure.disarm();
                }
            })?;
        }
        Ok(workers)
    }

    /// Stops accepting. Requests in flight go on.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
        // At once, so that a successor's socket can take the place.
        self.sockets.iter().for_each(SocketFile::remove);
    }

    /// Ends what is still in flight.
    pub(crate) fn force(&self) {
        self.force.cancel();
    }

    /// Resolves when a worker has ended without having been asked to.
    pub(crate) async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Resolves when no worker is left.
    pub(crate) async fn ended(&mut self) {
        // Nothing is ever sent: the channel closes with the last worker.
        self.ended.recv().await;
    }
}

struct Worker {
    listeners: Vec<(Listener, Arc<Load>)>,
    engine: Arc<Engine>,
    most: usize,
    stop: CancellationToken,
    force: CancellationToken,
}

impl Worker {
    async fn run(self) -> io::Result<()> {
        let connections = TaskTracker::new();
        let (shutdown, watch) = watch::channel(false);
        let seats = Seats::new(self.most);
        for (listener, load) in self.listeners {
            let accepting = accept_loop(
                listener.into_tokio()?,
                load,
                self.engine.clone(),
                seats.clone(),
                connections.clone(),
                watch.clone(),
            );
            let stop = self.stop.clone();
            connections.spawn(async move { stop.run_until_cancelled(accepting).await });
        }
        self.stop.cancelled().await;
        // The flag makes answers close their connection, the clean-up wakes the idle ones.
        shutdown.send_replace(true);
        self.engine.load_full().http_cleanup().await;
        connections.close();
        self.force.run_until_cancelled(connections.wait()).await;
        Ok(())
    }
}

async fn accept_loop(
    listener: Accepting,
    load: Arc<Load>,
    engine: Arc<Engine>,
    seats: Arc<Seats>,
    connections: TaskTracker,
    shutdown: watch::Receiver<bool>,
) {
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                match (accepted, seats.make_room()) {
                    (Accepted::Caller(socket), true) => seats.serve(&connections, |seat| {
                        let downstream = Box::new(Downstream::new(socket, load.clone(), seat));
                        serve(downstream, engine.clone(), shutdown.clone())
                    }),
                    (Accepted::Rejected(stream), true) => {
                        seats.serve(&connections, |_| reject(stream, load.clone()));
                    }
                    (Accepted::Caller(socket), false) => reject_overloaded(socket, &load).await,
                    (Accepted::Rejected(_), false) => {}
                }
                // The new one is looked at before a burst of others can take its place.
                yield_now().await;
            }
            Err(error) => room::recover(&listener, &error, || seats.evict()).await,
        }
    }
}

/// Refuses a caller that finds no room. It is answered at once or not at all.
async fn reject_overloaded(mut socket: Socket, load: &Load) {
    let detail =
        "more connections than the limit of open files, or `limits.requests`, allows; try again";
    let problem = Problem::overloaded(detail);
    load.record_rejected(&problem);
    let reply = async {
        // What is here already is read: otherwise the connection's end would take the answer away.
        let mut request = [0; 4096];
        socket.write_all(&problem.to_wire()).await?;
        socket.shutdown().await?;
        socket.read(&mut request).await
    };
    let _ = timeout(AT_ONCE, reply).await;
}

/// Hands pingora the requests of a connection, one after the other.
async fn serve(
    mut downstream: Box<Downstream>,
    engine: Arc<Engine>,
    mut shutdown: watch::Receiver<bool>,
) {
    loop {
        let has_request = select! {
            // What has come is answered.
            biased;
            has_request = downstream.wait_for_request() => has_request,
            _ = shutdown.wait_for(|is_due| *is_due) => false,
        };
        if !has_request {
            return;
        }
        let mut session = ServerSession::new_http1(downstream);
        // That it is kept, not for how long: the connection itself keeps the time.
        session.set_keepalive((!*shutdown.borrow()).then_some(0));
        let engine = engine.load_full();
        let Some(kept) = engine.process_new_http(session, &shutdown).await else { return };
        let (stream, _) = kept.consume();
        let Ok(kept) = stream.into_any().downcast() else { return };
        downstream = kept;
    }
}
