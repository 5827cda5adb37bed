//! What a pingora error means to the caller. Pure.

use super::respond::Problem;
use super::upstream::{Full, PROXY_FAILED, TLS_TOO_OLD, is_silence};
use super::{admission, headers};
use crate::error::ErrorKind;
use crate::trust;
use pingora::{Error, ErrorSource, ErrorType};
use std::io;
use std::time::Duration;

/// The token ended between the request's admission and its sending.
const EXPIRED: ErrorType = ErrorType::new("TokenExpired");
/// When it may be worth to ask again after that.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The upstream gets no more at once.
const FULL: ErrorType = ErrorType::new("UpstreamFull");

/// The process ends before it was the request's turn.
const ENDED: ErrorType = ErrorType::new("Draining");

/// The upstream answers with a login page, and a newer token does not help.
pub(super) const LOGIN_PAGE: ErrorType = ErrorType::new("LoginPage");

/// The upstream's compressed answer can't be read.
pub(super) const BAD_COMPRESSION: ErrorType = ErrorType::new("BadCompression");

/// The header of the upstream's answer is larger than any that is passed on.
const LARGE_HEADER: ErrorType = ErrorType::new("LargeHeader");

/// In a body that was announced with its length there is a URL that would change it.
const LATE_LINK: ErrorType = ErrorType::new("LateLink");
/// A batch is refused while it streams. The cause is the answer.
const REFUSED: ErrorType = ErrorType::new("Refused");

/// The kind of an error that ended a request, or `None` when the caller itself went away and
/// nothing can be answered.
pub(crate) fn kind_of(error: &Error) -> Option<ErrorKind> {
    use ErrorType::*;
    match error.etype() {
        etype if *etype == LOGIN_PAGE => return Some(ErrorKind::LoginPage),
        etype if *etype == PROXY_FAILED => return Some(ErrorKind::UpstreamProxy),
        etype if *etype == TLS_TOO_OLD => return Some(ErrorKind::UpstreamTls),
        etype if *etype == FULL => return Some(ErrorKind::Overloaded),
        etype if *etype == ENDED => return Some(ErrorKind::Draining),
        etype if *etype == REFUSED => return answer_in(error).map(|answer| answer.kind),
        etype if *etype == EXPIRED => return Some(ErrorKind::TokenUnavailable),
        _ => {}
    }
    Some(match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, ReadError) if is_late(error) => ErrorKind::BadRequest,
        (ErrorSource::Downstream, ReadError | WriteError | WriteTimedout | ConnectionClosed) => {
            return None;
        }
        (ErrorSource::Downstream, _) => ErrorKind::BadRequest,
        (_, ConnectTimedout | TLSHandshakeTimedout | ReadTimedout | WriteTimedout) => {
            ErrorKind::UpstreamTimeout
        }
        (ErrorSource::Upstream, _) if is_silence(error) => ErrorKind::UpstreamTimeout,
        (_, TLSHandshakeFailure | TLSWantX509Lookup | InvalidCert) => ErrorKind::UpstreamTls,
        // That of HTTP/2: TLS stands.
        (_, HandshakeError) => ErrorKind::UpstreamUnreachable,
        (ErrorSource::Upstream, _) => ErrorKind::UpstreamUnreachable,
        (ErrorSource::Internal | ErrorSource::Unset, _) => ErrorKind::Internal,
    })
}

