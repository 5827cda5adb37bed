//! An upstream with random faults of TCP, TLS and HTTP. A seed always gives the same faults.

mod http1;
mod http2;
mod proxy;

pub(crate) use proxy::FaultyProxy;

use super::accepting;
use super::hosts_file::HostsFile;
use super::tls::Authority;
use fastrand::Rng;
use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, copy_bidirectional,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

/// A pause longer than any timeout of the sidecar.
pub(crate) const STALL: Duration = Duration::from_secs(6);
/// The first address, and one that listens only at times.
pub(crate) const FIRST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const SECOND: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
/// The pause between two bytes of a slow response.
const DRIBBLE: Duration = Duration::from_millis(20);

/// The right body for the request with this number.
pub(crate) fn body(number: u64) -> Vec<u8> {
    let length = Rng::with_seed(number).usize(..200_000);
    (0..length).map(|place| b'a' + ((place as u64 + number) % 23) as u8).collect()
}

/// The number of a request from its path.
fn number_in(text: &str) -> u64 {
    text.split(['/', ' ']).find_map(|part| part.parse().ok()).unwrap_or(0)
}

pub(crate) struct FaultyUpstream {
    port: u16,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl FaultyUpstream {
    /// Starts an upstream with this protocol, by its ALPN name. It listens on two loopback
    /// addresses. One of them disappears at times. The other one moves if there is a hosts file.
    pub(crate) async fn start(
        authority: &Authority,
        protocol: &str,
        seed: u64,
        names: Option<Arc<HostsFile>>,
    ) -> Self {
        let mut config = authority.server();
        // A server with HTTP/2 supports HTTP/1.1 too.
        let protocols = [protocol, "http/1.1"].map(|name| name.as_bytes().to_vec());
        config.alpn_protocols = protocols.into();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let first = TcpListener::bind((FIRST, 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let connections = Arc::new(AtomicU64::new(seed));
        let listen = move |listener| listen(listener, acceptor.clone(), connections.clone());
        let mut here = listen(first);
        let there = listen.clone();
        let moving = tokio::spawn(async move {
            let Some(names) = names else { return pending().await };
            for last in (2..=250).cycle() {
                sleep(STALL).await;
                let next = IpAddr::from([127, 0, 0, last]);
                let listener = TcpListener::bind((next, port)).await.unwrap();
                names.point_to(&[next, SECOND]);
                // Connections to the old address are cut.
                drop(std::mem::replace(&mut here, listen(listener)));
            }
        });
        // Without IPv6 there is one address less.
        let fading = tokio::spawn(async move {
            loop {
                if let Ok(listener) = TcpListener::bind((SECOND, port)).await {
                    let listening = there(listener);
                    sleep(STALL).await;
                    drop(listening);
                }
                sleep(STALL / 2).await;
            }
        });
        Self { port, _tasks: [moving, fading].map(AbortOnDropHandle::new) }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }
}

fn listen(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    connections: Arc<AtomicU64>,
) -> AbortOnDropHandle<()> {
    accepting(listener, move |stream| {
        let rng = Rng::with_seed(connections.fetch_add(1, Ordering::Relaxed));
        connection(stream, acceptor.clone(), rng)
    })
}

/// Serves a connection with a random fault or without one.
async fn connection(stream: TcpStream, acceptor: TlsAcceptor, mut rng: Rng) -> Option<()> {
    match rng.u8(..100) {
        // A reset at once.
        0..5 => stream.set_zero_linger().ok(),
        // Not a byte of TLS.
        5..8 => {
            sleep(STALL).await;
            None
        }
        // TLS in small pieces, slow but steady.
        8..14 => {
            let (near, far) = tokio::io::duplex(64 << 10);
            let (served, _) =
                tokio::join!(requests(near, acceptor, rng), relay_slowly(stream, far));
            served
        }
        // Plain text instead of TLS.
        14..17 => {
            let mut stream = stream;
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.ok()
        }
        // One direction is closed at once.
        17..20 => {
            let mut stream = stream;
            stream.shutdown().await.ok()?;
            sleep(STALL).await;
            None
        }
        _ => {
            let _ = stream.set_nodelay(true);
            requests(stream, acceptor, rng).await
        }
    }
}

/// Relays the first bytes in pieces of 100, and the rest unchanged.
async fn relay_slowly(mut outside: TcpStream, mut inside: DuplexStream) -> Option<()> {
    for _ in 0..10 {
        let mut piece = [0; 100];
        let read = outside.read(&mut piece).await.ok()?;
        inside.write_all(piece.get(..read)?).await.ok()?;
        sleep(DRIBBLE).await;
    }
    copy_bidirectional(&mut outside, &mut inside).await.ok().map(|_| ())
}

/// Serves TLS and then the negotiated protocol.
async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    acceptor: TlsAcceptor,
    rng: Rng,
) -> Option<()> {
    let stream = timeout(STALL, acceptor.accept(stream)).await.ok()?.ok()?;
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        http2::serve(stream, rng).await
    } else {
        http1::serve(stream, rng).await
    }
}
