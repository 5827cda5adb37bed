//! The state of one request, from hook to hook.

use super::attempt::Attempt;
use super::attempts::Attempts;
use super::audit_trail::AuditTrail;
use super::batch_check::BatchCheck;
use super::busy_retry::RetryWait;
use super::caller::CallerRequest;
use super::csrf::CsrfSession;
use super::downstream::RequestInFlight;
use super::heal::Heal;
use super::informational::Informational;
use super::record::Record;
use super::request_body::RequestBody;
use super::route_handle::RouteHandle;
use super::upstream::Tried;
use crate::metrics::Metrics;
use crate::redact::Secrets;
use crate::token::store::Usable;
use crate::trace_context::Trace;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A request that is sent within this time has not waited.
const AT_ONCE: Duration = Duration::from_millis(50);

/// The state of one request.
pub struct Context {
    /// Counts the request when dropped.
    pub(super) record: Record,
    /// Counts the request as in flight on its listener.
    pub(super) in_flight: Option<RequestInFlight>,
    /// Counts the request as in flight for its caller.
    pub(super) of_caller: Option<CallerRequest>,
    pub(super) trace: Option<Trace>,
    /// The audit of the request, if it changes something.
    pub(super) audit: Option<AuditTrail>,
    /// What exists once the request is admitted.
    pub(super) admitted: Option<Admitted>,
    /// The detail of a local answer, for the access log.
    pub(super) detail: Option<String>,
}

/// The state of an admitted request.
pub(super) struct Admitted {
    pub(super) route: Arc<RouteHandle>,
    /// The check of a batch, until the request body is prepared. Boxed, since few requests have
    /// one.
    pub(super) batch_check: Option<Box<BatchCheck>>,
    pub(super) request_body: Option<RequestBody>,
    /// The secrets that any attempt added to the request, besides access tokens.
    pub(super) added_secrets: Option<Secrets>,
    /// The informational answers so far.
    pub(super) informational: Informational,
    pub(super) heal: Heal,
    pub(super) retry_wait: RetryWait,
    pub(super) attempts: Attempts,
    pub(super) tried: Tried,
    pub(super) attempt: Attempt,
    /// When the first attempt started.
    pub(super) upstream_since: Option<Instant>,
    /// The time from the first attempt to the answer's header.
    pub(super) upstream_took: Option<Duration>,
}

impl Context {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            record: Record::new(metrics),
            in_flight: None,
            of_caller: None,
            trace: None,
            audit: None,
            admitted: None,
            detail: None,
        }
    }

    /// The state of the admitted request. After `request_filter`, there is one.
    pub(super) fn admitted(&mut self) -> pingora::Result<&mut Admitted> {
        self.admitted.as_mut().ok_or_else(not_admitted)
    }

    /// The number of the current attempt, from 1.
    pub(super) fn attempt_number(&self) -> u32 {
        self.admitted.as_ref().map_or(1, |admitted| admitted.attempts.number())
    }

    /// Releases what other requests wait for, when nothing more is done for this one except sending
    /// its answer and reading the rest of its body.
    pub(super) fn release(&mut self) {
        (self.in_flight, self.of_caller) = (None, None);
        if let Some(admitted) = &mut self.admitted {
            (admitted.attempt.slot, admitted.request_body) = (None, None);
        }
    }
}

impl Admitted {
    pub(super) fn new(
        route: Arc<RouteHandle>,
        batch_check: Option<Box<BatchCheck>>,
        token: Usable,
    ) -> Self {
        Self {
            route,
            batch_check,
            request_body: None,
            added_secrets: None,
            informational: Informational::default(),
            heal: Heal::default(),
            retry_wait: RetryWait::default(),
            attempts: Attempts::default(),
            tried: Tried::default(),
            attempt: Attempt::new(token),
            upstream_since: None,
            upstream_took: None,
        }
    }

    /// Starts another attempt, in place. It keeps the slot, and the token if there is no newer one.
    pub(super) fn start_attempt(
        &mut self,
        session: &Session,
        token: Option<Usable>,
        csrf: Option<Arc<CsrfSession>>,
    ) {
        self.attempt.answer_body.reset(session);
        if let Some(token) = token {
            self.add_secrets(self.route.secrets.clone());
            self.add_secrets(csrf.as_ref().and_then(|csrf| csrf.secrets()));
            self.attempt.token = token;
        }
        self.attempt.csrf = csrf;
    }

    /// The name of the upstream and the addresses that were tried, for messages.
    pub(super) fn upstream_name(&self) -> String {
        self.route.upstream.name_with(&self.tried)
    }

    /// Whether the request had to wait before it was sent. A caller that half-closes its connection
    /// early gets an answer only if its request did not wait.
    pub(super) fn has_waited(&self) -> bool {
        self.upstream_since.is_some_and(|since| since.elapsed() >= AT_ONCE)
    }

    fn add_secrets(&mut self, secrets: Option<Secrets>) {
        self.added_secrets = match (self.added_secrets.take(), secrets) {
            (Some(before), Some(secrets)) => Some(before.union(&secrets)),
            (before, secrets) => before.or(secrets),
        };
    }
}

/// Ends a request for which a hook ran before it was admitted, which pingora never does.
pub(super) fn not_admitted() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "the request was not admitted").into_in()
}
