//! An upstream that gives its connections up, in each of the ways in which servers do.

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
    /// In good order: of TLS, with `close_notify`.
    Farewell,
    /// By TCP's FIN alone.
    Fin,
    /// By TCP's FIN alone, while the other direction stays open.
    HalfClosed,
    /// By a reset.
    Reset,
    /// By a fatal alert of TLS.
    Alert,
    /// By an answer to a request that never came, as servers say before they close an idle connection.
    TimeoutAnswer,
    /// By bytes that are no answer.
    Garbage,
    /// By bytes that are no TLS.
    BareGarbage,
    /// By the beginning of an answer.
    HalfAHeader,
}

impl Way {
    /// Those that make sense without TLS.
    pub(crate) const PLAIN: [Self; 6] = [
        Self::Fin,
        Self::HalfClosed,
        Self::Reset,
        Self::TimeoutAnswer,
        Self::Garbage,
        Self::HalfAHeader,
    ];
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::Farewell,
        Self::Fin,
        Self::HalfClosed,
        Self::Reset,
        Self::Alert,
        Self::TimeoutAnswer,
        Self::Garbage,
        Self::BareGarbage,
        Self::HalfAHeader,
    ];

    /// Whether an answer right before it may be lost, too.
    pub(crate) const fn spoils_what_was_said(self) -> bool {
        matches!(self, Self::Reset | Self::Alert | Self::BareGarbage)
    }

    /// What is said inside of TLS before the end.
    const fn last_words(self) -> &'static [u8] {
        match self {
            Self::TimeoutAnswer => {
                b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            }
            Self::Garbage => b"\x00\x01 what is this\r\n\r\n",
            Self::HalfAHeader => b"HTTP/1.1 200 OK\r\nContent-Le",
            _ => b"",
        }
    }
}

/// When it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// As soon as its second request is here.
    WhenAsked,
    /// Right behind the answer to its first request, while the second may be on its way.
    AtOnce,
}

#[derive(Default)]
struct State {
    ends: Mutex<Option<(Way, Moment)>>,
    /// The requests that came over a connection after its first one: they get no answer.
    lost: AtomicUsize,
}

pub(crate) struct ClosingUpstream {
    address: SocketAddr,
    is_tls: bool,
    state: Arc<State>,
    _task: AbortOnDropHandle<()>,
}

impl ClosingUpstream {
    /// With a certificate of this authority's, or without TLS. Each connection answers one request and then ends.
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

    /// From now on, connections end like this.
    pub(crate) fn ends(&self, way: Way, moment: Moment) {
        *self.state.ends.lock().unwrap() = Some((way, moment));
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://localhost:{}", self.address.port())
    }

    /// How many requests got no answer since this was asked for the last time.
    pub(crate) fn lost(&self) -> usize {
        self.state.lost.swap(0, Ordering::SeqCst)
    }
}

/// Answers the first request, and returns how the connection ends when it is time for that.
async fn serve(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), state: &State) -> Option<Way> {
    read_request(stream).await?;
    let (way, moment) = (*state.ends.lock().unwrap())?;
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(answer).await.ok()?;
    stream.flush().await.ok()?;
    if moment == Moment::WhenAsked {
        read_request(stream).await?;
        state.lost.fetch_add(1, Ordering::SeqCst);
    }
    stream.write_all(way.last_words()).await.ok()?;
    stream.flush().await.ok()?;
    Some(way)
}

async fn end_tls(mut stream: TlsStream<TcpStream>, way: Way) -> Option<()> {
    if way == Way::Farewell {
        return stream.shutdown().await.ok();
    }
    let (mut stream, mut session) = stream.into_inner();
    match way {
        Way::Alert => {
            // The peer answers this with an alert; it is read in the caller's place.
            session
                .read_tls(&mut &b"\x17\x03\x03\x00\x20................................"[..])
                .ok()?;
            session.process_new_packets().unwrap_err();
            let mut alert = Vec::new();
            session.write_tls(&mut alert).ok()?;
            assert!(!alert.is_empty());
            stream.write_all(&alert).await.ok()?;
        }
        Way::BareGarbage => stream.write_all(b"what is this\r\n\r\n").await.ok()?,
        _ => {}
    }
    end_tcp(stream, way).await
}

async fn end_tcp(mut stream: TcpStream, way: Way) -> Option<()> {
    match way {
        Way::Reset => stream.set_zero_linger().ok(),
        Way::HalfClosed => {
            stream.shutdown().await.ok()?;
            // Until the other side has closed its own direction, too.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok().map(|_| ())
        }
        _ => Some(()),
    }
}
