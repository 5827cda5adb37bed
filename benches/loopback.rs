//! Loopback servers that give every request the same response, and a client with a kept connection.

use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Answers every request on every connection with the response made for its address.
pub(crate) async fn serve(make: impl FnOnce(SocketAddr) -> String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = make(address);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move { answer_all(stream, &answer).await });
        }
    });
    address
}

/// Answers every request of a connection.
pub(crate) async fn answer_all(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) {
    let mut buffer = [0; 16 * 1024];
    // Requests are small and come one after the other.
    while read_request(&mut stream, &mut buffer).await {
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        stream.flush().await.unwrap();
    }
}

/// Reads a whole request. Returns false at the end of the connection.
async fn read_request(stream: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> bool {
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..]).await {
            Ok(count) if count > 0 => filled += count,
            _ => return false,
        }
        let text = &buffer[..filled];
        if let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&text[..end]).to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            if filled >= end + 4 + length.map_or(0, |length| length.parse().unwrap()) {
                return true;
            }
        }
    }
}

/// A response 200 with this body.
pub(crate) fn answer(body: &str) -> String {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// A token response.
pub(crate) fn token(value: &str) -> String {
    answer(&format!(r#"{{"access_token":"{value}","expires_in":86400}}"#))
}

/// Sends a request on a kept connection. Returns the body of the response as received.
pub(crate) async fn get<'a>(
    stream: &mut TcpStream,
    request: &[u8],
    buffer: &'a mut [u8],
) -> &'a [u8] {
    stream.write_all(request).await.unwrap();
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..]).await.unwrap();
        assert!(count > 0, "the answer breaks off, or is too long");
        filled += count;
        let text = &buffer[..filled];
        if let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = std::str::from_utf8(&text[..end]).unwrap().to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 200"), "{head}");
            let is_whole = match head.split("content-length: ").nth(1) {
                Some(rest) => {
                    let length: usize = rest.lines().next().unwrap().parse().unwrap();
                    filled >= end + 4 + length
                }
                None => text.ends_with(b"\r\n0\r\n\r\n"),
            };
            if is_whole {
                return &buffer[end + 4..filled];
            }
        }
    }
}
