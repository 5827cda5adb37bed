//! DemoFaults of HTTP/1.1.

use super::{DRIBBLE, STALL, body, number_in};
use crate::support::upstream::read_request;
use fastrand::Rng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::sleep;

/// Serves a connection until it fails.
pub(super) async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    mut rng: Rng,
) -> Option<()> {
    while let Some(seen) = read_request(&mut stream).await {
        let body = body(number_in(seen.line()));
        let (length, half) = (body.len(), body.len() / 2);
        let whole = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        match rng.u8(..100) {
            // Closed without a response.
            0..4 => return None,
            // No response in time.
            4..7 => sleep(STALL).await,
            // A header that ends in the middle.
            7..10 => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Le").await.ok()?;
                return None;
            }
            // Not HTTP.
            10..13 => {
                stream.write_all(b"\x16\x03\x01 what is this\r\n\r\n").await.ok()?;
                return None;
            }
            // Half a body, and a regular end of the connection.
            13..18 => {
                stream.write_all(whole.as_bytes()).await.ok()?;
                stream.write_all(&body[..half]).await.ok()?;
                stream.shutdown().await.ok()?;
                return None;
            }
            // Half a body in chunks, and the end of the connection instead of the last chunk.
            18..23 => {
                let head =
                    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{half:x}\r\n");
                stream.write_all(head.as_bytes()).await.ok()?;
                stream.write_all(&body[..half]).await.ok()?;
                stream.shutdown().await.ok()?;
                return None;
            }
            // Half a body, and then nothing.
            23..26 => {
                stream.write_all(whole.as_bytes()).await.ok()?;
                stream.write_all(&body[..half]).await.ok()?;
                stream.flush().await.ok()?;
                sleep(STALL).await;
                return None;
            }
            // A response byte by byte.
            26..29 => {
                for byte in whole.bytes() {
                    stream.write_all(&[byte]).await.ok()?;
                    stream.flush().await.ok()?;
                    sleep(DRIBBLE).await;
                }
                stream.write_all(&body).await.ok()?;
            }
            // Chunks.
            29..50 => {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    .await
                    .ok()?;
                for piece in body.chunks(1 + rng.usize(..40_000)) {
                    stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.ok()?;
                    stream.write_all(piece).await.ok()?;
                    stream.write_all(b"\r\n").await.ok()?;
                }
                stream.write_all(b"0\r\n\r\n").await.ok()?;
            }
            _ => {
                stream.write_all(whole.as_bytes()).await.ok()?;
                stream.write_all(&body).await.ok()?;
            }
        }
        stream.flush().await.ok()?;
    }
    // The rest is read, so that the connection ends without a reset.
    let _ = stream.read_to_end(&mut Vec::new()).await;
    Some(())
}
