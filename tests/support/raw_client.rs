//! A caller over a bare connection, for what no HTTP client would do.

use super::DEADLINE;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(crate) struct RawClient(BufReader<TcpStream>);

impl RawClient {
    /// Connects to a `host:port`.
    pub(crate) async fn connect(host: &str) -> Self {
        Self(BufReader::new(TcpStream::connect(host).await.unwrap()))
    }

    pub(crate) async fn send(&mut self, bytes: &str) {
        self.0.get_mut().write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Reads until the other side closes the connection.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let reading = self.0.read_to_end(&mut rest);
        timeout(DEADLINE, reading).await.expect("closed in time").unwrap();
        String::from_utf8(rest).unwrap()
    }

    /// The next answer's header, up to its empty line.
    pub(crate) async fn head(&mut self) -> String {
        let reading = async {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert!(self.0.read_line(&mut head).await.unwrap() > 0, "closed after {head:?}");
            }
            head
        };
        timeout(DEADLINE, reading).await.expect("an answer in time")
    }
}
