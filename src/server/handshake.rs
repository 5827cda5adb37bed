//! The beginning of a caller's connection on a listener with TLS.

use super::reply;
use crate::listener_tls::{HandshakeFailure, ListenerTls};
use crate::proxy::downstream::{Load, Socket};

/// Returns the socket on which requests come. `None` if the handshake fails. Until its end, the
/// connection may be closed to make room for another one.
pub(super) async fn enter(socket: Socket, tls: &ListenerTls, load: &Load) -> Option<Socket> {
    let Socket::Tcp(stream) = socket else { return Some(socket) };
    match tls.accept(stream).await {
        Ok(stream) => return Some(Socket::Tls(Box::new(stream))),
        Err(HandshakeFailure::Cleartext(stream)) => {
            load.record_cleartext();
            reply::reject_cleartext(stream, load).await;
        }
        Err(HandshakeFailure::Failed(why)) => load.record_failed_handshake(why),
        Err(HandshakeFailure::Silent) => {}
    }
    None
}
