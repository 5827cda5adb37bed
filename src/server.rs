//! Where applications connect: addresses bound before anything starts, connections accepted, their
//! requests handed to pingora, one single-threaded runtime a worker.
//!
//! pingora's own `Server` is not used: it binds late and in silence, sleeps through its whole grace
//! period, and does not tell which port it got. Its proxy is made to be driven by an accept loop
//! such as this one. It gets a connection only when a request has begun: to wait for one, it holds 25 KiB.

use crate::config::{ListenAddress, ListenerId, Retry};
use crate::error::ErrorKind;
use crate::proxy::Proxy;
use crate::proxy::downstream::{Downstream, Load, Socket};
use crate::proxy::respond::Problem;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::ServerConf;
use rustix::process::getuid;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream as UnixCaller;
use tokio::runtime::Builder;
use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

/// Idle upstream connections that a worker keeps: as many as a listener serves requests at once, by default.
/// With fewer, more requests at once would reconnect each time, at three times the cost of a request.
const UPSTREAM_POOL: usize = 1024;
/// How often one request may turn to the upstream: each address once, the other trust anchors, a pooled
/// connection that turned out to be closed, a heal, the looks into a suspect page, and what `retry` allows. Zero
/// would drop every request.
const UPSTREAM_ATTEMPTS: usize =
    crate::proxy::upstream::MAX_ADDRESSES + 9 + Retry::MOST_ATTEMPTS as usize;
/// Only the owner of the process may connect to a Unix socket.
const SOCKET_MODE: u32 = 0o600;
/// Everybody may, and whose user id is not in the list is turned away.
const SHARED_SOCKET_MODE: u32 = 0o666;
/// How long a caller that may not call has to read so.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long to wait after a failed accept, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

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
    fn remove(&self) {
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
    fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(listener, address) => {
                listener.try_clone().map(|listener| Self::Tcp(listener, *address))
            }
            Self::Unix(listener, file, uids) => listener
                .try_clone()
                .map(|listener| Self::Unix(listener, file.clone(), uids.clone())),
        }
    }

    fn into_tokio(self) -> io::Result<Accepting> {
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
    let listener = UnixListener::bind(path)?;
    let mode = if uids.is_empty() { SOCKET_MODE } else { SHARED_SOCKET_MODE };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(Listener::Unix(listener, SocketFile::of(path)?, uids.into()))
}

enum Accepting {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener, Arc<[u32]>),
}

impl Accepting {
    async fn accept(&self) -> io::Result<Accepted> {
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
                    false => Accepted::Stranger(stream),
                })
            }
        }
    }
}

/// Who has connected.
enum Accepted {
    Caller(Socket),
    /// One whose user id is in no list.
    Stranger(UnixCaller),
}

/// Whether the user behind a connection may call: our own always, and those of the list.
fn may_call(stream: &UnixCaller, uids: &[u32]) -> bool {
    let is_known = |uid: u32| uids.contains(&uid) || uid == getuid().as_raw();
    uids.is_empty() || stream.peer_cred().is_ok_and(|caller| is_known(caller.uid()))
}

