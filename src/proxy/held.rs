//! A request's body that is read before the request is sent. pingora keeps it to send it again, and so holds all of it.

use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use std::time::Duration;
use tokio::time::timeout;

/// How long the next bytes may take.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads the rest of a body that the buffer has room for. `each` sees what comes.
///
/// # Errors
/// The caller does not send what it announced.
pub(super) async fn hold(
    session: &mut Session,
    mut each: impl FnMut(&[u8]),
) -> pingora::Result<()> {
    session.enable_retry_buffering();
    let late = |_| Error::new_down(ErrorType::ReadTimedout);
    let next = async |session: &mut Session| {
        let read = timeout(READ_TIMEOUT, session.read_request_body()).await;
        read.map_err(late)?.map_err(Error::into_down)
    };
    while let Some(chunk) = next(session).await? {
        each(&chunk);
    }
    Ok(())
}
