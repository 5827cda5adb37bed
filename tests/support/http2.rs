//! An HTTP/2 upstream that answers, resets streams and ends connections by a script.

use super::accepting;
use super::tls::{Authority, answer_all};
use bytes::Bytes;
use h2::server::{SendResponse, handshake};
use h2::{Reason, RecvStream};
use http::{HeaderName, HeaderValue, Request, Response};
use rustls::ServerConfig;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;

/// The treatment of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    /// 200 with a body of this length.
    Answer(usize),
    /// A reset with `REFUSED_STREAM`.
    Refuse,
    /// A reset with `HTTP_1_1_REQUIRED`.
    WantHttp1,
    /// A reset with `INTERNAL_ERROR`.
    Reset,
    /// A reset with `ENHANCE_YOUR_CALM`.
    Calm,
    /// The connection ends without GOAWAY.
    Die,
    /// The beginning of a response, and then a reset with `REFUSED_STREAM`.
    BeginAndRefuse,
    /// GOAWAY, which excludes this request.
    Leave,
    /// GOAWAY before any request.
    Dismiss,
    /// 200 as soon as this many requests are in flight.
    Gather(usize),
    /// 200 with this JSON and trailers.
    Trailed(&'static str),
}

#[derive(Default)]
struct State {
    script: VecDeque<Turn>,
    connections: usize,
    asked: usize,
    /// Method and path of the answered requests.
    answered: Vec<String>,
    under_way: usize,
    /// The number of requests by HTTP/1.1.
    by_http1: Arc<AtomicUsize>,
}

pub(crate) struct Http2Upstream {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    _task: AbortOnDropHandle<()>,
}

impl Http2Upstream {
    /// Starts a server. Each request takes the next turn of the script. After its end, all are
    /// answered.
    pub(crate) async fn start(authority: &Authority, script: &[Turn]) -> Self {
        Self::serving(authority.server(), &["h2"], script).await
    }

    /// Starts a server with this TLS configuration and these protocols. All HTTP/1.1 requests are
    /// answered.
    pub(crate) async fn serving(config: ServerConfig, protocols: &[&str], script: &[Turn]) -> Self {
        Self::serving_at(Ipv4Addr::LOCALHOST, config, protocols, script).await
    }

    /// Starts a server at this address.
    pub(crate) async fn serving_at(
        address: Ipv4Addr,
        mut config: ServerConfig,
        protocols: &[&str],
        script: &[Turn],
    ) -> Self {
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state =
            Arc::new(Mutex::new(State { script: script.to_vec().into(), ..State::default() }));
        let shared = state.clone();
        let task =
            accepting(listener, move |stream| serve(stream, acceptor.clone(), shared.clone()));
        Self { address, state, _task: task }
    }

    pub(crate) fn url(&self) -> String {
        match self.address.ip().is_loopback() {
            true => format!("https://localhost:{}", self.address.port()),
            false => format!("https://{}", self.address),
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// The number of requests by HTTP/2.
    pub(crate) fn asked(&self) -> usize {
        self.state.lock().unwrap().asked
    }

    pub(crate) fn by_http1(&self) -> usize {
        self.state.lock().unwrap().by_http1.load(Ordering::SeqCst)
    }

    pub(crate) fn answered(&self) -> Vec<String> {
        self.state.lock().unwrap().answered.clone()
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, state: Arc<Mutex<State>>) -> Option<()> {
    let stream = acceptor.accept(stream).await.ok()?;
    state.lock().unwrap().connections += 1;
    if stream.get_ref().1.alpn_protocol() == Some(b"http/1.1") {
        let by_http1 = state.lock().unwrap().by_http1.clone();
        answer_all(stream, &by_http1).await;
        return Some(());
    }
    let is_turned_away = matches!(state.lock().unwrap().script.front(), Some(Turn::Dismiss));
    if is_turned_away {
        return turn_away(stream, &state).await;
    }
    let mut connection = handshake(stream).await.ok()?;
    let mut requests = JoinSet::new();
    while let Some(accepted) = connection.accept().await {
        let (request, answer) = accepted.ok()?;
        let turn = {
            let mut state = state.lock().unwrap();
            state.asked += 1;
            state.script.pop_front().unwrap_or(Turn::Answer(4))
        };
        match turn {
            Turn::Leave => {
                drop((request, answer));
                connection.abrupt_shutdown(Reason::NO_ERROR);
            }
            Turn::Die => return None,
            _ => {
                requests.spawn(reply(turn, request, answer, state.clone()));
            }
        }
    }
    Some(())
}

/// Sends a GOAWAY that excludes every stream (RFC 9113 section 6.8). The library has no call for
/// it.
async fn turn_away(mut stream: TlsStream<TcpStream>, state: &Mutex<State>) -> Option<()> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    {
        let mut state = state.lock().unwrap();
        state.script.pop_front();
        state.asked += 1;
    }
    stream.write_all(&[&SETTINGS[..], &GOAWAY].concat()).await.ok()?;
    // If the connection were closed at once, the GOAWAY could be lost.
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok().map(|_| ())
}

async fn reply(
    turn: Turn,
    request: Request<RecvStream>,
    mut answer: SendResponse<Bytes>,
    state: Arc<Mutex<State>>,
) -> Option<()> {
    let length = match turn {
        Turn::Refuse | Turn::WantHttp1 | Turn::Reset | Turn::Calm => {
            answer.send_reset(match turn {
                Turn::Refuse => Reason::REFUSED_STREAM,
                Turn::Calm => Reason::ENHANCE_YOUR_CALM,
                Turn::WantHttp1 => Reason::HTTP_1_1_REQUIRED,
                _ => Reason::INTERNAL_ERROR,
            });
            return None;
        }
        Turn::BeginAndRefuse => {
            state.lock().unwrap().answered.push(format!("begun {}", request.uri().path()));
            let mut sender = answer.send_response(Response::new(()), false).ok()?;
            sender.send_data(Bytes::from_static(b"half"), false).ok()?;
            // The data must arrive before the reset.
            sleep(Duration::from_millis(200)).await;
            sender.send_reset(Reason::REFUSED_STREAM);
            return None;
        }
        Turn::Gather(others) => {
            state.lock().unwrap().under_way += 1;
            while state.lock().unwrap().under_way < others {
                sleep(Duration::from_millis(5)).await;
            }
            4
        }
        Turn::Trailed(text) => {
            let header = Response::builder().header("content-type", "application/json");
            let mut sender = answer.send_response(header.body(()).unwrap(), false).ok()?;
            sender.send_data(Bytes::from_static(text.as_bytes()), false).ok()?;
            let trailers = [("server-timing", "all;dur=1")];
            let trailers = trailers.map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            sender.send_trailers(trailers.into_iter().collect()).ok()?;
            return None;
        }
        Turn::Answer(length) => length,
        Turn::Leave | Turn::Die | Turn::Dismiss => unreachable!("the connection itself goes"),
    };
    let (head, mut body) = request.into_parts();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data.ok()?.len()).ok()?;
    }
    state.lock().unwrap().answered.push(format!("{} {}", head.method, head.uri.path()));
    let mut sender = answer.send_response(Response::new(()), false).ok()?;
    let mut left = length;
    while left > 0 {
        sender.reserve_capacity(left.min(16 << 10));
        let capacity = std::future::poll_fn(|context| sender.poll_capacity(context)).await?.ok()?;
        let piece = capacity.min(left);
        left -= piece;
        sender.send_data(Bytes::from(vec![b'x'; piece]), left == 0).ok()?;
    }
    Some(())
}
