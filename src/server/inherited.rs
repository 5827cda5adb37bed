//! Listening sockets that the service manager has bound: systemd's socket activation. They outlive
//! the process, so that callers wait during a restart and are not refused.

use listenfd::ListenFd;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// The sockets that no listener has taken yet.
#[derive(Debug, Default)]
pub struct InheritedSockets {
    tcp: Vec<(SocketAddr, TcpListener)>,
    unix: Vec<(PathBuf, UnixListener)>,
}

/// Why inherited sockets can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// It is of another kind.
    #[error(
        "socket {number} from systemd is neither a TCP socket nor a Unix stream socket with a path ({source}); correct the socket unit"
    )]
    Kind {
        /// Its number, from 1.
        number: usize,
        /// The system's error.
        source: io::Error,
    },
    /// The configuration does not name its address.
    #[error(
        "systemd passed a socket for {0}, which is neither in `listen` nor `admin.listen`; use the same addresses in the configuration and in ListenStream= of the socket unit"
    )]
    Unused(String),
}

impl InheritedSockets {
    /// Takes the sockets of this process. Must be called before the process has other threads.
    ///
    /// # Errors
    /// A socket is of another kind.
    pub fn take() -> Result<Self, InheritError> {
        let mut passed = ListenFd::from_env();
        let mut sockets = Self::default();
        for index in 0..passed.len() {
            let failed = |source| InheritError::Kind { number: index + 1, source };
            if let Ok(Some(listener)) = passed.take_tcp_listener(index) {
                sockets.tcp.push((listener.local_addr().map_err(failed)?, listener));
            } else if let Some(listener) = passed.take_unix_listener(index).map_err(failed)? {
                let address = listener.local_addr().map_err(failed)?;
                let path = address.as_pathname().ok_or(io::ErrorKind::AddrNotAvailable);
                let path = path.map_err(|kind| failed(kind.into()))?;
                sockets.unix.push((path.to_owned(), listener));
            }
        }
        Ok(sockets)
    }

    /// The socket for this TCP address, if there is one.
    pub(crate) fn tcp(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        let index = self.tcp.iter().position(|(address, _)| *address == wanted)?;
        Some(self.tcp.swap_remove(index).1)
    }

    /// The socket with this file, if there is one.
    pub(super) fn unix(&mut self, wanted: &Path) -> Option<UnixListener> {
        let index = self.unix.iter().position(|(path, _)| path == wanted)?;
        Some(self.unix.swap_remove(index).1)
    }

    /// Refuses a socket that nothing has taken: its callers would wait for ever.
    pub(crate) fn finish(self) -> Result<(), InheritError> {
        let tcp = self.tcp.into_iter().map(|(address, _)| address.to_string());
        let unix = self.unix.into_iter().map(|(path, _)| format!("unix:{}", path.display()));
        tcp.chain(unix).next().map_or(Ok(()), |address| Err(InheritError::Unused(address)))
    }
}
