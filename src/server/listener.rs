//! Listening sockets: bound before anything starts, then accepted from.

use super::inherited::InheritedSockets;
use crate::config::ListenAddress;
use crate::proxy::downstream::Socket;
use rustix::fs::{self, Mode};
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::getuid;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::UnixStream as UnixCaller;

/// Mode of a Unix socket that only the user of the process may connect to.
const SOCKET_MODE: u32 = 0o600;
/// Mode of a Unix socket with user ids: any user may connect, and one that is not in the list
/// is rejected.
const SHARED_SOCKET_MODE: u32 = 0o666;

/// The largest number of connections that wait to be accepted: as many as the system allows.
const BACKLOG: i32 = -1;

/// A bound listening socket.
#[derive(Debug)]
pub enum Listener {
    /// A TCP socket, and its address with the real port.
    Tcp(TcpListener, SocketAddr),
    /// A Unix socket, its file, and the user ids that may connect besides that of the process.
    Unix(UnixListener, SocketFile, Arc<[u32]>),
}

/// File of a Unix socket, with its identity: another process may bind its own there.
#[derive(Clone, Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    /// Whether the service manager made it, and keeps it for the next process.
    is_inherited: bool,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let file = path.symlink_metadata()?;
        let identity = (file.dev(), file.ino());
        Ok(Self { path: path.to_owned(), identity, is_inherited: false })
    }

    /// Removes the file if it is still this process's.
    pub(super) fn remove(&self) {
        if self.is_inherited {
            return;
        }
        if Self::of(&self.path).is_ok_and(|found| found.identity == self.identity) {
            // Fails if the file is gone already, which is as good.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; {advice}")]
pub struct BindError {
    address: String,
    source: io::Error,
    advice: &'static str,
}

impl BindError {
    /// Creates the error. `key` is the key of the address in the configuration.
    pub(crate) fn new(address: impl ToString, source: io::Error, key: &'static str) -> Self {
        let advice = match (source.kind(), key) {
            (io::ErrorKind::AddrInUse, "admin.listen") => {
                "set `admin.listen` to another address, or stop the process that uses this one"
            }
            (io::ErrorKind::AddrInUse, _) => {
                "set `listen` to another address, or stop the process that uses this one"
            }
            (io::ErrorKind::PermissionDenied, _) => {
                "choose a port above 1023, or a directory that this user may write"
            }
            (io::ErrorKind::NotFound, _) => "make the socket's folder first",
            _ => "check that the address belongs to this machine",
        };
        Self { address: address.to_string(), source, advice }
    }

    /// Replaces the advice, where the addresses do not come from a configuration.
    #[must_use]
    pub fn with_advice(self, advice: &'static str) -> Self {
        Self { advice, ..self }
    }
}

impl Listener {
    /// Binds an address, unless a socket for it is inherited. The Unix socket of a crashed process
    /// is replaced; one that is in use is not.
    ///
    /// # Errors
    /// The address is in use, not of this machine, or not permitted.
    pub fn bind(
        address: &ListenAddress,
        uids: &[u32],
        inherited: &mut InheritedSockets,
    ) -> Result<Self, BindError> {
        let bound = match address {
            ListenAddress::Tcp(address) => bind_tcp(*address, inherited).and_then(|listener| {
                listener.local_addr().map(|address| Self::Tcp(listener, address))
            }),
            ListenAddress::Unix(path) => match inherited.unix(path) {
                Some(listener) => SocketFile::of(path).map(|file| {
                    Self::Unix(listener, SocketFile { is_inherited: true, ..file }, uids.into())
                }),
                None => bind_unix(path, uids),
            },
        };
        bound
            .and_then(|listener| listener.set_nonblocking().map(|()| listener))
            .map_err(|source| BindError::new(address, source, "listen"))
    }

    /// Returns the address with its real port.
    pub fn address(&self) -> ListenAddress {
        match self {
            Self::Tcp(_, address) => ListenAddress::Tcp(*address),
            Self::Unix(_, file, _) => ListenAddress::Unix(file.path.clone()),
        }
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(listener, _) => listener.set_nonblocking(true),
            Self::Unix(listener, ..) => listener.set_nonblocking(true),
        }
    }

    /// Duplicates the socket for another worker. With a shared socket, unlike with `SO_REUSEPORT`,
    /// no other process can bind the same address.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(listener, address) => {
                listener.try_clone().map(|listener| Self::Tcp(listener, *address))
            }
            Self::Unix(listener, file, uids) => listener
                .try_clone()
                .map(|listener| Self::Unix(listener, file.clone(), uids.clone())),
        }
    }

    pub(super) fn into_tokio(self) -> io::Result<AsyncListener> {
        match self {
            Self::Tcp(listener, _) => {
                tokio::net::TcpListener::from_std(listener).map(AsyncListener::Tcp)
            }
            Self::Unix(listener, _, uids) => tokio::net::UnixListener::from_std(listener)
                .map(|listener| AsyncListener::Unix(listener, uids)),
        }
    }
}

