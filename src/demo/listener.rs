//! A bound socket, and how it is served.

use std::io;
use std::net::{SocketAddr, TcpListener};

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use tokio::task::JoinSet;

use super::DemoError;

/// What the servers run in: their tasks, and one handle to stop them together.
#[derive(Debug, Default)]
pub(super) struct Servers {
    handle: Handle<SocketAddr>,
    tasks: JoinSet<io::Result<()>>,
}

impl Servers {
    /// Stops listening and closes every connection, also those with a request in progress.
    pub(super) fn shut_down(&self) {
        self.handle.shutdown();
    }

    /// Waits until nothing listens any more.
    pub(super) async fn ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// A bound socket and the address it got.
pub(super) struct Listener {
    socket: TcpListener,
    pub(super) address: SocketAddr,
}

impl Listener {
    pub(super) fn bind(wanted: SocketAddr) -> Result<Self, DemoError> {
        let bound = || {
            let socket = TcpListener::bind(wanted)?;
            // tokio wants its sockets non-blocking and does not see to it itself.
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
