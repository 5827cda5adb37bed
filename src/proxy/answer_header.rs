//! The header of an answer: which headers are stripped, what is adapted and redacted, and how large
//! it may be.

use super::context::Admitted;
use super::downstream::Downstream;
use super::problem::Problem;
use super::{cookies, csrf, header_redaction};
use crate::error::ErrorKind;
use crate::profile::Csrf;
use crate::redact::Secrets;
use http::HeaderName;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};

/// The largest header of an upstream's answer that is passed on; the limit of a caller's header is
/// the same. Servers seldom send a tenth of it, and it is held twice: as read and as written.
const LARGEST: usize = 64 * 1024;

/// The header of an answer is larger than [`LARGEST`].
const TOO_LARGE: ErrorType = ErrorType::new("LargeHeader");

/// Whether the header of an answer is too large to be passed on.
pub(super) fn is_too_large(response: &ResponseHeader) -> bool {
    // Each line has a colon and a space between name and value, and two bytes at its end.
    let lines = response.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    lines.sum::<usize>() > LARGEST
}

/// Ends a request whose answer has too large a header.
pub(super) fn too_large() -> Box<Error> {
    let detail = format!(
        "the header of the upstream's answer has more than {} KiB; none of it was passed on, but the upstream may have processed the request; to see which header it is, send the request with `curl` and the token that `bearerd token --raw` prints",
        LARGEST / 1024
    );
    Problem::new(ErrorKind::UpstreamUnreachable, detail).into_error(TOO_LARGE).into_up()
}

/// Removes what concerns the connection to the upstream or the upstream's name (`Keep-Alive`,
/// `Alt-Svc`, `Strict-Transport-Security`), and all headers that would let web pages of other sites
/// read answers.
fn strip(response: &mut ResponseHeader) {
    for name in ["keep-alive", "alt-svc", "strict-transport-security"] {
        response.remove_header(name);
    }
    let stripped: Vec<HeaderName> = response
        .headers
        .keys()
        .filter(|name| name.as_str().starts_with("access-control-"))
        .cloned()
        .collect();
    for name in stripped {
        response.remove_header(&name);
    }
}

/// Strips headers that are not for the caller, among them bearerd's own CSRF session, and adapts
/// cookies so that the caller returns them.
pub(super) fn adapt(session: &Session, response: &mut ResponseHeader, admitted: &Admitted) {
    strip(response);
    let route = &admitted.route;
    let is_managed = admitted.attempt.csrf.is_some()
        || route.csrf.is_some() && route.config.profile.csrf == Csrf::Managed;
    csrf::strip(session.req_header(), response, is_managed);
    let config = &route.config;
    let side = cookies::CallerSide {
        is_tls: Downstream::is_over_tls(session),
        upstream: &route.cookie_domain,
        prefix: config.strip_path.then_some(&config.path),
    };
    cookies::adapt(response, side);
}

/// Removes secrets from an answer's header. Returns the secrets.
pub(super) fn redact(response: &mut ResponseHeader, admitted: &Admitted) -> Option<Secrets> {
    let Admitted { route, added_secrets, .. } = admitted;
    let secrets = header_redaction::secrets_to_redact(&route.tokens, added_secrets.as_ref())?;
    route.metrics.add_redacted_tokens(header_redaction::redact_header(&secrets, response));
    Some(secrets)
}
