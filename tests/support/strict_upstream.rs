//! An upstream that records every byte and parses it strictly by RFC 9112.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// Headers that must not reach the upstream, also with `_` for `-`.
const FORBIDDEN: [&str; 14] = [
    "connection",
    "forwarded",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "x-approuter-authorization",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-original-url",
    "x-rewrite-url",
];
/// Headers that only the sidecar sets, and never with `_`.
const RESERVED: [&str; 4] = ["authorization", "content-length", "host", "transfer-encoding"];

/// The bytes of a connection, and whether the other side has closed it.
#[derive(Default)]
struct Connection {
    bytes: Vec<u8>,
    is_closed: bool,
}

type Connections = Arc<Mutex<Vec<Connection>>>;

pub(crate) struct StrictUpstream {
    address: SocketAddr,
    connections: Connections,
    _serving: AbortOnDropHandle<()>,
}

/// A request.
pub(crate) struct Request {
    head: Vec<u8>,
    /// The body without its framing.
    pub(crate) payload: Vec<u8>,
    length: usize,
}

/// The requests since some moment.
#[derive(Default)]
pub(crate) struct Received {
    pub(crate) whole: Vec<Request>,
    /// Requests with a whole header and an incomplete body on closed connections.
    pub(crate) begun: Vec<Request>,
}

impl StrictUpstream {
    /// Starts a server that answers every valid request with an empty 200.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Connections::default();
        let serving = tokio::spawn({
            let connections = connections.clone();
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let index = {
                        let mut connections = connections.lock().unwrap();
                        connections.push(Connection::default());
                        connections.len() - 1
                    };
                    let connections = connections.clone();
                    tokio::spawn(async move { serve(stream, &connections, index).await });
                }
            }
        });
        Self { address, connections, _serving: AbortOnDropHandle::new(serving) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// The number of bytes from each connection.
    pub(crate) fn total(&self) -> Vec<usize> {
        self.connections.lock().unwrap().iter().map(|one| one.bytes.len()).collect()
    }

    /// The bytes since these totals, connection by connection.
    pub(crate) fn bytes(&self, before: &[usize]) -> Vec<u8> {
        let connections = self.connections.lock().unwrap();
        let new = connections
            .iter()
            .enumerate()
            .map(|(index, one)| one.bytes[before.get(index).copied().unwrap_or(0)..].to_vec());
        new.collect::<Vec<_>>().concat()
    }

    /// The number of connections that were closed within a request.
    pub(crate) fn cut_off(&self) -> usize {
        let connections = self.connections.lock().unwrap();
        let is_cut = |one: &&Connection| {
            one.is_closed && requests(&one.bytes).is_ok_and(|(_, rest)| !rest.is_empty())
        };
        connections.iter().filter(is_cut).count()
    }

    /// The requests since these totals, or an error if the bytes are not valid.
    pub(crate) fn since(&self, before: &[usize]) -> Result<Received, String> {
        let mut received = Received::default();
        for (index, connection) in self.connections.lock().unwrap().iter().enumerate() {
            let new = &connection.bytes[before.get(index).copied().unwrap_or(0)..];
            let (requests, rest) = requests(new)?;
            if !rest.is_empty() && !connection.is_closed {
                return Err(format!("left on an open connection: {}", rest.escape_ascii()));
            }
            if let Some(end) = find(rest, b"\r\n\r\n") {
                received.begun.push(Request::new(&rest[..end]));
            }
            received.whole.extend(requests);
        }
        Ok(received)
    }
}

