//! What a pingora error means to the caller. Pure.

use crate::error::ErrorKind;
use pingora::{Error, ErrorSource, ErrorType};

/// The kind of an error that ended a request, or `None` when the caller itself went away and
/// nothing can be answered.
pub(crate) fn kind_of(error: &Error) -> Option<ErrorKind> {
    use ErrorType::*;
    Some(match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, ReadError | WriteError | WriteTimedout | ConnectionClosed) => {
            return None;
        }
        (ErrorSource::Downstream, _) => ErrorKind::BadRequest,
        (_, ConnectTimedout | TLSHandshakeTimedout | ReadTimedout | WriteTimedout) => {
            ErrorKind::UpstreamTimeout
        }
        (_, TLSHandshakeFailure | TLSWantX509Lookup | InvalidCert | HandshakeError) => {
            ErrorKind::UpstreamTls
        }
        (ErrorSource::Upstream, _) => ErrorKind::UpstreamUnreachable,
        (ErrorSource::Internal | ErrorSource::Unset, _) => ErrorKind::Internal,
    })
}

/// What happened and what to do about it, for the caller's eyes.
pub(crate) fn detail(kind: ErrorKind, error: &Error) -> String {
    match kind {
        ErrorKind::UpstreamTls => format!(
            "no trusted TLS connection to the upstream: {}; if its certificate is signed by a private authority, set the upstream's ca_file",
            tls_cause(error)
        ),
        ErrorKind::UpstreamTimeout => format!(
            "the upstream took too long ({}); if it needs more time, raise the upstream's timeouts",
            error.etype().as_str()
        ),
        ErrorKind::UpstreamUnreachable => format!(
            "the upstream did not answer ({}); check the upstream's url and the network",
            error.etype().as_str()
        ),
        ErrorKind::BadRequest => "the request is malformed; see RFC 9112".to_owned(),
        _ => "please report this, with the log line of this request".to_owned(),
    }
}

/// What the TLS library said: pingora quotes it at the end of its own sentence.
fn tls_cause(error: &Error) -> &str {
    let context = error.context.as_ref().map_or("", |context| context.as_str());
    context.rsplit("cause: ").next().unwrap_or(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_kind_that_tells_whose_fault_it_is() {
        let up = |etype| kind_of(&Error::new_up(etype));
        assert_eq!(up(ErrorType::ConnectRefused), Some(ErrorKind::UpstreamUnreachable));
        assert_eq!(up(ErrorType::ConnectionClosed), Some(ErrorKind::UpstreamUnreachable));
        assert_eq!(up(ErrorType::InvalidHTTPHeader), Some(ErrorKind::UpstreamUnreachable));
        assert_eq!(up(ErrorType::ReadTimedout), Some(ErrorKind::UpstreamTimeout));
        assert_eq!(up(ErrorType::ConnectTimedout), Some(ErrorKind::UpstreamTimeout));
        assert_eq!(up(ErrorType::TLSHandshakeFailure), Some(ErrorKind::UpstreamTls));
        let down = |etype| kind_of(&Error::new_down(etype));
        assert_eq!(down(ErrorType::ConnectionClosed), None);
        assert_eq!(down(ErrorType::InvalidHTTPHeader), Some(ErrorKind::BadRequest));
        let inside = Error::new_in(ErrorType::InternalError);
        assert_eq!(kind_of(&inside), Some(ErrorKind::Internal));
    }
}
