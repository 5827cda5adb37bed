//! A scripted HTTP/1.1 server that records every request byte for byte.

use super::configuration::Configuration;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// Pause between two pieces. On loopback it is long enough for a piece to be read alone: a sender
/// cannot see when it was.
const PIECE_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// Sends this text.
    Answer(String),
    /// Sends these bytes.
    Bytes(Vec<u8>),
    /// Sends these parts, with a pause after each.
    InPieces(Vec<String>),
    /// Sends this text and closes the connection.
    AnswerAndClose(String),
    /// These bytes after a pause. Requests during the pause are counted.
    Later(String),
    /// Sends nothing and keeps the connection open.
    Hang,
}

impl Behaviour {
    pub(crate) fn ok(body: &str) -> Self {
        Self::Answer(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
    }
}

/// A request as it was received.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// `GET /path HTTP/1.1`
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// The body without chunk framing.
    pub(crate) fn payload(&self) -> Vec<u8> {
        if self.header("transfer-encoding").is_empty() {
            return self.body.clone();
        }
        let (mut payload, mut rest) = (Vec::new(), self.body.as_slice());
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let size = str::from_utf8(&rest[..end]).unwrap().trim();
            let size = usize::from_str_radix(size, 16).unwrap();
            payload.extend_from_slice(&rest[end + 1..end + 1 + size]);
            rest = rest.get(end + 1 + size + 2..).unwrap_or_default();
        }
        payload
    }

    /// All values of a header, in order.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }
}

#[derive(Default)]
struct State {
    script: Mutex<VecDeque<Behaviour>>,
    /// Behaviours of single paths. They take precedence over the script.
    fixed: Mutex<Vec<(String, Behaviour)>>,
    seen: Mutex<Vec<Seen>>,
    /// Requests in the pause of [`Behaviour::Later`]: now, and at most.
    later: Mutex<(usize, usize)>,
}

pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    _serving: AbortOnDropHandle<()>,
}

impl Peer {
    /// Starts a server that behaves like this for every request that has no script.
    pub(crate) async fn start(always: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let serving = tokio::spawn({
            let state = state.clone();
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (state, always) = (state.clone(), always.clone());
                    tokio::spawn(async move { serve(stream, &state, &always).await });
                }
            }
        });
        Self { address, state, _serving: AbortOnDropHandle::new(serving) }
    }

    /// Adds behaviours for the next requests.
    pub(crate) fn script(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.state.script.lock().unwrap().extend(behaviours);
    }

    /// Sets the behaviour for requests whose line holds this path. They use up no script.
    pub(crate) fn always(&self, path: &str, behaviour: Behaviour) {
        self.state.fixed.lock().unwrap().push((path.to_owned(), behaviour));
    }

    /// The number of requests so far.
    pub(crate) fn count(&self) -> usize {
        self.state.seen.lock().unwrap().len()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// The largest number of requests that were in the pause of [`Behaviour::Later`] at once.
    pub(crate) fn most_at_once(&self) -> usize {
        self.state.later.lock().unwrap().1
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A configuration with this peer as the issuer of client `c`, and with upstream `u` at this
    /// URL. Route `/free` has profile `passthrough`, `/data` has `odata`, and `/users` has `scim`.
    pub(crate) fn configuration(&self, upstream: &str) -> Configuration {
        Configuration::new()
            .add_client("c")
            .client("token_url", format!("\"{}/oauth/token\"", self.url()))
            .client("client_id", "id")
            .client("client_secret", "s3cret")
            .add_upstream("u")
            .upstream("url", format!("\"{upstream}\""))
            .upstream("timeouts", "{ connect: 1s, read: 1s }")
            .route("/free", "profile", "passthrough")
            .route("/data", "profile", "odata")
            .route("/users", "profile", "scim")
            .route("/users", "strip_path", true)
            .route("/users", "headers", "{ x-team: reporting }")
    }
}

async fn serve(mut stream: TcpStream, state: &State, always: &Behaviour) {
    while let Some(seen) = read_request(&mut stream).await {
        let fixed = {
            let fixed = state.fixed.lock().unwrap();
            let found = fixed.iter().find(|(path, _)| seen.line().contains(path.as_str()));
            found.map(|(_, behaviour)| behaviour.clone())
        };
        state.seen.lock().unwrap().push(seen);
        let next = fixed.or_else(|| state.script.lock().unwrap().pop_front());
        match next.unwrap_or_else(|| always.clone()) {
            Behaviour::Answer(bytes) => {
                if stream.write_all(bytes.as_bytes()).await.is_err() {
                    return;
                }
            }
            Behaviour::InPieces(pieces) => {
                for piece in pieces {
                    if stream.write_all(piece.as_bytes()).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(PIECE_PAUSE).await;
                }
            }
            Behaviour::Bytes(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Behaviour::AnswerAndClose(bytes) => {
                let _ = stream.write_all(bytes.as_bytes()).await;
                return;
            }
            Behaviour::Later(bytes) => {
                {
                    let mut later = state.later.lock().unwrap();
                    *later = (later.0 + 1, later.1.max(later.0 + 1));
                }
                tokio::time::sleep(PIECE_PAUSE).await;
                state.later.lock().unwrap().0 -= 1;
                if stream.write_all(bytes.as_bytes()).await.is_err() {
                    return;
                }
            }
            Behaviour::Hang => std::future::pending().await,
        }
    }
}

/// Reads one request with its body. Returns `None` if the connection ends before.
pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let mut body = bytes.split_off(end);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let seen = Seen { head, body: Vec::new() };
    let chunked = !seen.header("transfer-encoding").is_empty();
    let length = seen.header("content-length").first().map_or(0, |text| text.parse().unwrap());
    let complete = |body: &[u8]| {
        if chunked { body.ends_with(b"0\r\n\r\n") } else { body.len() >= length }
    };
    while !complete(&body) {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Seen { body, ..seen })
}
