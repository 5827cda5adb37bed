//! The answer to an error that ended a request. Pure.

use super::problem::Problem;
use super::upstream::{self, ResolveError};
use crate::error::ErrorKind;
use crate::no_answer::NoAnswer;
use pingora::{Error, ErrorSource, ErrorType};
use std::io;

/// The answer to an error that ended a request, or `None` if the caller itself is gone. `upstream`
/// is its name and the addresses that were tried.
pub(super) fn problem(error: &Error, upstream: &str) -> Option<Problem> {
    if let Some(problem) = Problem::of(error) {
        return Some(problem.clone());
    }
    let kind = kind_of(error)?;
    Some(Problem::new(kind, detail(kind, error, upstream)))
}

/// The kind of an error that pingora reports.
fn kind_of(error: &Error) -> Option<ErrorKind> {
    use ErrorType::*;
    Some(match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, ReadError) if is_late_body(error) => ErrorKind::BadRequest,
        (ErrorSource::Downstream, ReadError | WriteError | WriteTimedout | ConnectionClosed) => {
            return None;
        }
        (ErrorSource::Downstream, _) => ErrorKind::BadRequest,
        (_, ConnectTimedout | TLSHandshakeTimedout | ReadTimedout | WriteTimedout) => {
            ErrorKind::UpstreamTimeout
        }
        (ErrorSource::Upstream, _) if is_silence(error) => ErrorKind::UpstreamTimeout,
        (_, TLSHandshakeFailure | TLSWantX509Lookup | InvalidCert) => ErrorKind::UpstreamTls,
        // The handshake of HTTP/2: that of TLS succeeded.
        (_, HandshakeError) => ErrorKind::UpstreamUnreachable,
        (ErrorSource::Upstream, _) => ErrorKind::UpstreamUnreachable,
        (ErrorSource::Internal | ErrorSource::Unset, _) => ErrorKind::Internal,
    })
}

