//! A TCP socket, with or without TLS, or a Unix socket, behind one type.

use crate::config::ListenerId;
use crate::listener_tls::CallerCertificate;
use crate::proxy::peer::Peer;
use futures_util::FutureExt;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// The socket of a caller.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// The socket of the system.
enum System<'a> {
    Tcp(&'a TcpStream),
    Unix(&'a UnixStream),
}

impl Socket {
    fn system(&self) -> System<'_> {
        match self {
            Self::Tcp(stream) => System::Tcp(stream),
            Self::Tls(stream) => System::Tcp(stream.get_ref().0),
            Self::Unix(stream) => System::Unix(stream),
        }
    }

    /// What the connection to this listener says about the caller.
    pub(super) fn peer(&self, listener: ListenerId) -> Peer {
        match self {
            Self::Tcp(_) => Peer::Tcp,
            Self::Tls(stream) => Peer::Tls { listener, certificate: CallerCertificate::of(stream) },
            Self::Unix(stream) => {
                Peer::Unix { uid: stream.peer_cred().ok().map(|user| user.uid()) }
            }
        }
    }

    /// Ready when there is something to read, including the end.
    pub(super) fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Self::Tls(stream) = self
            && !stream.get_ref().1.wants_read()
        {
            // It is decrypted already.
            return Poll::Ready(Ok(()));
        }
        match self.system() {
            System::Tcp(stream) => stream.poll_read_ready(context),
            System::Unix(stream) => stream.poll_read_ready(context),
        }
    }

    /// Whether the system has reported that the caller has closed its side or the connection.
    pub(super) fn is_closed(&self) -> bool {
        // Without a pending event there is nothing to wait for; waiting would take a lock.
        let anything = || Ok(());
        let ready = match self.system() {
            System::Tcp(stream) => stream
                .try_io(Interest::READABLE, anything)
                .ok()
                .and_then(|()| stream.ready(Interest::READABLE).now_or_never()),
            System::Unix(stream) => stream
                .try_io(Interest::READABLE, anything)
                .ok()
                .and_then(|()| stream.ready(Interest::READABLE).now_or_never()),
        };
        ready.and_then(Result::ok).is_some_and(Ready::is_read_closed)
    }

    /// Makes closing a reset, on TCP.
    pub(super) fn reset_when_closed(&self) {
        if let System::Tcp(stream) = self.system() {
            // If this fails, closing is a regular end, as on a Unix socket.
            let _ = stream.set_zero_linger();
        }
    }

    /// A second handle of the connection, with a readiness of its own.
    pub(super) fn duplicate(&self) -> io::Result<Self> {
        match self.system() {
            System::Tcp(stream) => {
                let handle = stream.as_fd().try_clone_to_owned()?;
                TcpStream::from_std(handle.into()).map(Self::Tcp)
            }
            System::Unix(stream) => {
                let handle = stream.as_fd().try_clone_to_owned()?;
                UnixStream::from_std(handle.into()).map(Self::Unix)
            }
        }
    }

    /// Waits for the next event of the connection since the last call.
    pub(super) async fn next_readiness(&self) -> io::Result<Ready> {
        let seen = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        match self.system() {
            System::Tcp(stream) => {
                let ready = stream.ready(Interest::READABLE).await?;
                let _ = stream.try_io(Interest::READABLE, seen);
                Ok(ready)
            }
            System::Unix(stream) => {
                let ready = stream.ready(Interest::READABLE).await?;
                let _ = stream.try_io(Interest::READABLE, seen);
                Ok(ready)
            }
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        match self.system() {
            System::Tcp(stream) => stream.as_raw_fd(),
            System::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

/// Calls the same method of either socket.
macro_rules! either {
    ($socket:expr, $method:ident($($argument:expr),*)) => {
        match $socket {
            Socket::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Socket::Tls(stream) => Pin::new(stream).$method($($argument),*),
            Socket::Unix(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(&mut *self, poll_read(context, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(&mut *self, poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut *self, poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut *self, poll_shutdown(context))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(&mut *self, poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    #[tokio::test]
    async fn a_duplicate_reports_each_event_once_and_leaves_the_bytes_alone() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut ours = Socket::Unix(ours);
        let duplicate = ours.duplicate().unwrap();
        theirs.write_all(b"body").await.unwrap();
        assert!(!duplicate.next_readiness().await.unwrap().is_read_closed());
        let again = timeout(Duration::from_millis(50), duplicate.next_readiness()).await;
        assert!(again.is_err(), "it would be asked over and over");
        drop(theirs);
        assert!(duplicate.next_readiness().await.unwrap().is_read_closed());
        let mut bytes = String::new();
        ours.read_to_string(&mut bytes).await.unwrap();
        assert_eq!(bytes, "body");
    }

    #[tokio::test]
    async fn an_end_is_known_as_soon_as_the_system_reports_it_whatever_is_left_unread() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ours = Socket::Unix(ours);
        assert!(!ours.is_closed());
        theirs.write_all(b"body").await.unwrap();
        std::future::poll_fn(|context| ours.poll_read_ready(context)).await.unwrap();
        assert!(!ours.is_closed(), "bytes are not an end");
        drop(theirs);
        let known = async {
            while !ours.is_closed() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), known).await.expect("it is closed");
    }
}
