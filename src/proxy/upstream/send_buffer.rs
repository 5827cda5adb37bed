//! How much of a large body the connection to an upstream accepts without waiting.
//!
//! pingora reads an answer only after it has written a whole chunk. If an upstream answers early,
//! stops reading and does not close, its answer would be read only after `timeouts.write`. So
//! nothing is read from the caller that could not be written at once: a second handle on the
//! connection shows the free space of the system's send buffer.

use super::tunnel::{self, Tunnels};
use async_trait::async_trait;
use http::StatusCode;
use pingora::connectors::l4::Connect;
use pingora::http::ResponseHeader;
use pingora::protocols::l4::socket::SocketAddr as PeerAddress;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{Digest, GetProxyDigest};
use pingora::{Error, ErrorType};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_send_buffer_size;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The largest number of connections with a second handle, which takes a file descriptor. Without
/// one, an early answer is read later.
pub(crate) const MOST_HANDLES: usize = 32;
/// The fraction of the send buffer that is read at a time. The system reports free space if a third
/// of the buffer is free, and two reads may be on their way to it.
const PARTS: usize = 8;
/// The least and the most bytes that are read at a time. pingora reads no more at once.
const READS: (usize, usize) = (4 << 10, 64 << 10);

/// A second handle on a connection, for the state of its send buffer.
#[derive(Debug)]
pub(in crate::proxy) struct SendBuffer {
    socket: TcpStream,
    _permit: Permit,
}

impl SendBuffer {
    fn of(socket: &TcpStream) -> io::Result<Self> {
        let permit = Permit::take().ok_or(io::ErrorKind::QuotaExceeded)?;
        let clone = socket.as_fd().try_clone_to_owned()?;
        Ok(Self { socket: TcpStream::from_std(clone.into())?, _permit: permit })
    }

    /// The second handle on a connection, if it has one.
    pub(in crate::proxy) fn on(digest: Option<&Digest>) -> Option<Arc<Self>> {
        let data = digest?.proxy_digest.as_ref()?.user_data.as_ref()?;
        data.downcast_ref::<Arc<Self>>().cloned()
    }

    /// Waits until the send buffer has space. Returns how many bytes may be read.
    pub(in crate::proxy) fn poll_room(&self, context: &mut Context<'_>) -> Poll<usize> {
        loop {
            let is_ready = ready!(self.socket.poll_write_ready(context));
            let seen = is_ready.and_then(|()| {
                self.socket.try_io(Interest::WRITABLE, || is_writable(&self.socket))
            });
            match seen {
                Ok(()) => {
                    return Poll::Ready(read_size(socket_send_buffer_size(&self.socket).ok()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The writer gets the same error.
                Err(_) => return Poll::Ready(READS.1),
            }
        }
    }
}

/// Whether the socket is writable now. The runtime only knows an earlier state.
fn is_writable(socket: &TcpStream) -> io::Result<()> {
    let mut asked = [PollFd::new(socket, PollFlags::OUT)];
    match poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}

/// How many bytes are read at a time for a send buffer of this size.
fn read_size(buffer: Option<usize>) -> usize {
    (buffer.unwrap_or_default() / PARTS).clamp(READS.0, READS.1)
}

/// The permit for one of [`MOST_HANDLES`].
#[derive(Debug)]
struct Permit(());

static TAKEN: AtomicUsize = AtomicUsize::new(0);

impl Permit {
    fn take() -> Option<Self> {
        let permit = Self(());
        (TAKEN.fetch_add(1, Ordering::Relaxed) < MOST_HANDLES).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        TAKEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Connects, directly or through a forward proxy, and opens the second handle.
#[derive(Debug)]
pub(super) struct WatchedConnector {
    pub(super) tunnels: Option<Arc<Tunnels>>,
    /// The timeout of connecting.
    pub(super) connect: Duration,
}

impl WatchedConnector {
    async fn open(&self, address: SocketAddr) -> pingora::Result<TcpStream> {
        if let Some(tunnels) = &self.tunnels {
            return tunnels.open(address).await.map_err(tunnel::failed);
        }
        let connected = timeout(self.connect, TcpStream::connect(address)).await;
        let connected = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut));
        connected.and_then(|done| done).map_err(|error| {
            let etype = match error.kind() {
                io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
                io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    ErrorType::ConnectNoRoute
                }
                _ => ErrorType::ConnectError,
            };
            Error::because(etype, "while connecting for an upload", error).into_up()
        })
    }
}

#[async_trait]
impl Connect for WatchedConnector {
    async fn connect(&self, address: &PeerAddress) -> pingora::Result<Stream> {
        let address = address.as_inet().ok_or_else(|| Error::new_in(ErrorType::InternalError))?;
        let socket = self.open(*address).await?;
        let send_buffer = SendBuffer::of(&socket);
        let mut stream = Stream::from(socket);
        // Without a free file descriptor, an early answer is read later.
        if let Ok(send_buffer) = send_buffer {
            let unused = Box::new(ResponseHeader::build(StatusCode::OK, None)?);
            let data = Some(Box::new(Arc::new(send_buffer)) as Box<_>);
            stream.set_proxy_digest(ProxyDigest::new(unused, data));
        }
        Ok(stream)
    }
}

#[cfg(test)]
pub(in crate::proxy) mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A connection, the second handle on it, and its other end.
    pub(in crate::proxy) async fn connection() -> (TcpStream, Arc<SendBuffer>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        let send_buffer = Arc::new(SendBuffer::of(&near).unwrap());
        (near, send_buffer, far)
    }

    #[test]
    fn two_reads_fit_into_what_is_free_of_any_buffer() {
        for buffer in [46_080, 87_040, 1 << 20, 4 << 20] {
            assert!(2 * read_size(Some(buffer)) < buffer / 3, "{buffer}");
        }
        assert_eq!((read_size(None), read_size(Some(usize::MAX))), READS);
    }

    #[tokio::test]
    async fn there_is_room_while_the_other_side_reads() {
        let (mut near, send_buffer, mut far) = connection().await;
        let second = Duration::from_secs(1);
        let room =
            async || timeout(second, poll_fn(|context| send_buffer.poll_room(context))).await.ok();
        let mut written = 0;
        while let Some(room) = room().await {
            // The write never has to wait.
            let before = written;
            while written < before + room {
                written += near.try_write(&vec![b'x'; before + room - written]).unwrap();
            }
        }
        assert!(written > 64 << 10, "{written}");
        let reading = async {
            let mut read = 0;
            while read < written {
                read += far.read(&mut vec![0; 1 << 20]).await.unwrap();
            }
        };
        let again = poll_fn(|context| send_buffer.poll_room(context));
        let (_, room) = tokio::join!(reading, again);
        assert!(room >= READS.0);
        near.write_all(b"more").await.unwrap();
    }
}
