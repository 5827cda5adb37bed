//! Clients over a bare connection, for what an HTTP client would not send.

use super::DEADLINE;
use super::tls::{Connection, connect};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;

/// Sends these bytes to a `host:port` and returns what comes until the other side closes.
pub(crate) async fn exchange(host: &str, request: &str) -> String {
    let exchange = async {
        let mut stream = connect(host).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut response = Vec::new();
        // A reset after the response counts as a close.
        let _ = stream.read_to_end(&mut response).await;
        String::from_utf8_lossy(&response).into_owned()
    };
    timeout(DEADLINE, exchange).await.expect("a response in time")
}

/// A client that sends and reads step by step.
pub(crate) struct RawClient(BufReader<Box<dyn Connection>>);

impl RawClient {
    /// Connects to a `host:port`.
    pub(crate) async fn connect(host: &str) -> Self {
        Self(BufReader::new(connect(host).await))
    }

    /// A client of a connection that is open.
    pub(crate) fn over(stream: impl Connection + 'static) -> Self {
        Self(BufReader::new(Box::new(stream)))
    }

    pub(crate) async fn send(&mut self, bytes: &str) {
        self.0.get_mut().write_all(bytes.as_bytes()).await.unwrap();
        self.0.get_mut().flush().await.unwrap();
    }

    /// Reads until the other side closes the connection.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let reading = self.0.read_to_end(&mut rest);
        timeout(DEADLINE, reading).await.expect("closed in time").unwrap();
        String::from_utf8(rest).unwrap()
    }

    /// Reads the header of the next response, with its empty line.
    pub(crate) async fn head(&mut self) -> String {
        let reading = async {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert!(self.0.read_line(&mut head).await.unwrap() > 0, "closed after {head:?}");
            }
            head
        };
        timeout(DEADLINE, reading).await.expect("a response in time")
    }

    /// Reads the body of the response with this header, as long as the header says.
    pub(crate) async fn body(&mut self, head: &str) -> String {
        let lines = head.lines().filter_map(|line| line.split_once(':'));
        let mut lengths = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let (_, length) = lengths.next().expect("a body of a known length");
        let mut body = vec![0; length.trim().parse().unwrap()];
        let reading = self.0.read_exact(&mut body);
        timeout(DEADLINE, reading).await.expect("a body in time").unwrap();
        String::from_utf8(body).unwrap()
    }
}
