//! Connections through a forward proxy, as pingora's connector of layer 4: TLS goes on top as it would on any
//! other connection, and the pool keeps tunnels as it keeps them.

use crate::forward_proxy::{Destination, TunnelError};
use async_trait::async_trait;
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::{Error, ErrorType};
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The forward proxy refused or failed.
pub(in crate::proxy) const FAILED: ErrorType = ErrorType::new("UpstreamProxy");

/// Tunnels to one server.
#[derive(Debug)]
pub(super) struct Tunnels {
    pub(super) destination: Destination,
    /// For the connection to the proxy, and again for its answer: it has to connect, too.
    pub(super) connect: Duration,
}

impl Tunnels {
    /// Opens one, by the proxy at this address.
    pub(super) async fn open(&self, proxy: std::net::SocketAddr) -> Result<TcpStream, TunnelError> {
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let connected = timeout(self.connect, TcpStream::connect(proxy)).await.map_err(late);
        let mut stream = connected.and_then(|done| done).map_err(TunnelError::Connect)?;
        let opened = timeout(self.connect, self.destination.open(&mut stream)).await;
        opened.map_err(|elapsed| TunnelError::NoAnswer(late(elapsed)))??;
        Ok(stream)
    }
}

#[async_trait]
impl Connect for Tunnels {
    /// The address is the proxy's.
    async fn connect(&self, address: &SocketAddr) -> pingora::Result<Stream> {
        let proxy = address.as_inet().ok_or_else(|| Error::new_in(ErrorType::InternalError))?;
        self.open(*proxy).await.map(Stream::from).map_err(failed)
    }
}

/// Why there is no tunnel.
pub(super) fn failed(error: TunnelError) -> Box<Error> {
    let told = error.to_string();
    Error::because(FAILED, told, error).into_up()
}

/// Whether the proxy was reached and said no: it would say so at its other addresses, too.
pub(super) fn is_refusal(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<TunnelError>();
    matches!(cause, Some(TunnelError::Refused { .. } | TunnelError::NotHttp))
}
