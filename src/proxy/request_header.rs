//! The header of a request as it is sent upstream.

use super::context::Admitted;
use super::downstream::Downstream;
use super::injected_headers::{self, Injection};
use super::stripped_headers::{self, StripAlso};
use super::{cookies, csrf, route};
use crate::trace_context::{TRACEPARENT, Trace};
use http::header::ACCEPT_ENCODING;
use pingora::http::RequestHeader;
use pingora::proxy::Session;

/// Strips and injects headers, and replaces the sidecar's URLs and path.
///
/// # Errors
/// The token has expired, or a value is not allowed in a header.
pub(super) fn rewrite(
    session: &Session,
    request: &mut RequestHeader,
    trace: Option<&Trace>,
    admitted: &mut Admitted,
) -> pingora::Result<()> {
    let Admitted { route, attempt, request_body, heal, .. } = admitted;
    // Connecting may have taken a while. Fails closed: without a valid token, nothing is sent.
    let token = attempt.valid_token()?;
    let strip_also = StripAlso {
        api_key: route.guard.takes_api_key(),
        trace_state: trace.is_some_and(Trace::is_local),
    };
    if stripped_headers::strip(request, strip_also) {
        route.metrics.record_stripped_authorization();
    }
    injected_headers::inject(
        request,
        &Injection {
            authorization: &token.authorization,
            host: &route.upstream.host_header,
            custom_auth: route.config.profile.custom_auth,
            extra: &route.config.headers,
        },
    )?;
    if let Some(header) = trace.and_then(Trace::new_header) {
        request.insert_header(TRACEPARENT, header)?;
    }
    cookies::restore(request, Downstream::is_over_tls(session))?;
    if let Some(csrf) = &attempt.csrf {
        csrf::inject(request, csrf)?;
    }
    if let Some(plan) = &route.links {
        plan.rewrite_request_header(session.req_header(), request)?;
    }
    if let Some(body) = request_body {
        body.start_attempt(route.links.as_deref(), session.req_header(), request)?;
    }
    if heal.wants_uncompressed() {
        request.remove_header(&ACCEPT_ENCODING);
    }
    if route.cut > 0 {
        let target = route::without_prefix(request.raw_path(), route.cut).into_owned();
        request.set_raw_path(&target)?;
    }
    Ok(())
}
