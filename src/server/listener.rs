//! An address that is ours: bound before anything starts, then accepted from.

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

/// Only the owner of the process may connect to a Unix socket.
const SOCKET_MODE: u32 = 0o600;
/// Everybody may, and whose user id is not in the list is turned away.
const SHARED_SOCKET_MODE: u32 = 0o666;

/// Connections that wait to be accepted: as many as the system allows.
const BACKLOG: i32 = -1;

/// An address that is ours.
#[derive(Debug)]
pub enum Listener {
    /// TCP, and the address with its real port.
    Tcp(TcpListener, SocketAddr),
    /// A Unix socket, its file, and who else than our own user may connect.
    Unix(UnixListener, SocketFile, Arc<[u32]>),
}

/// The file of a Unix socket, and which one it is: another process may put its own in its place.
#[derive(Clone, Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let file = path.symlink_metadata()?;
        Ok(Self { path: path.to_owned(), identity: (file.dev(), file.ino()) })
    }

    /// Removes the file, if it is still ours.
    pub(super) fn remove(&self) {
        if Self::of(&self.path).is_ok_and(|found| found.identity == self.identity) {
            // Gone already is as good.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; {advice}")]
pub struct BindError {
    address: String,
    source: io::Error,
    advice: &'static str,
}

impl BindError {
    /// `key` is what to change in the configuration.
    pub(crate) fn new(address: impl ToString, source: io::Error, key: &'static str) -> Self {
        let advice = match (source.kind(), key) {
            (io::ErrorKind::AddrInUse, "admin.listen") => {
                "set `admin.listen` to another one or stop the other process"
            }
            (io::ErrorKind::AddrInUse, _) => {
                "set `listen` to another one or stop the other process"
            }
            (io::ErrorKind::PermissionDenied, _) => {
                "choose a port above 1023, or a directory that this user may write"
            }
            _ => "check that the address belongs to this machine",
        };
        Self { address: address.to_string(), source, advice }
    }
}

impl Listener {
    /// Binds an address. A Unix socket that a crashed process left behind is replaced; one that
    /// answers is not.
    ///
    /// # Errors
    /// The address is taken, not ours, or not permitted.
    pub fn bind(address: &ListenAddress, uids: &[u32]) -> Result<Self, BindError> {
        let bound = match address {
            ListenAddress::Tcp(address) => TcpListener::bind(address).and_then(|listener| {
                listener.local_addr().map(|address| Self::Tcp(listener, address))
            }),
            ListenAddress::Unix(path) => bind_unix(path, uids),
        };
        bound
            .and_then(|listener| listener.set_nonblocking().map(|()| listener))
            .map_err(|source| BindError::new(address, source, "listen"))
    }

    /// The address with its real port.
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

    /// The same socket once more, for another worker. Sharing one socket, rather than binding it
    /// again with `SO_REUSEPORT`, keeps other processes from binding beside us.
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

    pub(super) fn into_tokio(self) -> io::Result<Accepting> {
        match self {
            Self::Tcp(listener, _) => {
                tokio::net::TcpListener::from_std(listener).map(Accepting::Tcp)
            }
            Self::Unix(listener, _, uids) => tokio::net::UnixListener::from_std(listener)
                .map(|listener| Accepting::Unix(listener, uids)),
        }
    }
}

fn bind_unix(path: &Path, uids: &[u32]) -> io::Result<Listener> {
    let is_socket = path.symlink_metadata().is_ok_and(|file| file.file_type().is_socket());
    // Nobody listens behind it any more: a crashed process left it.
    let is_left_over = || {
        UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    if is_socket && is_left_over() {
        std::fs::remove_file(path)?;
    }
    let mode = if uids.is_empty() { SOCKET_MODE } else { SHARED_SOCKET_MODE };
    let socket = bind_quietly(path, mode)?;
    net::listen(&socket, BACKLOG)?;
    Ok(Listener::Unix(socket.into(), SocketFile::of(path)?, uids.into()))
}

/// A socket that is bound, has its mode, and does not listen yet: until it does, nobody can connect, and so nobody
/// can before the mode is right.
fn bind_quietly(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // On Linux the file is made with the socket's own mode; elsewhere this may do nothing.
    let _ = fs::fchmod(&socket, Mode::from_raw_mode(mode));
    net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(socket)
}

impl AsFd for Accepting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

pub(super) enum Accepting {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener, Arc<[u32]>),
}

impl Accepting {
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // A caller that is gone already fails later, and alone.
                let _ = stream.set_nodelay(true);
                Ok(Accepted::Caller(Socket::Tcp(stream)))
            }
            Self::Unix(listener, uids) => {
                let (stream, _) = listener.accept().await?;
                Ok(match may_call(&stream, uids) {
                    true => Accepted::Caller(Socket::Unix(stream)),
                    false => Accepted::Rejected(stream),
                })
            }
        }
    }
}

/// Who has connected.
pub(super) enum Accepted {
    Caller(Socket),
    /// One whose user id is in no list.
    Rejected(UnixCaller),
}

/// Whether the user behind a connection may call: our own always, and those of the list.
fn may_call(stream: &UnixCaller, uids: &[u32]) -> bool {
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
            let socket = bind_quietly(&path, mode).unwrap();
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, mode);
            let refused = UnixStream::connect(&path).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            net::listen(&socket, BACKLOG).unwrap();
            assert!(UnixStream::connect(&path).is_ok());
        }
    }
}
