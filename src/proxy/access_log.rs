//! The access log: one event for each request.

use super::answer_body;
use super::context::Context;
use super::loggable::{CORRELATION_ID, VCAP_REQUEST_ID, id, readable};
use super::record::Record;
use super::route;
use crate::telemetry::ACCESS;
use crate::traffic::{Cause, Note};
use pingora::Error;
use pingora::proxy::Session;
use std::time::Duration;
use tracing::info;

/// Logs a request that has ended.
pub(super) fn log_request(
    session: &Session,
    error: Option<&Error>,
    context: &Context,
    took: Duration,
) {
    let (record, request) = (&context.record, session.req_header());
    let admitted = context.admitted.as_ref();
    info!(
        target: ACCESS,
        caller = record.caller.as_ref().map(|caller| caller.name.as_str()),
        route = record.route.as_ref().map(|route| route.name.as_str()),
        method = record.method,
        path = &*readable(route::path_of(request.raw_path())),
        status = record.status.map(|status| status.as_u16()),
        outcome = record.outcome.label(),
        attempt = context.attempt_number(),
        heal = admitted.and_then(|admitted| admitted.heal.reason()),
        duration_ms = milliseconds(took),
        upstream_ms = admitted.and_then(|admitted| admitted.upstream_took).map(milliseconds),
        request_bytes = session.body_bytes_read(),
        response_bytes = response_bytes(session, context),
        correlation_id = id(session, &CORRELATION_ID),
        vcap_request_id = id(session, &VCAP_REQUEST_ID),
        trace_id = context.trace.as_ref().map(|trace| trace.id()),
        error = error.map(|error| answer_body::error_type(session, error).as_str()),
        detail = context.detail,
        "Request."
    );
}

/// How many bytes of the body the caller got.
pub(super) fn response_bytes(session: &Session, context: &Context) -> u64 {
    let body = context.admitted.as_ref().map(|admitted| &admitted.attempt.answer_body);
    let rewritten = body.and_then(|body| body.rewritten_length(session));
    rewritten.unwrap_or_else(|| session.body_bytes_sent() as u64)
}

/// What the list of failures says of a request that failed.
pub(super) fn note(session: &Session, record: &Record) -> Option<Note> {
    Cause::of(record.status, record.outcome, record.elapsed())?;
    Some(Note {
        path: readable(route::path_of(session.req_header().raw_path())).into_owned(),
        correlation_id: id(session, &CORRELATION_ID).map(str::to_owned),
    })
}

/// A duration in milliseconds, with three decimals.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
