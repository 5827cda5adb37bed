//! The beginning of a caller's connection on a listener with TLS.

use super::reply;
use crate::listener_tls::ListenerTls;
use crate::proxy::downstream::{Load, Socket};
use crate::trust;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time for a handshake. Until its end, the connection may be closed to make room for another one.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// The first byte of a handshake of TLS (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 0x16;

/// Returns the socket on which requests come. `None` if the handshake fails.
pub(super) async fn enter(socket: Socket, tls: &ListenerTls, load: &Load) -> Option<Socket> {
    match socket {
        Socket::Tcp(stream) => timeout(HANDSHAKE_TIME, handshake(stream, tls, load)).await.ok()?,
        socket => Some(socket),
    }
}

async fn handshake(stream: TcpStream, tls: &ListenerTls, load: &Load) -> Option<Socket> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) if first == [HANDSHAKE] => {}
        Ok(1) => {
            load.record_cleartext();
            reply::reject_cleartext(stream, load).await;
            return None;
        }
        // The caller is gone.
        _ => return None,
    }
    match tls.accept(stream).await {
        Ok(stream) => Some(Socket::Tls(Box::new(stream))),
        Err(error) => {
            // A certificate that is not accepted has a log line of its own.
            let text = error.to_string();
            load.record_failed_handshake(&trust::plain(&text).unwrap_or_else(str::to_owned));
            None
        }
    }
}
