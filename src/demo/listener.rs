//! Sockets that are bound first and served later, and their common shutdown.

use super::error::DemoError;
use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use std::io;
use std::net::{SocketAddr, TcpListener};
use tokio::task::JoinSet;

/// The tasks of all servers, with one handle to stop them together.
#[derive(Debug, Default)]
pub(super) struct Servers {
    handle: Handle<SocketAddr>,
    tasks: JoinSet<io::Result<()>>,
}

impl Servers {
    /// Closes the listeners and all connections, even with requests in progress.
    pub(super) fn shut_down(&self) {
        self.handle.shutdown();
    }

    /// Waits until all listeners are closed.
    pub(super) async fn wait(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// A bound socket with its actual address.
pub(super) struct BoundSocket {
    socket: TcpListener,
    pub(super) address: SocketAddr,
}

impl BoundSocket {
    pub(super) fn bind(wanted: SocketAddr) -> Result<Self, DemoError> {
        let bound = || {
            let socket = TcpListener::bind(wanted)?;
            // tokio requires a non-blocking socket, but does not set this mode itself.
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?;
            Ok(Self { socket, address })
        };
        bound().map_err(|reason| DemoError::Bind { address: wanted, reason })
    }

    pub(super) fn serve_tls(
        self,
        servers: &mut Servers,
        tls: &RustlsConfig,
        routes: Router,
    ) -> Result<(), DemoError> {
        let server = axum_server::from_tcp_rustls(self.socket, tls.clone())
            .map_err(|reason| DemoError::Bind { address: self.address, reason })?;
        servers
            .tasks
            .spawn(server.handle(servers.handle.clone()).serve(routes.into_make_service()));
        Ok(())
    }

    pub(super) fn serve_plain(
        self,
        servers: &mut Servers,
        routes: Router,
    ) -> Result<(), DemoError> {
        let server = axum_server::from_tcp(self.socket)
            .map_err(|reason| DemoError::Bind { address: self.address, reason })?;
        servers.tasks.spawn(
            server.http1_only().handle(servers.handle.clone()).serve(routes.into_make_service()),
        );
        Ok(())
    }
}