/// Tells a stranger so. What it sends is read for a while: closing at once would take the answer away.
async fn turn_away(mut stream: UnixCaller, load: Arc<Load>) {
    let problem = Problem::new(ErrorKind::AccessDenied, "this user id is not in `access.uids`");
    load.turned_away(&problem);
    let farewell = async {
        stream.write_all(&problem.to_wire()).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    // Nobody is owed more than a try.
    let _ = timeout(FAREWELL, farewell).await;
}

/// The threads that serve requests.
pub(crate) struct Workers {
    sockets: Vec<SocketFile>,
    /// Cancelled to stop accepting and to let requests in flight finish.
    stop: CancellationToken,
    /// Cancelled to end whatever is still there.
    force: CancellationToken,
    /// Cancelled by a worker that ends without having been asked to.
    failed: CancellationToken,
    /// Closed when the last worker has ended.
    ended: mpsc::Receiver<()>,
}

impl Workers {
    /// Starts `count` workers on the same listeners, which are in the configuration's order.
    pub(crate) fn start(count: usize, listeners: Vec<Listener>, proxy: &Proxy) -> io::Result<Self> {
        let (alive, ended) = mpsc::channel(1);
        let sockets = listeners.iter().filter_map(|listener| match listener {
            Listener::Unix(_, file, _) => Some(file.clone()),
            Listener::Tcp(..) => None,
        });
        let workers = Self {
            sockets: sockets.collect(),
            stop: CancellationToken::new(),
            force: CancellationToken::new(),
            failed: CancellationToken::new(),
            ended,
        };
        let conf = Arc::new(server_conf());
        let loads: Vec<_> =
            (0..listeners.len()).map(|index| proxy.load(ListenerId(index))).collect();
        for index in 0..count {
            let listeners =
                listeners.iter().map(Listener::try_clone).collect::<io::Result<Vec<_>>>()?;
            let listeners = listeners.into_iter().zip(loads.clone()).collect();
            let worker = Worker {
                listeners,
                proxy: Arc::new(http_proxy(&conf, proxy.clone())),
                stop: workers.stop.clone(),
                force: workers.force.clone(),
            };
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (alive, stop) = (alive.clone(), workers.stop.clone());
            let failure = workers.failed.clone().drop_guard();
            std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                let _alive = alive;
                if let Err(error) = runtime.block_on(worker.run()) {
                    warn!("A worker ended: {error}.");
                }
                // Waits for nothing: what is left was past its deadline.
                runtime.shutdown_background();
                if stop.is_cancelled() {
                    failure.disarm();
                }
            })?;
        }
        Ok(workers)
    }

    /// Stops accepting. Requests in flight go on.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
        // At once, so that a successor's socket can take the place.
        self.sockets.iter().for_each(SocketFile::remove);
    }

    /// Ends what is still in flight.
    pub(crate) fn force(&self) {
        self.force.cancel();
    }

    /// Resolves when a worker has ended without having been asked to.
    pub(crate) async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Resolves when no worker is left.
    pub(crate) async fn ended(&mut self) {
        // Nothing is ever sent: the channel closes with the last worker.
        self.ended.recv().await;
    }
}

/// The one place where pingora's server settings are made.
fn server_conf() -> ServerConf {
    ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: UPSTREAM_POOL,
        max_retries: UPSTREAM_ATTEMPTS,
        ..ServerConf::default()
    }
}

struct Worker {
    listeners: Vec<(Listener, Arc<Load>)>,
    proxy: Arc<HttpProxy<Proxy>>,
    stop: CancellationToken,
    force: CancellationToken,
}

impl Worker {
    async fn run(self) -> io::Result<()> {
        let connections = TaskTracker::new();
        let (shutdown, watch) = watch::channel(false);
        for (listener, load) in self.listeners {
            let accepting = accept_loop(
                listener.into_tokio()?,
                load,
                self.proxy.clone(),
                connections.clone(),
                watch.clone(),
            );
            let stop = self.stop.clone();
            connections.spawn(async move { stop.run_until_cancelled(accepting).await });
        }
        self.stop.cancelled().await;
        // The flag makes answers close their connection, the clean-up wakes the idle ones.
        shutdown.send_replace(true);
        self.proxy.http_cleanup().await;
        connections.close();
        self.force.run_until_cancelled(connections.wait()).await;
        Ok(())
    }
}

async fn accept_loop(
    listener: Accepting,
    load: Arc<Load>,
    proxy: Arc<HttpProxy<Proxy>>,
    connections: TaskTracker,
    shutdown: watch::Receiver<bool>,
) {
    loop {
        match listener.accept().await {
            Ok(Accepted::Stranger(stream)) => {
                connections.spawn(turn_away(stream, load.clone()));
            }
            Ok(Accepted::Caller(socket)) => {
                let downstream = Box::new(Downstream::new(socket, load.clone()));
                connections.spawn(serve(downstream, proxy.clone(), shutdown.clone()));
            }
            Err(error) => {
                warn!("Cannot accept a connection: {error}; is the limit of open files too low?");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Hands pingora the requests of a connection, one after the other.
async fn serve(
    mut downstream: Box<Downstream>,
    proxy: Arc<HttpProxy<Proxy>>,
    mut shutdown: watch::Receiver<bool>,
) {
    loop {
        let has_request = select! {
            // What has come is answered.
            biased;
            has_request = downstream.has_request() => has_request,
            _ = shutdown.wait_for(|is_due| *is_due) => false,
        };
        if !has_request {
            return;
        }
        let mut session = ServerSession::new_http1(downstream);
        // That it is kept, not for how long: the connection itself keeps the time.
        session.set_keepalive((!*shutdown.borrow()).then_some(0));
        let Some(kept) = proxy.process_new_http(session, &shutdown).await else { return };
        let (stream, _) = kept.consume();
        let Ok(kept) = stream.into_any().downcast() else { return };
        downstream = kept;
    }
}