async fn serve(mut stream: TcpStream, connections: &Connections, index: usize) {
    let mut unread = Vec::new();
    loop {
        let start = unread.len();
        let count = stream.read_buf(&mut unread).await.unwrap_or(0);
        let mut answers = 0;
        {
            let connection = &mut connections.lock().unwrap()[index];
            connection.bytes.extend_from_slice(&unread[start..]);
            connection.is_closed = count == 0;
            while let Ok(Some(request)) = next(&unread) {
                unread.drain(..request.length);
                answers += 1;
            }
        }
        if count == 0 || next(&unread).is_err() {
            // The bytes are recorded, and `since` returns the error.
            return;
        }
        for _ in 0..answers {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}

/// All whole requests, and the remaining bytes.
fn requests(mut bytes: &[u8]) -> Result<(Vec<Request>, &[u8]), String> {
    let mut found = Vec::new();
    while let Some(request) = next(bytes)? {
        bytes = &bytes[request.length..];
        found.push(request);
    }
    Ok((found, bytes))
}

/// The first request, `None` if it is incomplete, or an error.
fn next(bytes: &[u8]) -> Result<Option<Request>, String> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let (head, body) = (&bytes[..end], &bytes[end + 4..]);
    let mut request = Request::new(head);
    request.check_lines()?;
    let framing = (request.values("content-length"), request.values("transfer-encoding"));
    match (framing.0.as_slice(), framing.1.as_slice()) {
        ([], []) => {}
        ([length], []) => {
            let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            let length = if is_number { length.parse::<u64>().ok() } else { None };
            let length =
                length.ok_or_else(|| request.complaint("a length that is not a number"))?;
            let Some(payload) = usize::try_from(length).ok().and_then(|end| body.get(..end)) else {
                return Ok(None);
            };
            request.payload = payload.to_vec();
            request.length += payload.len();
        }
        ([], [coding]) if coding == "chunked" => {
            let Some((payload, length)) = dechunk(body)? else { return Ok(None) };
            request.payload = payload;
            request.length += length;
        }
        _ => return Err(request.complaint("contradicting framing")),
    }
    Ok(Some(request))
}

/// The data of all chunks, and their length. Extensions and trailers are errors.
fn dechunk(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let wrong = |what: &[u8]| Err(format!("no chunk: {}", what.escape_ascii()));
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let rest = &bytes[at..];
        let Some(end) = find(rest, b"\r\n") else {
            return if rest.len() > 18 { wrong(rest) } else { Ok(None) };
        };
        let size = str::from_utf8(&rest[..end]).ok().filter(|size| !size.starts_with('+'));
        let Some(size) = size.and_then(|size| usize::from_str_radix(size, 16).ok()) else {
            return wrong(rest);
        };
        let Some(chunk) = size.checked_add(end + 4).and_then(|length| rest.get(..length)) else {
            return Ok(None);
        };
        if !chunk.ends_with(b"\r\n") {
            return wrong(chunk);
        }
        data.extend_from_slice(&chunk[end + 2..end + 2 + size]);
        at += chunk.len();
        if size == 0 {
            return Ok(Some((data, at)));
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

impl Request {
    fn new(head: &[u8]) -> Self {
        Self { head: head.to_vec(), payload: Vec::new(), length: head.len() + 4 }
    }

    /// `GET /path HTTP/1.1`
    pub(crate) fn line(&self) -> &[u8] {
        &self.head[..find(&self.head, b"\r\n").unwrap_or(self.head.len())]
    }

    /// Names in lower case, and values.
    fn headers(&self) -> Vec<(String, String)> {
        let lines = String::from_utf8_lossy(&self.head);
        let pair = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned())
        };
        lines.split("\r\n").skip(1).map(pair).collect()
    }

    fn values(&self, name: &str) -> Vec<String> {
        let headers = self.headers().into_iter();
        headers.filter(|(given, _)| given == name).map(|(_, value)| value).collect()
    }

    /// Checks that each line matches the grammar of RFC 9112.
    fn check_lines(&self) -> Result<(), String> {
        let is_token = |bytes: &[u8]| {
            let is_tchar =
                |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
            !bytes.is_empty() && bytes.iter().all(is_tchar)
        };
        let parts: Vec<_> = self.line().split(|byte| *byte == b' ').collect();
        let is_line = matches!(parts.as_slice(), [method, [b'/', target @ ..], b"HTTP/1.1"]
            if is_token(method) && target.iter().all(|byte| *byte > b' ' && *byte != 0x7f));
        if !is_line {
            return Err(self.complaint("no request line"));
        }
        let mut rest = self.head.get(self.line().len() + 2..).unwrap_or_default();
        while !rest.is_empty() {
            let end = find(rest, b"\r\n").unwrap_or(rest.len());
            let (line, colon) = (&rest[..end], find(&rest[..end], b":").unwrap_or(0));
            let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
            if !is_token(&line[..colon]) || line.iter().any(is_control) {
                return Err(self.complaint("no header line"));
            }
            rest = rest.get(end + 2..).unwrap_or_default();
        }
        Ok(())
    }

    /// Checks that the request has the right host and token, and no forbidden header.
    pub(crate) fn check(&self, host: &str) -> Result<(), String> {
        if self.values("host") != [host] {
            return Err(self.complaint("wrong host"));
        }
        if self.values("authorization") != ["Bearer steady-token"] {
            return Err(self.complaint("wrong token"));
        }
        for (name, value) in self.headers() {
            let plain = name.replace('_', "-");
            let is_foreign = FORBIDDEN.contains(&plain.as_str())
                || plain.starts_with("x-forwarded")
                || plain != name && RESERVED.contains(&plain.as_str());
            if is_foreign || value.contains("evil") {
                return Err(self.complaint(&name));
            }
        }
        Ok(())
    }

    fn complaint(&self, what: &str) -> String {
        format!("{what}: {self}")
    }
}

impl fmt::Display for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} | {}", self.head.escape_ascii(), self.payload.escape_ascii())
    }
}
