//! An upstream that ends each connection after its first response, in every way in which servers
//! do.

use super::accepting;
use super::tls::Authority;
use super::upstream::read_request;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// With TLS's `close_notify`.
    CloseNotify,
    /// By a FIN.
    Fin,
    /// By a FIN, while the other direction stays open.
    HalfClosed,
    /// By a reset.
    Reset,
    /// By a fatal TLS alert.
    Alert,
    /// By a response 408, which servers send before they close an idle connection.
    RequestTimeout,
    /// By bytes that are not HTTP.
    InvalidHttp,
    /// By bytes that are not TLS.
    InvalidTls,
    /// By the beginning of a response header.
    PartialHeader,
}

impl Way {
    /// The ways that exist without TLS.
    pub(crate) const PLAIN: [Self; 6] = [
        Self::Fin,
        Self::HalfClosed,
        Self::Reset,
        Self::RequestTimeout,
        Self::InvalidHttp,
        Self::PartialHeader,
    ];
    /// All ways.
    pub(crate) const ALL: [Self; 9] = [
        Self::CloseNotify,
        Self::Fin,
        Self::HalfClosed,
        Self::Reset,
        Self::Alert,
        Self::RequestTimeout,
        Self::InvalidHttp,
        Self::InvalidTls,
        Self::PartialHeader,
    ];

    /// Whether a response just before it can be lost too.
    pub(crate) const fn can_lose_response(self) -> bool {
        matches!(self, Self::Reset | Self::Alert | Self::InvalidTls)
    }

    /// The bytes that are sent before the end, encrypted if there is TLS.
    const fn last_words(self) -> &'static [u8] {
        match self {
            Self::RequestTimeout => {
                b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            }
            Self::InvalidHttp => b"\x00\x01 what is this\r\n\r\n",
            Self::PartialHeader => b"HTTP/1.1 200 OK\r\nContent-Le",
            _ => b"",
        }
    }
}

/// When a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// On its second request.
    OnRequest,
    /// Right after the response to its first request.
    AfterResponse,
}

#[derive(Default)]
struct State {
    ends: Mutex<Option<(Way, Moment)>>,
    /// Second requests of connections, which get no response.
    lost: AtomicUsize,
}

pub(crate) struct ClosingUpstream {
    address: SocketAddr,
    is_tls: bool,
    state: Arc<State>,
    _task: AbortOnDropHandle<()>,
}

impl ClosingUpstream {
    /// Starts a server with a certificate of this authority, or without TLS.
    pub(crate) async fn start(authority: Option<&Authority>) -> Self {
        let acceptor = authority.map(|authority| TlsAcceptor::from(Arc::new(authority.server())));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let (is_tls, shared) = (acceptor.is_some(), state.clone());
        let task = accepting(listener, move |stream| {
            let (acceptor, state) = (acceptor.clone(), shared.clone());
            async move {
                match acceptor {
                    Some(acceptor) => {
                        let mut stream = acceptor.accept(stream).await.ok()?;
                        let way = serve(&mut stream, &state).await?;
                        end_tls(stream, way).await
                    }
                    None => {
                        let mut stream = stream;
                        let way = serve(&mut stream, &state).await?;
                        end_tcp(stream, way).await
                    }
                }
            }
        });
        Self { address, is_tls, state, _task: task }
    }

    /// Sets how and when connections end.
    pub(crate) fn set_end(&self, way: Way, moment: Moment) {
        *self.state.ends.lock().unwrap() = Some((way, moment));
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://localhost:{}", self.address.port())
    }

    /// The number of requests without a response since the last call.
    pub(crate) fn take_lost(&self) -> usize {
        self.state.lost.swap(0, Ordering::SeqCst)
    }
}

/// Answers the first request and returns how the connection must end.
async fn serve(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), state: &State) -> Option<Way> {
    read_request(stream).await?;
    let (way, moment) = (*state.ends.lock().unwrap())?;
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(answer).await.ok()?;
    stream.flush().await.ok()?;
    if moment == Moment::OnRequest {
        read_request(stream).await?;
        state.lost.fetch_add(1, Ordering::SeqCst);
    }
    stream.write_all(way.last_words()).await.ok()?;
    stream.flush().await.ok()?;
    Some(way)
}

async fn end_tls(mut stream: TlsStream<TcpStream>, way: Way) -> Option<()> {
    if way == Way::CloseNotify {
        return stream.shutdown().await.ok();
    }
    let (mut stream, mut session) = stream.into_inner();
    match way {
        Way::Alert => {
            // This record is not valid, so the session produces an alert.
            session
                .read_tls(&mut &b"\x17\x03\x03\x00\x20................................"[..])
                .ok()?;
            session.process_new_packets().unwrap_err();
            let mut alert = Vec::new();
            session.write_tls(&mut alert).ok()?;
            assert!(!alert.is_empty());
            stream.write_all(&alert).await.ok()?;
        }
        Way::InvalidTls => stream.write_all(b"what is this\r\n\r\n").await.ok()?,
        _ => {}
    }
    end_tcp(stream, way).await
}

async fn end_tcp(mut stream: TcpStream, way: Way) -> Option<()> {
    match way {
        Way::Reset => stream.set_zero_linger().ok(),
        Way::HalfClosed => {
            stream.shutdown().await.ok()?;
            // Reads until the other side has closed its direction too.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok().map(|_| ())
        }
        _ => Some(()),
    }
}