/// Whether the caller let us wait too long for its body; see [`super::downstream`].
fn is_late(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    *error.etype() == ErrorType::ReadTimedout
        || cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

/// Ends a request whose body may not be sent on.
pub(super) fn refused(answer: Problem) -> Box<Error> {
    Error::because(REFUSED, answer.detail.clone(), answer).into_down()
}

/// Whether a request was ended so.
pub(super) fn is_refusal(error: &Error) -> bool {
    *error.etype() == REFUSED
}

fn answer_in(error: &Error) -> Option<&Problem> {
    error.root_cause().downcast_ref()
}

/// Ends a request whose token ended before it was sent.
pub(super) fn expired_meanwhile() -> Box<Error> {
    Error::new_in(EXPIRED)
}

/// Ends a request whose body would get another length than was announced to the upstream.
pub(super) fn late_link() -> Box<Error> {
    Error::new_down(LATE_LINK)
}

/// Ends a request whose answer has too large a header.
pub(super) fn large_header() -> Box<Error> {
    Error::new_up(LARGE_HEADER)
}

/// Ends a request that finds no slot.
pub(super) fn full(full: Full) -> Box<Error> {
    Error::because(FULL, full.to_string(), full)
}

/// Ends a request whose turn did not come before the end of the process.
pub(super) fn ended_meanwhile() -> Box<Error> {
    Error::new_in(ENDED)
}

/// The local answer to an error.
pub(super) fn problem(kind: ErrorKind, error: &Error) -> Problem {
    if let Some(answer) = answer_in(error) {
        return answer.clone();
    }
    let retry_after = match kind {
        ErrorKind::TokenUnavailable => Some(RETRY_AFTER),
        ErrorKind::Overloaded => Some(admission::RETRY_AFTER),
        _ => None,
    };
    Problem { retry_after, ..Problem::new(kind, detail(kind, error)) }
}

/// What happened and what to do about it, for the caller's eyes.
fn detail(kind: ErrorKind, error: &Error) -> String {
    match kind {
        ErrorKind::Overloaded => told(error).to_owned(),
        ErrorKind::Draining => "the sidecar ends before it was this request's turn".to_owned(),
        ErrorKind::UpstreamProxy => {
            format!("no way to the upstream through the forward proxy: {}", told(error))
        }
        ErrorKind::UpstreamTls if *error.etype() == TLS_TOO_OLD => {
            "the upstream speaks an older version of TLS than its min_tls asks for; nothing was sent".to_owned()
        }
        ErrorKind::UpstreamTls => {
            let cause = tls_cause(error);
            let advice = trust::advice(cause).unwrap_or("`bearerd doctor` tells more");
            format!("no trusted TLS connection to the upstream: {cause}; {advice}")
        }
        ErrorKind::UpstreamTimeout if is_silence(error) => {
            "the connection to the upstream is dead: nothing came back, not even from its network; check the network, VPN or NAT between, and whether the upstream stands still".to_owned()
        }
        ErrorKind::UpstreamTimeout => format!(
            "the upstream took too long ({}); if it needs more time, raise the upstream's timeouts",
            error.etype().as_str()
        ),
        ErrorKind::UpstreamUnreachable if *error.etype() == BAD_COMPRESSION => {
            "the upstream's compressed answer is broken; `links: off` on the route passes it as it is".to_owned()
        }
        ErrorKind::UpstreamUnreachable if *error.etype() == LARGE_HEADER => format!(
            "the header of the upstream's answer has more than {} KiB; nothing of it was passed on, though the upstream may have done what was asked for; look at its answer with `curl` and the token of `bearerd token`, and see which header it is",
            headers::LARGEST_ANSWER_HEADER / 1024
        ),
        ErrorKind::UpstreamUnreachable => format!(
            "the upstream did not answer ({}); check the upstream's url and the network",
            error.etype().as_str()
        ),
        ErrorKind::TokenUnavailable => {
            "the token expired while the upstream was being connected to; see /readyz for why there is no newer one".to_owned()
        }
        ErrorKind::LoginPage => "the upstream answers with its login page although the token is fresh; check that the route's profile fits its path and that the OAuth client may use this API".to_owned(),
        ErrorKind::BadRequest if is_late(error) => {
            "the request's body did not come in time".to_owned()
        }
        ErrorKind::BadRequest if *error.etype() == LATE_LINK => {
            "the body holds a URL of the sidecar behind its first 64 KiB, which the upstream's would be in place of, with another length; send the body in chunks, or with the upstream's URLs; the upstream got no end of it".to_owned()
        }
        ErrorKind::BadRequest => "the request is malformed; see RFC 9112".to_owned(),
        _ => "please report this, with the log line of this request".to_owned(),
    }
}

fn told(error: &Error) -> &str {
    error.context.as_ref().map_or("", |context| context.as_str())
}

/// What the TLS library said: pingora quotes it at the end of its own sentence.
fn tls_cause(error: &Error) -> &str {
    let context = told(error);
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
        assert_eq!(kind_of(&large_header()), Some(ErrorKind::UpstreamUnreachable));
        let login = Error::new_up(LOGIN_PAGE);
        assert_eq!(kind_of(&login), Some(ErrorKind::LoginPage));
        assert_eq!(kind_of(&expired_meanwhile()), Some(ErrorKind::TokenUnavailable));
        let inside = Error::new_in(ErrorType::InternalError);
        assert_eq!(kind_of(&inside), Some(ErrorKind::Internal));
    }
}