/// Whether the caller sent its body too slowly; see [`super::downstream`].
fn is_late_body(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    *error.etype() == ErrorType::ReadTimedout
        || cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

/// Whether TCP gave the connection up: the peer acknowledged nothing for too long, or its receive
/// window stayed closed.
pub(super) fn is_silence(error: &Error) -> bool {
    use ErrorType::{H2Error, ReadError, WriteError};
    // Some of the sidecar's own timeouts have the same cause.
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

/// The operating system's error below TLS and HTTP/2.
fn io_kind(error: &Error) -> Option<io::ErrorKind> {
    let cause = error.root_cause();
    let of_http2 = || cause.downcast_ref::<h2::Error>().and_then(h2::Error::get_io);
    cause.downcast_ref::<io::Error>().or_else(of_http2).map(io::Error::kind)
}

/// What happened and what to do, for the caller.
fn detail(kind: ErrorKind, error: &Error, upstream: &str) -> String {
    match kind {
        ErrorKind::UpstreamTls | ErrorKind::UpstreamTimeout | ErrorKind::UpstreamUnreachable => {
            let failure = failure_of(kind, error);
            let advice = failure.advice(upstream).unwrap_or("`bearerd doctor` tries each step");
            format!("{upstream} {}; {advice}", failure.predicate())
        }
        ErrorKind::BadRequest if is_late_body(error) => {
            "the request's body did not arrive in time; send it faster, or try again".to_owned()
        }
        ErrorKind::BadRequest => {
            "the request is not valid HTTP/1.1; check that the tool speaks HTTP to this port, and what it sends (RFC 9112)"
                .to_owned()
        }
        _ => "please report this, with the log line of this request".to_owned(),
    }
}

/// Why the upstream did not answer.
fn failure_of(kind: ErrorKind, error: &Error) -> NoAnswer {
    use ErrorType::*;
    if kind == ErrorKind::UpstreamTls {
        return NoAnswer::of_tls(tls_cause(error));
    }
    let cause = error.root_cause();
    if let Some(unresolved) = cause.downcast_ref::<ResolveError>() {
        return unresolved.failure();
    }
    match error.etype() {
        _ if is_silence(error) => NoAnswer::Silent,
        ConnectNoRoute => NoAnswer::NoNetwork,
        ConnectRefused => NoAnswer::Refused,
        // pingora's connector for TLS reports it like that, too.
        ConnectTimedout if context(error).starts_with("connecting to server ") => {
            NoAnswer::TlsTimeout
        }
        ConnectTimedout => NoAnswer::ConnectTimeout,
        TLSHandshakeTimedout => NoAnswer::TlsTimeout,
        WriteTimedout => NoAnswer::WriteTimeout,
        ReadTimedout => NoAnswer::ReadTimeout,
        InvalidHTTPHeader | UnknownError => NoAnswer::NotHttp,
        H2Error if upstream::is_cut(error) => NoAnswer::Closed,
        H2Error | H2Downgrade | InvalidH2 | HandshakeError => NoAnswer::Http2,
        // In TLS 1.3, the server refuses a client's certificate after the handshake.
        ReadError | WriteError => match NoAnswer::of(cause) {
            alert @ NoAnswer::Tls(_) => alert,
            _ => NoAnswer::Closed,
        },
        ConnectionClosed => NoAnswer::Closed,
        _ if cause.is::<Error>() => NoAnswer::Unknown,
        _ => NoAnswer::of(cause),
    }
}

fn context(error: &Error) -> &str {
    error.context.as_ref().map_or("", |context| context.as_str())
}

/// The TLS library's message, which pingora quotes at the end of its own.
fn tls_cause(error: &Error) -> &str {
    let context = context(error);
    context.rsplit("cause: ").next().unwrap_or(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_an_error_says_whose_fault_it_is() {
        let up = |etype| kind_of(&Error::new_up(etype));
        assert_eq!(up(ErrorType::ConnectRefused), Some(ErrorKind::UpstreamUnreachable));
        assert_eq!(up(ErrorType::ConnectionClosed), Some(ErrorKind::UpstreamUnreachable));
        assert_eq!(up(ErrorType::InvalidHTTPHeader), Some(ErrorKind::UpstreamUnreachable));
        assert_eq!(up(ErrorType::ReadTimedout), Some(ErrorKind::UpstreamTimeout));
        assert_eq!(
            kind_of(&Error::new(ErrorType::HandshakeError)),
            Some(ErrorKind::UpstreamUnreachable)
        );
        assert_eq!(up(ErrorType::ConnectTimedout), Some(ErrorKind::UpstreamTimeout));
        assert_eq!(up(ErrorType::TLSHandshakeFailure), Some(ErrorKind::UpstreamTls));
        let down = |etype| kind_of(&Error::new_down(etype));
        assert_eq!(down(ErrorType::ConnectionClosed), None);
        assert_eq!(down(ErrorType::InvalidHTTPHeader), Some(ErrorKind::BadRequest));
        let read = |kind: io::ErrorKind| {
            let because = Error::because(ErrorType::ReadError, "reading", io::Error::from(kind));
            kind_of(&because.into_down())
        };
        assert_eq!(read(io::ErrorKind::ConnectionReset), None);
        assert_eq!(read(io::ErrorKind::TimedOut), Some(ErrorKind::BadRequest), "a late body");
        let inside = Error::new_in(ErrorType::InternalError);
        assert_eq!(kind_of(&inside), Some(ErrorKind::Internal));
    }

    #[test]
    fn no_word_of_the_library_reaches_the_caller() {
        use ErrorType::*;
        for etype in [
            ConnectNoRoute,
            ConnectRefused,
            ConnectTimedout,
            ConnectError,
            InvalidHTTPHeader,
            ConnectionClosed,
            ReadTimedout,
            WriteTimedout,
            TLSHandshakeTimedout,
            H2Error,
            HandshakeError,
        ] {
            let name = etype.as_str().to_owned();
            let detail =
                problem(&Error::new_up(etype), "acme.example (10.0.0.1:443)").unwrap().detail;
            assert!(!detail.contains(&name), "{detail}");
            assert!(detail.starts_with("acme.example (10.0.0.1:443) "), "{detail}");
        }
        let spoke = "cause: received corrupt message of type InvalidContentType";
        let tls = Error::explain(TLSHandshakeFailure, spoke).into_up();
        let detail = problem(&tls, "acme.example").unwrap().detail;
        assert!(
            detail.contains("does not speak TLS") && !detail.contains("InvalidContentType"),
            "{detail}"
        );
    }

    #[test]
    fn an_error_of_bearerds_own_carries_its_answer() {
        let own = |error: Box<Error>| problem(&error, "").map(|problem| problem.kind);
        let large = crate::proxy::answer_header::too_large();
        assert_eq!(own(large), Some(ErrorKind::UpstreamUnreachable));
        let login = crate::proxy::heal::still_a_login_page();
        assert_eq!(own(login), Some(ErrorKind::LoginPage));
        let expired = crate::proxy::attempt::token_expired();
        assert_eq!(own(expired), Some(ErrorKind::TokenUnavailable));
    }
}
