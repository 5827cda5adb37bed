//! Worker: accepts connections on every listener, and serves their requests on one thread.

use super::accept_error;
use super::connections::Connections;
use super::engine::Engine;
use super::listener::{Accepted, AsyncListener, Listener};
use super::{handshake, reply};
use crate::listener_tls::ListenerTls;
use crate::proxy::downstream::{Downstream, Load, Socket};
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use std::future::pending;
use std::io;
use std::sync::Arc;
use tokio::select;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A listener of a worker.
pub(super) struct Door {
    pub(super) listener: Listener,
    pub(super) load: Arc<Load>,
    pub(super) tls: Option<Arc<ListenerTls>>,
}

/// A worker that has not started.
pub(super) struct Worker {
    pub(super) doors: Vec<Door>,
    pub(super) engine: Arc<Engine>,
    /// The largest number of connections at once.
    pub(super) most: usize,
    /// Cancelled to stop accepting.
    pub(super) stop: CancellationToken,
    /// Cancelled to end requests in flight.
    pub(super) abort: CancellationToken,
}

impl Worker {
    /// Serves until `stop` and the end of all requests, or `abort`.
    pub(super) async fn run(self) -> io::Result<()> {
        let tasks = TaskTracker::new();
        let (shutdown, watch) = watch::channel(false);
        let connections = Connections::new(self.most);
        for Door { listener, load, tls } in self.doors {
            let accepting = accept_loop(
                listener.into_tokio()?,
                load,
                tls,
                self.engine.clone(),
                connections.clone(),
                tasks.clone(),
                watch.clone(),
            );
            let stop = self.stop.clone();
            tasks.spawn(async move { stop.run_until_cancelled(accepting).await });
        }
        self.stop.cancelled().await;
        // The flag makes answers close their connection; the clean-up wakes idle connections.
        shutdown.send_replace(true);
        self.engine.load_full().http_cleanup().await;
        tasks.close();
        self.abort.run_until_cancelled(tasks.wait()).await;
        Ok(())
    }
}

async fn accept_loop(
    listener: AsyncListener,
    load: Arc<Load>,
    tls: Option<Arc<ListenerTls>>,
    engine: Arc<Engine>,
    connections: Arc<Connections>,
    tasks: TaskTracker,
    shutdown: watch::Receiver<bool>,
) {
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                match (accepted, connections.make_room()) {
                    (Accepted::Caller(socket), true) => connections.serve(&tasks, |activity| {
                        let (load, tls) = (load.clone(), tls.clone());
                        let (engine, mut shutdown) = (engine.clone(), shutdown.clone());
                        async move {
                            // Before the handshake, so that no removal is missed.
                            let removals = tls.as_ref().map(|tls| tls.removals());
                            let socket = match tls {
                                Some(tls) => begin_tls(socket, &tls, &load, &mut shutdown).await,
                                None => Some(socket),
                            };
                            let Some(socket) = socket else { return };
                            let downstream = Box::new(Downstream::new(socket, load, activity));
                            serve(downstream, engine, shutdown, removals).await;
                        }
                    }),
                    (Accepted::Rejected(stream), true) => {
                        connections.serve(&tasks, |_| reply::reject_user(stream, load.clone()));
                    }
                    // There is no time for a handshake.
                    (Accepted::Caller(_), false) if tls.is_some() => {
                        load.record_rejected(&reply::overloaded());
                    }
                    (Accepted::Caller(socket), false) => {
                        reply::reject_overloaded(socket, &load).await
                    }
                    (Accepted::Rejected(_), false) => {}
                }
                // Polls the new connection before a burst of others can evict it.
                yield_now().await;
            }
            Err(error) => {
                accept_error::recover(&listener, &error, || connections.evict_idle()).await
            }
        }
    }
}

/// Does the handshake, and gives it up when the worker stops.
async fn begin_tls(
    socket: Socket,
    tls: &ListenerTls,
    load: &Load,
    shutdown: &mut watch::Receiver<bool>,
) -> Option<Socket> {
    select! {
        // Boxed, since most listeners have no TLS.
        socket = Box::pin(handshake::enter(socket, tls, load)) => socket,
        _ = shutdown.wait_for(|due| *due) => None,
    }
}

/// Serves the requests of a connection, one after the other.
async fn serve(
    mut downstream: Box<Downstream>,
    engine: Arc<Engine>,
    mut shutdown: watch::Receiver<bool>,
    mut removals: Option<watch::Receiver<()>>,
) {
    loop {
        let has_request = select! {
            // A request that has arrived is served, even at shutdown.
            biased;
            has_request = downstream.wait_for_request() => has_request,
            _ = shutdown.wait_for(|is_due| *is_due) => false,
            () = removed(removals.as_mut()) => false,
        };
        if !has_request {
            return;
        }
        let mut session = ServerSession::new_http1(downstream);
        // Keeps the connection alive. The connection itself limits the time.
        let is_last = *shutdown.borrow() || is_removed(removals.as_ref());
        session.set_keepalive((!is_last).then_some(0));
        let engine = engine.load_full();
        let Some(kept) = engine.process_new_http(session, &shutdown).await else { return };
        let (stream, _) = kept.consume();
        let Ok(kept) = stream.into_any().downcast() else { return };
        downstream = kept;
    }
}

/// Resolves when an authority of callers' certificates is removed.
async fn removed(removals: Option<&mut watch::Receiver<()>>) {
    match removals {
        // Fails if the listener is gone, which ends the connection too.
        Some(removals) => drop(removals.changed().await),
        None => pending().await,
    }
}

/// Whether an authority of callers' certificates was removed since the handshake.
fn is_removed(removals: Option<&watch::Receiver<()>>) -> bool {
    removals.is_some_and(|removals| removals.has_changed().unwrap_or(true))
}
