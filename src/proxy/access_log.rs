//! The access log: one event a request, and one for what never became a request.

use super::context::Context;
use super::outcome::final_answer;
use super::passing;
use super::respond::Problem;
use super::route;
use crate::metrics::labels::RequestOutcome;
use crate::metrics::{Metrics, OTHER};
use crate::readable;
use crate::telemetry::ACCESS;
use http::{HeaderMap, HeaderName};
use percent_encoding::{CONTROLS, percent_encode};
use pingora::Error;
use pingora::proxy::Session;
use std::borrow::Cow;
use std::time::Duration;
use tracing::info;

/// SAP's ids of a request: one goes along a chain of calls, the other names a call in Cloud Foundry.
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlationid");
const VCAP_REQUEST_ID: HeaderName = HeaderName::from_static("x-vcap-request-id");
/// What is longer is no id.
const LONGEST_ID: usize = 64;

/// Tells of a request that has ended.
pub(super) fn request(session: &Session, error: Option<&Error>, context: &Context) {
    let (record, request) = (&context.record, session.req_header());
    let answer = final_answer(session).map(|answer| &answer.headers);
    let id = |name: &HeaderName| {
        answer
            .and_then(|answer| plain_id(answer, name))
            .or_else(|| plain_id(&request.headers, name))
    };
    info!(
        target: ACCESS,
        route = context.route.as_ref().map(|route| route.name.as_str()),
        method = record.method,
        path = &*readable(route::path_of(request.raw_path())),
        status = record.status.map(|status| status.as_u16()),
        outcome = record.outcome.label(),
        attempt = context.heal.attempt(),
        heal = context.heal.reason(),
        duration_ms = milliseconds(record.elapsed()),
        upstream_ms = context.upstream_took.map(milliseconds),
        request_bytes = session.body_bytes_read(),
        response_bytes = passing::body_bytes(session, context),
        correlation_id = id(&CORRELATION_ID),
        vcap_request_id = id(&VCAP_REQUEST_ID),
        trace_id = context.trace.as_ref().map(|trace| trace.id()),
        error = error.map(|error| passing::cause(session, error).as_str()),
        detail = context.detail,
        "Request."
    );
}

/// Tells of what never became a request, and counts it.
pub(super) fn unread(metrics: &Metrics, problem: &Problem) {
    metrics.record_local_answer(problem.kind);
    metrics.record_unrouted(OTHER, Some(problem.status()), RequestOutcome::Local(problem.kind));
    info!(
        target: ACCESS,
        method = OTHER,
        status = problem.status().as_u16(),
        outcome = problem.kind.label(),
        detail = problem.detail,
        "Request that could not be read."
    );
}

/// A path with what could make a line look like another, or a terminal do something, percent-encoded; of a long
/// one the beginning.
pub(super) fn readable(path: &[u8]) -> Cow<'_, str> {
    readable::cut(percent_encode(path, CONTROLS).into())
}

/// An id as ids are; whatever else somebody put there stays out of the log.
fn plain_id<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let id = headers.get(name)?.to_str().ok()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:".contains(&byte);
    (id.len() <= LONGEST_ID && id.bytes().all(is_plain)).then_some(id)
}

/// Milliseconds to the microsecond.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_path_is_logged_without_what_could_deceive_its_reader() {
        let logged = readable("/a%20b/\u{9b}31m\u{85}\u{a0}x=1".as_bytes());
        assert_eq!(logged, "/a%20b/%C2%9B31m%C2%85%C2%A0x=1");
    }

    #[test]
    fn of_a_path_as_long_as_a_header_the_beginning_is_logged() {
        let path = "/%20".repeat(15_000);
        let logged = readable(path.as_bytes());
        assert_eq!(logged, format!("{}... (60000 bytes)", "/%20".repeat(256)));
    }

    #[test]
    fn only_what_looks_like_an_id_is_logged() {
        let logged = |value: &str| {
            let value = HeaderValue::from_str(value).unwrap();
            let headers = HeaderMap::from_iter([(CORRELATION_ID, value)]);
            plain_id(&headers, &CORRELATION_ID).is_some()
        };
        assert!(logged("5f4d7a8e-0b1c-4d2e-9f3a-1b2c3d4e5f60"));
        for other in ["Bearer x", "a.b.c", "{}", "a b", &"x".repeat(LONGEST_ID + 1)] {
            assert!(!logged(other), "{other}");
        }
    }
}
