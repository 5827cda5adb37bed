//! Connections of the admin listener: few at once, each short, for one request, and with little
//! memory. Any client that reaches the listener may be hostile.

use crate::listener_tls::{HandshakeFailure, ListenerTls};
use crate::server::{deliver, recover};
use crate::throttle::Throttle;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

/// Timeout of a request's header. Probes and scrapers send it at once.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// Longest life of a connection, which also ends a client that does not read.
const LIFE: Duration = Duration::from_secs(30);
/// The answer to a client that speaks no TLS, if the listener has TLS.
pub(crate) const NEEDS_TLS: &str =
    "the admin listener speaks TLS; use https:// (Kubernetes: scheme: HTTPS)";
/// Buffer of a request, and of an answer beyond its body: 16 KiB, enough for a browser's cookies.
const BUFFER: usize = 16 << 10;

/// Accepts connections for ever, and serves at most `most` at once. One more replaces the oldest,
/// so that clients that hold all of them keep no probe waiting.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ListenerTls>>,
    router: Router,
    most: usize,
) {
    let mut connections: VecDeque<AbortOnDropHandle<()>> = VecDeque::new();
    let tls = tls.map(|tls| Arc::new(Tls { listener: tls, log: Throttle::new() }));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.retain(|connection| !connection.is_finished());
                while connections.len() >= most.max(1) {
                    connections.pop_front();
                }
                // Fails if the client is gone already, which the first read reports.
                let _ = stream.set_nodelay(true);
                let (router, tls) = (router.clone(), tls.clone());
                let connection = tokio::spawn(async move {
                    match tls {
                        None => connection(stream, router).await,
                        Some(tls) => tls.connection(stream, router).await,
                    }
                });
                connections.push_back(AbortOnDropHandle::new(connection));
                // Polls the new connection before a burst of others can replace it.
                yield_now().await;
            }
            Err(error) => {
                recover(&listener, &error, || connections.pop_front().is_some()).await;
            }
        }
    }
}

/// TLS of the listener.
struct Tls {
    listener: Arc<ListenerTls>,
    log: Throttle,
}

impl Tls {
    /// Does the handshake, and serves one request.
    async fn connection(&self, stream: TcpStream, router: Router) {
        match self.listener.accept(stream).await {
            Ok(stream) => connection(stream, router).await,
            Err(HandshakeFailure::Cleartext(stream)) => {
                self.log("it speaks no TLS; use https:// (Kubernetes: `scheme: HTTPS`)");
                reject_cleartext(stream).await;
            }
            Err(HandshakeFailure::Failed(why)) => self.log(why),
            Err(HandshakeFailure::Silent) => {}
        }
    }

    fn log(&self, why: &str) {
        if self.log.try_pass() {
            warn!("A client of the admin listener was not let in: {why}.");
        }
    }
}

/// Answers a client that speaks no TLS.
async fn reject_cleartext(stream: TcpStream) {
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{NEEDS_TLS}\n",
        NEEDS_TLS.len() + 1
    );
    deliver(stream, answer.as_bytes(), BUFFER as u64).await;
}

/// Serves one request. Connections are not kept alive: a client that sends many requests at once
/// would keep probes waiting.
async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, router: Router) {
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // The connection ends in any case.
    let _ = timeout(LIFE, serving).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{Instant, sleep};

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    /// Returns the client's end of a connection whose answer has `answer` bytes, and how long the
    /// connection lasts.
    fn begun(answer: usize) -> (DuplexStream, AbortOnDropHandle<Duration>) {
        let (server, client) = duplex(1024);
        let router = Router::new().route("/", get(move || async move { "x".repeat(answer) }));
        let lasts = tokio::spawn(async move {
            let begin = Instant::now();
            connection(server, router).await;
            begin.elapsed()
        });
        (client, AbortOnDropHandle::new(lasts))
    }

    async fn answer(stream: &mut DuplexStream) -> String {
        let mut answer = vec![0; 1024];
        let read = stream.read(&mut answer).await.unwrap();
        String::from_utf8(answer[..read].to_vec()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_does_not_end_or_begin_is_cut() {
        let (_silent, lasts) = begun(1);
        assert_eq!(lasts.await.unwrap(), HEADER_TIME);
        let (mut unfinished, lasts) = begun(1);
        unfinished.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
        assert_eq!(lasts.await.unwrap(), HEADER_TIME);
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_requests_at_once_one_is_answered() {
        let (mut greedy, lasts) = begun(1);
        greedy.write_all(&REQUEST.repeat(5)).await.unwrap();
        let mut answers = String::new();
        greedy.read_to_string(&mut answers).await.unwrap();
        assert!(answers.starts_with("HTTP/1.1 200 OK"), "{answers}");
        assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{answers}");
        assert!(answers.contains("connection: close"), "{answers}");
        assert_eq!(lasts.await.unwrap(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_never_read_or_a_byte_at_a_time_is_given_up() {
        let (mut never, lasts) = begun(1 << 20);
        never.write_all(REQUEST).await.unwrap();
        assert_eq!(lasts.await.unwrap(), LIFE);
        let (mut slow, lasts) = begun(1 << 20);
        slow.write_all(REQUEST).await.unwrap();
        let _reading = AbortOnDropHandle::new(tokio::spawn(async move {
            while slow.read_u8().await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        }));
        assert_eq!(lasts.await.unwrap(), LIFE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_beyond_the_buffer_is_refused() {
        let (mut long, lasts) = begun(1);
        let header = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(2 * BUFFER));
        // Fails if the server refuses the header before it has read all of it.
        let _ = long.write_all(header.as_bytes()).await;
        assert!(answer(&mut long).await.starts_with("HTTP/1.1 431 "));
        drop(long);
        assert!(lasts.await.unwrap() < HEADER_TIME);
    }
}
