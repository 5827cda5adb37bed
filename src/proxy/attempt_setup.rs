//! What an attempt needs besides a connection: a slot of its upstream, the current token, and a
//! CSRF token.

use super::attempts::Cause;
use super::context::Admitted;
use super::csrf::{self, CsrfTokens, Need};
use super::downstream::unless_disconnected;
use super::problem::Problem;
use super::replay;
use super::upstream::{Slot, UpstreamHandle};
use crate::drain::Drain;
use crate::error::ErrorKind;
use crate::profile::Csrf;
use crate::token::store::Usable;
use http::Method;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The error if the process ends before the request got a slot.
const DRAINING: ErrorType = ErrorType::new("Draining");

/// Starts another attempt, once it has all that it needs.
pub(super) async fn prepare_attempt(
    drain: &Drain,
    session: &Session,
    admitted: &mut Admitted,
) -> pingora::Result<()> {
    let Some((tokens, need)) = csrf_need(session.req_header(), admitted) else {
        wait_for_slot(drain, session, admitted).await?;
        let token = admitted.route.client.store.usable();
        admitted.start_attempt(session, token, None);
        return Ok(());
    };
    // Boxed, since few requests need a CSRF token.
    let tokens = tokens.clone();
    Box::pin(prepare_attempt_with_csrf(drain, session, admitted, &tokens, need)).await
}

async fn prepare_attempt_with_csrf(
    drain: &Drain,
    session: &Session,
    admitted: &mut Admitted,
    tokens: &Arc<CsrfTokens>,
    need: Need,
) -> pingora::Result<()> {
    loop {
        // While it waits for the CSRF token, the request takes no slot of the upstream.
        let token = admitted.route.client.store.usable();
        let csrf = match &token {
            Some(token) => unless_disconnected(session, tokens.get_or_fetch(token, need)).await?,
            None => None,
        };
        wait_for_slot(drain, session, admitted).await?;
        let generation = |token: &Usable| token.generation;
        let latest = admitted.route.client.store.usable().as_ref().map(generation);
        if admitted.attempt.slot.is_none() || latest == token.as_ref().map(generation) {
            admitted.start_attempt(session, token, csrf);
            return Ok(());
        }
        // The access token changed during the wait for the slot. The CSRF token is valid only with
        // the old one.
        admitted.attempt.slot = None;
    }
}

/// The CSRF tokens of a request, and how good one must be, if bearerd manages CSRF for it.
fn csrf_need<'a>(
    request: &RequestHeader,
    admitted: &'a Admitted,
) -> Option<(&'a Arc<CsrfTokens>, Need)> {
    let route = &admitted.route;
    let tokens = route.csrf.as_ref()?;
    let is_managed = route.config.profile.csrf == Csrf::Managed;
    let was_asked_for =
        || request.method == Method::POST && route.wants_csrf.load(Ordering::Relaxed);
    let needs_token = admitted.attempts.count_of(Cause::RefusedCsrfToken) > 0
        || is_managed && !route.only_reads(request)
        || was_asked_for();
    if !needs_token || csrf::is_managed_by_caller(request) {
        return None;
    }
    let need = match admitted.upstream_since {
        Some(since) if replay::outgrows_buffer(request) => Need::Sure(since),
        _ => Need::Usual,
    };
    Some((tokens, need))
}

/// Waits for a slot, unless the attempt has one. A request that is healed, or that waits for a CSRF
/// token, has none.
async fn wait_for_slot(
    drain: &Drain,
    session: &Session,
    admitted: &mut Admitted,
) -> pingora::Result<()> {
    if admitted.attempt.slot.is_none() {
        let slot = slot(drain, &admitted.route.upstream);
        admitted.attempt.slot = unless_disconnected(session, slot).await??;
    }
    Ok(())
}

async fn slot(drain: &Drain, upstream: &UpstreamHandle) -> pingora::Result<Option<Slot>> {
    tokio::select! {
        slot = upstream.acquire_slot() => slot,
        () = drain.deadline() => Err(draining()),
    }
}

/// Ends a request that got no slot before the end of the process.
fn draining() -> Box<Error> {
    let detail = "the sidecar is shutting down, and the request was not sent; try again";
    Problem::new(ErrorKind::Draining, detail).into_error(DRAINING).into_in()
}
