//! What an error says of the connection on which it befell a request that had no answer yet. Pure.
//!
//! A server may give up an idle connection in the very moment in which a request is sent over it. It does so in many
//! ways: FIN with or without `close_notify`, a reset, an alert, a 408 that answers nobody, bytes that are no HTTP.
//! They are all one kind, whatever the libraries below call them.

use super::http2;
use pingora::{Error, ErrorSource, ErrorType};
use std::io;

/// The upstream answers 408 over a kept connection: it speaks of the request that did not come in time before this one
/// (RFC 9110 section 15.5.9).
pub(in crate::proxy) const IDLE_ANSWER: ErrorType = ErrorType::new("IdleAnswer");

/// How a connection failed its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// It was a kept one, and dead. A new one is another matter.
    Kept,
    /// Nothing comes back from the other end. Other connections that are kept may be as dead.
    Silent,
    /// It speaks HTTP/2 and was cut. What befalls one request there need not befall it again.
    Cut,
}

impl Loss {
    /// What this error says; nothing if another connection would not help.
    pub(super) fn of(error: &Error, is_kept: bool) -> Option<Self> {
        if *error.esource() != ErrorSource::Upstream {
            return None;
        }
        if http2::is_of_http2(error) {
            return http2::is_cut(error).then_some(Self::Cut);
        }
        if is_silence(error) {
            return Some(Self::Silent);
        }
        // Of a new connection, this is the upstream's word about the request.
        (is_kept && is_end(error)).then_some(Self::Kept)
    }
}

/// Whether the connection ended, or something else came than an answer. A time-out of ours is neither.
fn is_end(error: &Error) -> bool {
    use ErrorType::{ConnectionClosed, H1Error, InvalidHTTPHeader, ReadError, WriteError};
    let etype = error.etype();
    *etype == IDLE_ANSWER
        || matches!(etype, ConnectionClosed | ReadError | WriteError | InvalidHTTPHeader | H1Error)
}

/// Whether TCP gave the connection up, since the other end acknowledged nothing for too long, or took nothing.
pub(in crate::proxy) fn is_silence(error: &Error) -> bool {
    use ErrorType::{H2Error, ReadError, WriteError};
    // Of our own time-outs, too, some have such a cause.
    matches!(error.etype(), ReadError | WriteError | H2Error)
        && io_kind(error).is_some_and(|kind| {
            matches!(
                kind,
                io::ErrorKind::TimedOut
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::NetworkDown
            )
        })
}

/// What the system calls it, below TLS and HTTP/2.
fn io_kind(error: &Error) -> Option<io::ErrorKind> {
    let cause = error.root_cause();
    let of_http2 = || cause.downcast_ref::<h2::Error>().and_then(h2::Error::get_io);
    cause.downcast_ref::<io::Error>().or_else(of_http2).map(io::Error::kind)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use h2::Reason;
    use io::ErrorKind::*;
    use tokio::io::AsyncWriteExt;

    fn up(etype: ErrorType) -> Box<Error> {
        Error::new_up(etype)
    }

    fn io(etype: ErrorType, kind: io::ErrorKind) -> Box<Error> {
        Error::because(etype, "", io::Error::from(kind)).into_up()
    }

    #[test]
    fn all_ends_of_a_kept_connection_are_one_kind_and_only_there() {
        use ErrorType::*;
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::InternalError);
        let alert = io::Error::new(InvalidData, alert);
        for (what, error) in [
            ("FIN with close_notify, or without TLS", up(ConnectionClosed)),
            ("FIN without close_notify", io(ReadError, UnexpectedEof)),
            ("a reset", io(ReadError, ConnectionReset)),
            ("an abort", io(ReadError, ConnectionAborted)),
            ("an alert", Error::because(ReadError, "", alert).into_up()),
            ("bytes that are no TLS", io(ReadError, InvalidData)),
            ("a reset before the request is out", io(WriteError, ConnectionReset)),
            ("closed before the request is out", io(WriteError, BrokenPipe)),
            ("bytes that are no HTTP", up(InvalidHTTPHeader)),
            ("408 to nobody", up(IDLE_ANSWER)),
        ] {
            assert_eq!(Loss::of(&error, true), Some(Loss::Kept), "{what}");
            assert_eq!(Loss::of(&error, false), None, "{what}, of a new one");
        }
    }

    #[test]
    fn silence_is_known_on_new_connections_too() {
        use ErrorType::*;
        for kind in [TimedOut, HostUnreachable, NetworkUnreachable, NetworkDown] {
            for etype in [ReadError, WriteError] {
                let error = io(etype, kind);
                for is_kept in [true, false] {
                    assert_eq!(Loss::of(&error, is_kept), Some(Loss::Silent), "{kind}");
                }
            }
        }
    }

    #[test]
    fn what_another_connection_would_not_mend_is_no_loss() {
        use ErrorType::*;
        let caller = Error::because(ReadError, "", io::Error::from(ConnectionReset));
        for (what, error) in [
            ("our own time-out of reading", up(ReadTimedout)),
            ("our own time-out of writing", io(WriteTimedout, TimedOut)),
            ("the caller's end", caller.into_down()),
            ("ours", Error::new_in(InternalError)),
            ("a login page", up(crate::proxy::failure::LOGIN_PAGE)),
        ] {
            assert_eq!(Loss::of(&error, true), None, "{what}");
        }
    }

    /// What is said of a connection of HTTP/2 whose other end is gone.
    pub(in crate::proxy::upstream) async fn gone() -> h2::Error {
        let (near, far) = tokio::io::duplex(1);
        drop(far);
        h2::client::handshake(near).await.map(|_| ()).unwrap_err()
    }

    /// What is said of one over which no HTTP/2 comes.
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
        // Not the other side's word, and not the connection's end.
        assert_eq!(loss(Reason::INTERNAL_ERROR.into()), None);
        assert_eq!(loss(Reason::ENHANCE_YOUR_CALM.into()), None);
    }
}