/// Binds a TCP address, unless a socket for it is inherited.
pub(crate) fn bind_tcp(
    address: SocketAddr,
    inherited: &mut InheritedSockets,
) -> io::Result<TcpListener> {
    inherited.tcp(address).map_or_else(|| TcpListener::bind(address), Ok)
}

fn bind_unix(path: &Path, uids: &[u32]) -> io::Result<Listener> {
    let is_socket = path.symlink_metadata().is_ok_and(|file| file.file_type().is_socket());
    // A crashed process left it: nothing listens on it.
    let is_left_over = || {
        UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    if is_socket && is_left_over() {
        std::fs::remove_file(path)?;
    }
    let mode = if uids.is_empty() { SOCKET_MODE } else { SHARED_SOCKET_MODE };
    let socket = bind_without_listening(path, mode)?;
    net::listen(&socket, BACKLOG)?;
    Ok(Listener::Unix(socket.into(), SocketFile::of(path)?, uids.into()))
}

/// Binds a socket that has its mode and does not listen yet. So nobody can connect before the mode
/// is set.
fn bind_without_listening(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // On Linux the file gets the socket's mode; elsewhere this may have no effect.
    let _ = fs::fchmod(&socket, Mode::from_raw_mode(mode));
    net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(socket)
}

impl AsFd for AsyncListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

/// A listening socket on a worker's runtime.
pub(super) enum AsyncListener {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener, Arc<[u32]>),
}

impl AsyncListener {
    /// Waits for the next connection.
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Fails if the caller is gone already, which the first read reports.
                let _ = stream.set_nodelay(true);
                Ok(Accepted::Caller(Socket::Tcp(stream)))
            }
            Self::Unix(listener, uids) => {
                let (stream, _) = listener.accept().await?;
                Ok(match is_allowed(&stream, uids) {
                    true => Accepted::Caller(Socket::Unix(stream)),
                    false => Accepted::Rejected(stream),
                })
            }
        }
    }
}

/// An accepted connection.
pub(super) enum Accepted {
    /// A connection that may send requests.
    Caller(Socket),
    /// A connection of a user id that may not connect.
    Rejected(UnixCaller),
}

/// Whether the user at the other end may connect: the user of the process, and those of the list.
fn is_allowed(stream: &UnixCaller, uids: &[u32]) -> bool {
    let is_known = |uid: u32| uids.contains(&uid) || uid == getuid().as_raw();
    uids.is_empty() || stream.peer_cred().is_ok_and(|caller| is_known(caller.uid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_its_mode_before_anybody_can_connect() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [SOCKET_MODE, SHARED_SOCKET_MODE] {
            let path = folder.path().join(format!("{mode:o}.sock"));
            let socket = bind_without_listening(&path, mode).unwrap();
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, mode);
            let refused = UnixStream::connect(&path).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            net::listen(&socket, BACKLOG).unwrap();
            assert!(UnixStream::connect(&path).is_ok());
        }
    }
}
