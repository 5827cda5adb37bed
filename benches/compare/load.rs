//! Callers with kept connections that compare every byte of each response.

use memchr::memmem;
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;
use tokio_rustls::TlsConnector;

/// The requests of a case, and the body that each response must have.
#[derive(Clone)]
pub(crate) struct Work {
    /// The requests, which the callers take in turn.
    pub(crate) requests: Vec<Arc<[u8]>>,
    pub(crate) answer: Arc<[u8]>,
    pub(crate) connections: usize,
    /// Whether callers pause between 1 and 9 ms before a request.
    pub(crate) thinks: bool,
    /// The TLS of the callers, if they use it.
    pub(crate) tls: Option<TlsConnector>,
}

impl Work {
    /// A GET request for this path, with this body in its response.
    pub(crate) fn get(target: SocketAddr, path: &str, answer: &Arc<[u8]>) -> Self {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: bearerd-compare\r\nAccept: */*\r\n\r\n"
        );
        Self {
            requests: vec![request.into_bytes().into()],
            answer: answer.clone(),
            connections: 1,
            thinks: false,
            tls: None,
        }
    }

    /// A PUT request with this body, whose response holds the body's length.
    pub(crate) fn put(target: SocketAddr, path: &str, body: &[u8]) -> Self {
        let length = body.len();
        let head =
            format!("PUT {path} HTTP/1.1\r\nHost: {target}\r\nContent-Length: {length}\r\n\r\n");
        Self {
            requests: vec![[head.as_bytes(), body].concat().into()],
            answer: length.to_string().into_bytes().into(),
            connections: 1,
            thinks: false,
            tls: None,
        }
    }

    fn request(&self, caller: usize) -> &Arc<[u8]> {
        &self.requests[caller % self.requests.len()]
    }

    pub(crate) fn by(self, connections: usize) -> Self {
        Self { connections, ..self }
    }

    pub(crate) fn thinking(self) -> Self {
        Self { thinks: true, ..self }
    }
}

#[derive(Default)]
struct Shared {
    answers: AtomicU64,
    bytes: AtomicU64,
    /// The number of callers that have had their first response.
    warm: AtomicU64,
    measuring: AtomicBool,
    stop: AtomicBool,
    took: Mutex<Vec<Duration>>,
}

/// A load that continues until it is dropped.
pub(crate) struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Starts the load and returns once every caller has had a response.
    pub(crate) fn start(target: SocketAddr, work: &Work) -> Self {
        let shared = Arc::new(Shared::default());
        let (load_shared, work) = (shared.clone(), work.clone());
        let connections = work.connections as u64;
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let callers: Vec<_> = (0..work.connections)
                    .map(|caller| {
                        tokio::spawn(call(target, caller, work.clone(), load_shared.clone()))
                    })
                    .collect();
                for caller in callers {
                    caller.await.unwrap();
                }
            });
        });
        let load = Self { shared, thread: Some(thread) };
        while load.shared.warm.load(Relaxed) < connections {
            load.check();
            std::thread::sleep(Duration::from_millis(1));
        }
        load
    }

    /// Checks that no caller got a wrong response, which ends its thread.
    fn check(&self) {
        let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        assert!(!ended, "a caller got a wrong response");
    }

    /// Starts to record response times.
    pub(crate) fn begin(&self) {
        self.shared.measuring.store(true, Relaxed);
    }

    /// The responses, and the bytes in both directions, since the start.
    pub(crate) fn count(&self) -> (u64, u64) {
        self.check();
        (self.shared.answers.load(Relaxed), self.shared.bytes.load(Relaxed))
    }

    /// Ends the load and returns the response times since [`Self::begin`] in order.
    pub(crate) fn end(self) -> Vec<Duration> {
        let shared = self.shared.clone();
        drop(self);
        let mut took = std::mem::take(&mut *shared.took.lock().unwrap());
        took.sort_unstable();
        took
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.measuring.store(false, Relaxed);
        self.shared.stop.store(true, Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        // A second panic would leave all processes running.
        assert!(std::thread::panicking() || ended.is_none_or(|ended| ended.is_ok()));
    }
}

async fn call(target: SocketAddr, caller: usize, work: Work, shared: Arc<Shared>) {
    let mut stream = Stream::open(target, &work).await;
    let (request, mut took) = (work.request(caller), Vec::new());
    for number in 0_u64.. {
        if shared.stop.load(Relaxed) {
            break;
        }
        if work.thinks {
            sleep(Duration::from_micros(fastrand::u64(1_000..9_000))).await;
        }
        let since = Instant::now();
        stream.exchange(request, &work.answer, &shared.bytes).await;
        shared.answers.fetch_add(1, Relaxed);
        if number == 0 {
            shared.warm.fetch_add(1, Relaxed);
        }
        if shared.measuring.load(Relaxed) {
            took.push(since.elapsed());
        }
    }
    shared.took.lock().unwrap().append(&mut took);
}

/// Idle connections that have each had a response.
pub(crate) struct Idle {
    _streams: Vec<Stream>,
    // Streams that outlive their runtime would panic.
    _runtime: Runtime,
}

impl Idle {
    /// Opens the connections one after the other.
    pub(crate) fn open(target: SocketAddr, work: &Work) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let streams = runtime.block_on(async {
            let mut streams = Vec::new();
            for caller in 0..work.connections {
                let mut stream = Stream::open(target, work).await;
                stream.exchange(work.request(caller), &work.answer, &AtomicU64::new(0)).await;
                streams.push(stream);
            }
            streams
        });
        Self { _streams: streams, _runtime: runtime }
    }
}

/// The time until a server listens at this address and gives the right response.
pub(crate) fn first_answer(target: SocketAddr, work: &Work) -> Duration {
    let since = Instant::now();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        loop {
            assert!(since.elapsed() < Duration::from_secs(10), "no answer from {target}");
            if let Ok(stream) = TcpStream::connect(target).await {
                let mut stream = Stream::new(stream, work).await;
                stream.send(work.request(0)).await;
                // Envoy answers 401 as long as it has no token.
                if stream.status().await == 200 {
                    stream.answer(&work.answer, &AtomicU64::new(0)).await;
                    return since.elapsed();
                }
            }
            sleep(Duration::from_millis(1)).await;
        }
    })
}

trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A connection with its unread bytes.
struct Stream {
    stream: Box<dyn Connection>,
    buffer: Vec<u8>,
    filled: usize,
}

impl Stream {
    async fn open(target: SocketAddr, work: &Work) -> Self {
        Self::new(TcpStream::connect(target).await.unwrap(), work).await
    }

    async fn new(stream: TcpStream, work: &Work) -> Self {
        stream.set_nodelay(true).unwrap();
        let stream: Box<dyn Connection> = match &work.tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = ServerName::try_from("localhost").unwrap();
                Box::new(tls.connect(name, stream).await.unwrap())
            }
        };
        Self { stream, buffer: Vec::new(), filled: 0 }
    }

    async fn send(&mut self, request: &[u8]) {
        self.stream.write_all(request).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Reads more bytes.
    async fn fill(&mut self) {
        // Small responses need a small buffer. The buffer grows with the pieces.
        if self.buffer.len() - self.filled < 4096 {
            let length = (self.buffer.len() * 2).clamp(8 * 1024, 256 * 1024);
            self.buffer.resize(length.max(self.filled + 4096), 0);
        }
        let count = self.stream.read(&mut self.buffer[self.filled..]).await.unwrap();
        let seen = &self.buffer[..self.filled];
        assert!(count > 0, "closed after {}", String::from_utf8_lossy(seen));
        self.filled += count;
    }

    fn consume(&mut self, count: usize) {
        self.buffer.copy_within(count..self.filled, 0);
        self.filled -= count;
    }

    /// Sends a request and compares the body of its response.
    async fn exchange(&mut self, request: &[u8], expected: &[u8], bytes: &AtomicU64) {
        self.send(request).await;
        bytes.fetch_add(request.len() as u64, Relaxed);
        self.answer(expected, bytes).await;
    }

    /// The status of the next response.
    async fn status(&mut self) -> u16 {
        const STATUS: std::ops::Range<usize> = "HTTP/1.1 ".len().."HTTP/1.1 200".len();
        while self.filled < STATUS.end {
            self.fill().await;
        }
        std::str::from_utf8(&self.buffer[STATUS]).unwrap().parse().unwrap()
    }

    /// Reads a response and compares its body.
    async fn answer(&mut self, expected: &[u8], bytes: &AtomicU64) {
        let head = loop {
            if let Some(end) = memmem::find(&self.buffer[..self.filled], b"\r\n\r\n") {
                break end + 4;
            }
            self.fill().await;
        };
        let length = length_of(&self.buffer[..head]);
        self.consume(head);
        let mut body = Body { expected, done: 0 };
        match length {
            Some(length) => {
                assert_eq!(length, expected.len());
                self.take(&mut body, length, bytes).await;
            }
            None => self.take_chunks(&mut body, bytes).await,
        }
        assert_eq!(body.done, expected.len());
    }

    /// Compares the next `length` bytes of the body.
    async fn take(&mut self, body: &mut Body<'_>, length: usize, bytes: &AtomicU64) {
        let mut left = length;
        while left > 0 {
            if self.filled == 0 {
                self.fill().await;
            }
            let count = left.min(self.filled);
            body.compare(&self.buffer[..count]);
            bytes.fetch_add(count as u64, Relaxed);
            self.consume(count);
            left -= count;
        }
    }

    async fn take_chunks(&mut self, body: &mut Body<'_>, bytes: &AtomicU64) {
        loop {
            let end = loop {
                if let Some(end) = memmem::find(&self.buffer[..self.filled], b"\r\n") {
                    break end;
                }
                self.fill().await;
            };
            let size = std::str::from_utf8(&self.buffer[..end]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            self.consume(end + 2);
            self.take(body, size, bytes).await;
            while self.filled < 2 {
                self.fill().await;
            }
            assert_eq!(&self.buffer[..2], b"\r\n");
            self.consume(2);
            if size == 0 {
                return;
            }
        }
    }
}

struct Body<'a> {
    expected: &'a [u8],
    done: usize,
}

impl Body<'_> {
    fn compare(&mut self, piece: &[u8]) {
        let end = self.done + piece.len();
        assert!(self.expected.get(self.done..end) == Some(piece), "another body than expected");
        self.done = end;
    }
}

/// The content length in a header, or `None` for a body in chunks.
fn length_of(head: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(head).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    let value = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let length = value("content-length").map(|length| length.parse().unwrap());
    assert!(length.is_some() || value("transfer-encoding") == Some("chunked"), "{text}");
    length
}
