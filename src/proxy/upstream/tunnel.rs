//! Connections through a forward proxy, as pingora's layer-4 connector. TLS runs inside the tunnel,
//! and the connection pool treats a tunnel as any other connection.

use crate::error::ErrorKind;
use crate::forward_proxy::{Destination, TunnelError};
use crate::no_answer::NoAnswer;
use crate::proxy::problem::Problem;
use async_trait::async_trait;
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::{Error, ErrorType};
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The forward proxy failed, or could not be reached.
const FAILED: ErrorType = ErrorType::new("UpstreamProxy");
/// The forward proxy answered with a refusal. The access log shows the same name.
const REFUSED: ErrorType = ErrorType::new_code("UpstreamProxy", 403);

/// Tunnels to one server.
#[derive(Debug)]
pub(super) struct Tunnels {
    pub(super) destination: Destination,
    /// The time limit for connecting to the proxy, and again for its answer: the proxy has to
    /// connect, too.
    pub(super) connect: Duration,
}

impl Tunnels {
    /// Opens a tunnel through the proxy at this address.
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
    /// Opens a tunnel; `address` is the proxy's.
    async fn connect(&self, address: &SocketAddr) -> pingora::Result<Stream> {
        let proxy = address.as_inet().ok_or_else(|| Error::new_in(ErrorType::InternalError))?;
        self.open(*proxy).await.map(Stream::from).map_err(failed)
    }
}

/// Ends an attempt that got no tunnel.
pub(super) fn failed(error: TunnelError) -> Box<Error> {
    let etype = match error {
        TunnelError::Refused { .. } | TunnelError::NotHttp => REFUSED,
        _ => FAILED,
    };
    let why = match &error {
        TunnelError::Connect(error) => {
            format!("the proxy {}", NoAnswer::of(error).predicate())
        }
        _ => error.to_string(),
    };
    problem(&why).into_error(etype).into_up()
}

/// Ends an attempt for which the forward proxy's name could not be resolved.
pub(super) fn unreachable(why: &str) -> Box<Error> {
    problem(why).into_error(FAILED).into_up()
}

fn problem(why: &str) -> Problem {
    let detail = format!("cannot reach the upstream through the forward proxy: {why}");
    Problem::new(ErrorKind::UpstreamProxy, detail)
}

/// Whether the proxy was reached and refused.
pub(super) fn is_refusal(error: &Error) -> bool {
    *error.etype() == REFUSED
}
