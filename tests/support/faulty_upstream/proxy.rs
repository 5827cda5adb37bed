//! DemoFaults of a forward proxy, and of tunnels through it.

use super::{DRIBBLE, STALL};
use crate::support::accepting;
use fastrand::Rng;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

pub(crate) struct FaultyProxy {
    pub(crate) address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl FaultyProxy {
    pub(crate) async fn start(seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = AtomicU64::new(seed);
        let task = accepting(listener, move |stream| {
            let seed = connections.fetch_add(1, Ordering::Relaxed);
            serve(stream, Rng::with_seed(seed))
        });
        Self { address, _task: task }
    }
}

async fn serve(stream: TcpStream, mut rng: Rng) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let port: u16 = line.split([' ', ':']).nth(2)?.parse().ok()?;
    while stream.read_line(&mut line).await.ok()? > 2 {}
    const OK: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
    match rng.u8(..100) {
        // Closed without a response.
        0..3 => return None,
        // No response in time.
        3..5 => {
            sleep(STALL).await;
            return None;
        }
        // A response that the server can't be reached.
        5..8 => {
            let answer = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\ndown";
            stream.write_all(answer).await.ok()?;
            return None;
        }
        // Not HTTP.
        8..10 => return stream.write_all(b"\x16\x03\x01 what is this\r\n\r\n").await.ok(),
        // A header that ends in the middle.
        10..12 => return stream.write_all(&OK[..20]).await.ok(),
        // A tunnel that ends at once.
        12..14 => return stream.write_all(OK).await.ok(),
        // A response byte by byte.
        14..17 => {
            for byte in OK {
                stream.write_all(&[*byte]).await.ok()?;
                sleep(DRIBBLE / 4).await;
            }
        }
        _ => stream.write_all(OK).await.ok()?,
    }
    let mut server = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    // Some tunnels break after a random number of bytes.
    let most = if rng.u8(..100) < 5 { rng.u64(..300_000) } else { u64::MAX };
    let (from, mut to) = server.split();
    let mut from = from.take(most);
    let (mut read, mut write) = tokio::io::split(&mut stream);
    select! {
        _ = tokio::io::copy(&mut from, &mut write) => {}
        _ = tokio::io::copy(&mut read, &mut to) => {}
    }
    Some(())
}
