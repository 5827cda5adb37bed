//! Whether the caller is still there, while nobody reads what it sends.
//!
//! pingora awaits a hook alone: without this, who left during a wait would be missed at its end only.

use super::Downstream;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use std::future::pending;
use tokio::select;

/// Does this unless the caller leaves meanwhile. What it sends stays unread.
///
/// # Errors
/// The caller has left; the work was dropped.
pub(crate) async fn unless_disconnected<T>(
    session: &Session,
    work: impl Future<Output = T>,
) -> pingora::Result<T> {
    select! {
        // What is done at once needs no watch.
        biased;
        done = work => Ok(done),
        () = departure(session) => Err(gone()),
    }
}

/// Whether to go on, after a wait that took no notice of the caller. It costs no system call: what the system has
/// said by then counts.
///
/// # Errors
/// The caller has left.
pub(crate) fn ensure_connected(session: &Session) -> pingora::Result<()> {
    let has_left =
        Downstream::of(session).is_some_and(|downstream| downstream.socket.get_ref().is_closed());
    if has_left { Err(gone()) } else { Ok(()) }
}

fn gone() -> Box<Error> {
    Error::new_down(ErrorType::ConnectionClosed)
}

/// Resolves when the caller has closed its side, or has gone altogether.
async fn departure(session: &Session) {
    // A readiness of its own: to forget that of the socket would leave its reader waiting for what is there.
    let twin = Downstream::of(session).map(|downstream| downstream.socket.get_ref().twin());
    if let Some(Ok(twin)) = twin {
        // What it sends rouses us, too, as often as it comes.
        while let Ok(ready) = twin.news().await {
            if ready.is_read_closed() {
                return;
            }
        }
    }
    // Out of file descriptors: it is missed at the end of the wait.
    pending().await
}
