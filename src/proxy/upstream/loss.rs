//! How a connection failed a request that had no answer yet. Pure.
//!
//! A server may close an idle connection at the moment at which a request is sent over it. It does
//! so in many ways: FIN with or without `close_notify`, a reset, an alert, a 408 that answers no
//! request, bytes that are not HTTP. All of them are treated as the same loss, whatever the
//! libraries call them.

use super::http2;
use crate::proxy::failure::is_silence;
use pingora::{Error, ErrorSource, ErrorType};

/// A 408 over a pooled connection, which is not the answer to this request.
pub(super) const IDLE_TIMEOUT: ErrorType = ErrorType::new("IdleAnswer");

/// How a connection failed its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// A pooled connection was already closed. A new one may work.
    Closed,
    /// Nothing comes back from the other end. Other pooled connections may be dead, too.
    Silent,
    /// An HTTP/2 connection was cut. Another attempt may work.
    Cut,
}

impl Loss {
    /// The loss that an error reports, or `None` if another connection would not help.
    pub(super) fn of(error: &Error, is_pooled: bool) -> Option<Self> {
        if *error.esource() != ErrorSource::Upstream {
            return None;
        }
        if http2::is_of_http2(error) {
            return http2::is_cut(error).then_some(Self::Cut);
        }
        if is_silence(error) {
            return Some(Self::Silent);
        }
        // On a new connection, this is how the upstream reacts to the request.
        (is_pooled && is_closed(error)).then_some(Self::Closed)
    }
}

/// Whether the connection ended, or brought something other than an answer. The sidecar's own
/// timeouts are not a loss.
fn is_closed(error: &Error) -> bool {
    use ErrorType::{ConnectionClosed, H1Error, InvalidHTTPHeader, ReadError, WriteError};
    let etype = error.etype();
    *etype == IDLE_TIMEOUT
        || matches!(etype, ConnectionClosed | ReadError | WriteError | InvalidHTTPHeader | H1Error)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use h2::Reason;
    use std::io::{self, ErrorKind::*};
    use tokio::io::AsyncWriteExt;

    fn up(etype: ErrorType) -> Box<Error> {
        Error::new_up(etype)
    }

    fn io(etype: ErrorType, kind: io::ErrorKind) -> Box<Error> {
        Error::because(etype, "", io::Error::from(kind)).into_up()
    }

    #[test]
    fn all_ends_of_a_pooled_connection_count_as_one_and_only_there() {
        use ErrorType::*;
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::InternalError);
        let alert = io::Error::new(InvalidData, alert);
        for (what, error) in [
            ("FIN with close_notify, or without TLS", up(ConnectionClosed)),
            ("FIN without close_notify", io(ReadError, UnexpectedEof)),
            ("a reset", io(ReadError, ConnectionReset)),
            ("an abort", io(ReadError, ConnectionAborted)),
            ("an alert", Error::because(ReadError, "", alert).into_up()),
            ("bytes that are not TLS", io(ReadError, InvalidData)),
            ("a reset before the request is out", io(WriteError, ConnectionReset)),
            ("closed before the request is out", io(WriteError, BrokenPipe)),
            ("bytes that are not HTTP", up(InvalidHTTPHeader)),
            ("408 to nobody", up(IDLE_TIMEOUT)),
        ] {
            assert_eq!(Loss::of(&error, true), Some(Loss::Closed), "{what}");
            assert_eq!(Loss::of(&error, false), None, "{what}, of a new one");
        }
    }

    #[test]
    fn silence_is_recognized_on_new_connections_too() {
        use ErrorType::*;
        for kind in [TimedOut, HostUnreachable, NetworkUnreachable, NetworkDown] {
            for etype in [ReadError, WriteError] {
                let error = io(etype, kind);
                for is_pooled in [true, false] {
                    assert_eq!(Loss::of(&error, is_pooled), Some(Loss::Silent), "{kind}");
                }
            }
        }
    }

    #[test]
    fn an_error_that_another_connection_would_not_avoid_is_no_loss() {
        use ErrorType::*;
        let caller = Error::because(ReadError, "", io::Error::from(ConnectionReset));
        for (what, error) in [
            ("our own timeout of reading", up(ReadTimedout)),
            ("our own timeout of writing", io(WriteTimedout, TimedOut)),
            ("the end of the caller", caller.into_down()),
            ("a local error", Error::new_in(InternalError)),
            ("a login page", up(ErrorType::new("LoginPage"))),
        ] {
            assert_eq!(Loss::of(&error, true), None, "{what}");
        }
    }

    /// The error of an HTTP/2 connection whose other end is gone.
    pub(in crate::proxy::upstream) async fn gone() -> h2::Error {
        let (near, far) = tokio::io::duplex(1);
        drop(far);
        h2::client::handshake(near).await.map(|_| ()).unwrap_err()
    }

    /// The error of an HTTP/2 connection over which something else comes.
    async fn garbled() -> h2::Error {
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let (_requests, connection) = h2::client::handshake(near).await.unwrap();
        far.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
        connection.await.unwrap_err()
    }

    #[tokio::test]
    async fn http2_is_cut_by_its_end_and_not_by_a_reason_alone() {
        let loss = |cause: h2::Error| {
            Loss::of(&Error::because(ErrorType::H2Error, "", cause).into_up(), false)
        };
        assert_eq!(loss(gone().await), Some(Loss::Cut));
        assert_eq!(loss(garbled().await), Some(Loss::Cut));
        // The other end did not send these, and the connection did not end.
        assert_eq!(loss(Reason::INTERNAL_ERROR.into()), None);
        assert_eq!(loss(Reason::ENHANCE_YOUR_CALM.into()), None);
    }
}
