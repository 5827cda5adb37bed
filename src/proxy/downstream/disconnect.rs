//! Notices that a caller disconnects while nothing is read from its connection.
//!
//! While a hook waits, pingora does not watch the caller. Without this, a disconnect would be
//! noticed only when the wait ends.

use super::connection::Downstream;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use std::future::pending;
use tokio::select;

/// Runs this work unless the caller disconnects. What the caller sends stays unread.
///
/// # Errors
/// The caller has disconnected; the work was dropped.
pub(crate) async fn unless_disconnected<T>(
    session: &Session,
    work: impl Future<Output = T>,
) -> pingora::Result<T> {
    select! {
        // Work that is ready at once needs no watch.
        biased;
        done = work => Ok(done),
        () = disconnect(session) => Err(disconnected()),
    }
}

/// Checks the connection after a wait that did not watch the caller. It makes no system call, and
/// uses what the system has reported by then.
///
/// # Errors
/// The caller has disconnected.
pub(crate) fn ensure_connected(session: &Session) -> pingora::Result<()> {
    let is_closed =
        Downstream::of(session).is_some_and(|downstream| downstream.socket.get_ref().is_closed());
    if is_closed { Err(disconnected()) } else { Ok(()) }
}

fn disconnected() -> Box<Error> {
    Error::new_down(ErrorType::ConnectionClosed)
}

/// Resolves when the caller has closed its side, or the connection.
async fn disconnect(session: &Session) {
    // A second handle: clearing the readiness of the socket itself would leave its reader waiting
    // for bytes that have arrived.
    let watched = Downstream::of(session).map(|downstream| downstream.socket.get_ref().duplicate());
    if let Some(Ok(watched)) = watched {
        // Bytes from the caller end this wait, too.
        while let Ok(ready) = watched.next_readiness().await {
            if ready.is_read_closed() {
                return;
            }
        }
    }
    // Out of file descriptors: the disconnect is noticed at the end of the wait.
    pending().await
}
