//! Local answers to callers whose connection is not served.

use crate::error::ErrorKind;
use crate::proxy::downstream::{Load, Socket};
use crate::proxy::problem::Problem;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream as UnixCaller};
use tokio::time::timeout;

/// Time for the answer to a caller beyond the limit of connections. It delays all other callers.
const OVERLOADED_TIME: Duration = Duration::from_millis(5);
/// Time for a client that is not served to read the answer.
const REPLY_TIME: Duration = Duration::from_secs(2);

/// Answers a caller whose user id may not connect.
pub(super) async fn reject_user(stream: UnixCaller, load: Arc<Load>) {
    let problem = Problem::new(
        ErrorKind::AccessDenied,
        "this user id is not in `access.uids`, and not in `uids` of a caller; add it there, or run the tool as another user",
    );
    reject(stream, &problem, &load).await;
}

/// Answers a caller that speaks no TLS on a port with TLS.
pub(super) async fn reject_cleartext(stream: TcpStream, load: &Load) {
    let problem = Problem::new(
        ErrorKind::BadRequest,
        "this port speaks TLS, and the caller does not; write https:// in the tool's URL",
    );
    reject(stream, &problem, load).await;
}

/// Answers a caller that is not served.
async fn reject(stream: impl AsyncRead + AsyncWrite + Unpin, problem: &Problem, load: &Load) {
    load.record_rejected(problem);
    deliver(stream, &problem.to_wire(), u64::MAX).await;
}

/// Sends an answer, and reads up to `most` bytes of input for a while: closing at once would
/// discard the answer.
pub(crate) async fn deliver(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &[u8],
    most: u64,
) {
    let reply = async {
        stream.write_all(answer).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(most), &mut tokio::io::sink()).await
    };
    // An answer that cannot be written is given up.
    let _ = timeout(REPLY_TIME, reply).await;
}

/// The answer to a caller beyond the limit of connections.
pub(super) fn overloaded() -> Problem {
    Problem::overloaded(
        "too many connections (`limits.requests`, or the limit of open files); try again later",
    )
}

/// Answers a caller beyond the limit of connections. It is answered at once or not at all.
pub(super) async fn reject_overloaded(mut socket: Socket, load: &Load) {
    let problem = overloaded();
    load.record_rejected(&problem);
    let reply = async {
        // Reads what has arrived: with unread input, closing would discard the answer.
        let mut request = [0; 4096];
        socket.write_all(&problem.to_wire()).await?;
        socket.shutdown().await?;
        socket.read(&mut request).await
    };
    let _ = timeout(OVERLOADED_TIME, reply).await;
}
