//! Which requests are admitted: those with sound framing, a route, an allowed method, and a token.

use super::batch_check::BatchCheck;
use super::context::{Admitted, Context};
use super::credentials::Who;
use super::downstream::Downstream;
use super::guard;
use super::peer::Peer;
use super::problem::Problem;
use super::request_body::{BatchWrites, RequestBody};
use super::route::TargetError;
use super::table::Table;
use super::{replay, request_framing};
use crate::drain::Drain;
use crate::error::ErrorKind;
use crate::token::ClientHandle;
use crate::token::store::Usable;
use arc_swap::ArcSwap;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::proxy::Session;

/// Finds the route and the token of a request.
///
/// # Errors
/// The answer to a request that is not admitted.
pub(super) async fn admit(
    table: &ArcSwap<Table>,
    drain: &Drain,
    session: &Session,
    context: &mut Context,
) -> Result<(), Problem> {
    let request = session.req_header();
    request_framing::check(session).map_err(|why| Problem::new(ErrorKind::BadRequest, why))?;
    let in_flight = context.in_flight.as_ref().ok_or_else(|| {
        let detail = "the request came in on no listener; please report this";
        Problem::new(ErrorKind::Internal, detail)
    })?;
    let (route, batch_check, caller) = {
        let table = table.load();
        if in_flight.requests() > table.limit {
            let detail = "too many concurrent requests on this listener (`limits.requests`); try again later";
            return Err(Problem::overloaded(detail));
        }
        guard::check_size(request)?;
        if !request.raw_path().starts_with(b"/") {
            // Before the host is judged: a tool that takes this for a proxy sends another one.
            let why = TargetError::NotOriginForm;
            return Err(Problem::new(ErrorKind::BadRequest, why.to_string()));
        }
        let who = table.guard.check(&request.headers, peer(session))?;
        let caller = table.caller(who).cloned();
        if let Some(caller) = &caller {
            context.record.span.called_by(&caller.name);
            context.record.caller = Some(caller.clone());
        }
        let id = who.and_then(Who::id);
        let route = table.find(in_flight.listener(), id, request.raw_path())?;
        let batch_check = BatchCheck::of(request, &table, in_flight.listener(), id, &route);
        (route, batch_check, caller)
    };
    context.record.route = Some(route.clone());
    context.record.span.routed(&route.config.path);
    route.check_method(&request.method, &request.headers, request.raw_path())?;
    let batch_check = batch_check?;
    if let Some(caller) = caller {
        context.of_caller = Some(caller.admit()?);
    }
    let token = current_token(drain, &route.client).await?;
    let token = if replay::outgrows_buffer(request) {
        Box::pin(long_lived(&route.client, token)).await
    } else {
        token
    };
    context.admitted = Some(Admitted::new(route, batch_check, token));
    Ok(())
}

/// Returns the current token. If there is none, waits for one, for the OAuth client's `wait`.
async fn current_token(drain: &Drain, client: &ClientHandle) -> Result<Usable, Problem> {
    match client.store.usable() {
        Some(usable) => Ok(usable),
        // Boxed, since nearly every request finds one.
        None => Box::pin(next_token(drain, client)).await,
    }
}

async fn next_token(drain: &Drain, client: &ClientHandle) -> Result<Usable, Problem> {
    let waited = tokio::select! {
        waited = client.store.wait(client.wait) => waited,
        () = drain.deadline() => {
            let detail = "the sidecar is shutting down, and no token arrived in time; try again";
            return Err(Problem::new(ErrorKind::Draining, detail));
        }
    };
    client.metrics.record_wait(waited.is_ok());
    waited.map_err(|unavailable| Problem {
        retry_after: Some(unavailable.retry_after),
        ..Problem::new(unavailable.kind, no_token(unavailable.kind, &client.name))
    })
}

/// Returns a token that will last, for a body that cannot be sent twice. If none arrives in time,
/// returns this one.
async fn long_lived(client: &ClientHandle, token: Usable) -> Usable {
    if !client.store.is_short_lived() {
        return token;
    }
    client.store.try_request_newer(token.generation);
    client.store.wait_newer(token.generation, client.wait).await.unwrap_or(token)
}

fn no_token(kind: ErrorKind, client: &str) -> String {
    match kind {
        ErrorKind::CredentialRejected => format!(
            "the issuer refuses client {client}; see bearerd's log for its reason, and check client_id, secret and the client's expiry"
        ),
        _ => format!(
            "client {client} has no valid token now; see bearerd's log and /readyz for the reason"
        ),
    }
}

/// The other end of a request's connection. An unknown one counts as TCP, for which more is
/// checked.
fn peer(session: &Session) -> &Peer {
    Downstream::of(session).map_or(&Peer::Tcp, Downstream::peer)
}

/// Whether a request came in on an address that only this machine reaches.
pub(super) fn is_local(session: &Session) -> bool {
    match session.server_addr() {
        Some(SocketAddr::Inet(address)) => address.ip().is_loopback(),
        Some(SocketAddr::Unix(_)) => true,
        None => false,
    }
}

/// Prepares the body of an admitted request. Returns what it changes, if it is a batch, or the
/// answer to a request that must not be sent.
///
/// # Errors
/// The caller did not send the body that it announced.
pub(super) async fn prepare_body(
    session: &mut Session,
    admitted: &mut Admitted,
) -> pingora::Result<Result<BatchWrites, Problem>> {
    let plan = admitted.route.links.as_deref();
    let check = admitted.batch_check.take();
    if plan.is_none() && check.is_none() || session.is_body_empty() {
        return Ok(Ok(BatchWrites::default()));
    }
    let mut writes = BatchWrites::default();
    match Box::pin(RequestBody::prepare(plan, check, session, &mut writes)).await? {
        Ok(body) => admitted.request_body = body,
        Err(problem) => return Ok(Err(problem)),
    }
    if session.as_downstream_mut().is_body_done() {
        Downstream::with(session, Downstream::body_received);
    }
    Ok(Ok(writes))
}
