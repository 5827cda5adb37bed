//! A refused token is healed once a request: rejected, waited for, and the request sent again.
//!
//! pingora asks us for every answer's header before it passes anything on. An error of ours there
//! makes it drop that answer and begin a new attempt, with the request's body out of its buffer.

use super::context::Context;
use super::csrf::Need;
use super::downstream::unless_disconnected;
use super::outcome::final_answer;
use super::refusal::{self, PEEK, RequestKind, Verdict};
use super::{RouteHandle, csrf, failure};
use crate::metrics::ClientMetrics;
use crate::metrics::labels::{HealOutcome, Label, TokenRefusal};
use crate::token::store::{Rejection, Usable};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// How long a suspect page may take for its first bytes, if it sends any.
const PEEK_TIME: Duration = Duration::from_secs(3);
/// Begins a new attempt.
const REPLAY: ErrorType = ErrorType::new("Replay");

/// What one request has gone through.
#[derive(Debug, Default)]
pub(crate) struct Heal {
    /// New attempts that we began.
    replays: u32,
    /// The refusal that was dealt with; there is at most one.
    record: Option<Record>,
    /// Whether the request is sent again with another CSRF token; at most once.
    is_for_csrf: bool,
    /// A login page was found in a body; it is dealt with at the beginning of the next attempt.
    due: bool,
    peek: Peek,
}

/// Counts a heal when its request is over, by what was last known of it.
#[derive(Debug)]
struct Record {
    metrics: ClientMetrics,
    refusal: TokenRefusal,
    outcome: HealOutcome,
}

impl Drop for Record {
    fn drop(&mut self) {
        self.metrics.record_heal(self.refusal, self.outcome);
    }
}

/// Looking into a suspect body.
#[derive(Debug, Default)]
enum Peek {
    #[default]
    No,
    /// It was compressed; the next attempt asks for a plain one.
    AsksForPlain,
    /// Nothing is passed on; these are its first bytes.
    Holding {
        /// What has come so far.
        start: Vec<u8>,
        /// When it has to be enough.
        until: Instant,
    },
    /// It is HTML and no login page; the next attempt passes it on.
    Harmless,
    /// It is passed on; these are its first bytes.
    Passing(Vec<u8>),
}

impl Heal {
    /// Whether a login page waits to be dealt with.
    pub(super) const fn is_due(&self) -> bool {
        self.due
    }

    /// Whether the next attempt shall not ask for a compressed body.
    pub(super) const fn wants_plain_body(&self) -> bool {
        matches!(self.peek, Peek::AsksForPlain)
    }

    /// Whether the upstream has refused the request for want of a CSRF token, and another is there.
    pub(super) const fn is_for_csrf(&self) -> bool {
        self.is_for_csrf
    }

    /// 1 for a request that was sent once.
    pub(super) const fn attempt(&self) -> u32 {
        self.replays + 1
    }

    /// Why the request was sent again with another token.
    pub(super) fn reason(&self) -> Option<&'static str> {
        self.record.as_ref().map(|record| record.refusal.label())
    }

    /// The upstream has answered the request, in whatever way.
    fn answered(&mut self) {
        if let Some(record) = &mut self.record
            && record.outcome == HealOutcome::Unanswered
        {
            record.outcome = HealOutcome::Healed;
        }
    }

    pub(super) fn replay(&mut self) -> Box<Error> {
        self.replays += 1;
        Error::new_up(REPLAY)
    }
}

/// Whether an error is one of ours that begins a new attempt.
pub(super) fn is_replay(error: &Error) -> bool {
    *error.etype() == REPLAY
}

/// Ends a request that got a login page and cannot be healed (again).
pub(super) fn still_a_login_page() -> Box<Error> {
    Error::new_up(failure::LOGIN_PAGE)
}

/// Judges the header of an answer. An error begins a new attempt, or ends in a local answer. What few requests
/// need is boxed: every request would carry its state.
pub(super) async fn judge(
    route: &RouteHandle,
    session: &mut Session,
    response: &ResponseHeader,
    context: &mut Context,
) -> pingora::Result<()> {
    let (status, headers) = (response.status, &response.headers);
    let asked = || asked_by(route, session.req_header());
    match refusal::classify(asked, route.config.html, status, headers) {
        Verdict::Answer => answered(route, context, status),
        Verdict::Unsure => {
            context.heal.peek = Peek::Passing(Vec::new());
            context.heal.answered();
        }
        Verdict::Refused(refusal) => {
            let is_login = matches!(refusal, TokenRefusal::LoginPage | TokenRefusal::LoginRedirect);
            if Box::pin(renew(route, session, context, refusal)).await {
                return Err(context.heal.replay());
            } else if is_login {
                return Err(still_a_login_page());
            }
        }
        Verdict::WantsCsrf => {
            context.heal.answered();
            if Box::pin(renew_csrf(route, session, context)).await {
                context.heal.is_for_csrf = true;
                return Err(context.heal.replay());
            }
        }
        Verdict::Suspect => {
            let is_encoded = refusal::is_encoded(headers);
            let asked_for_plain = matches!(context.heal.peek, Peek::AsksForPlain);
            let is_harmless = matches!(context.heal.peek, Peek::Harmless);
            // Compressed although nobody said that it may be: it cannot be judged.
            if is_harmless || asked_for_plain && is_encoded || !can_be_held_back(session) {
                context.heal.peek = Peek::Passing(Vec::new());
                context.heal.answered();
            } else if is_encoded && matches!(context.heal.peek, Peek::No) {
                context.heal.peek = Peek::AsksForPlain;
                return Err(context.heal.replay());
            } else {
                let until = Instant::now() + PEEK_TIME;
                context.heal.peek = Peek::Holding { start: Vec::new(), until };
            }
        }
    }
    Ok(())
}

/// What a request asks for.
fn asked_by(route: &RouteHandle, request: &RequestHeader) -> RequestKind {
    match request.method {
        Method::HEAD => RequestKind::Head,
        _ if route.only_reads(request) => RequestKind::Read,
        _ => RequestKind::Write,
    }
}

/// The upstream has let the token in, whatever it says.
fn answered(route: &RouteHandle, context: &mut Context, status: StatusCode) {
    context.heal.answered();
    // Who says that something is wrong need not have looked at the token.
    if let Some(token) = context.token.as_ref().filter(|_| status < StatusCode::BAD_REQUEST) {
        route.rejections.worked(token.generation);
    }
}

/// Whether an answer can be looked into before it is passed on. A body may outgrow its buffer in that time; then
/// its request could not be sent again.
fn can_be_held_back(session: &mut Session) -> bool {
    session.is_body_empty()
        || session.as_downstream_mut().is_body_done() && !session.as_ref().retry_buffer_truncated()
}

/// Gets another session for a request that lacked a good CSRF token, if it may be sent again with it. It was
/// not executed, so that this is safe whatever its method; its body must still be held.
async fn renew_csrf(route: &RouteHandle, session: &Session, context: &mut Context) -> bool {
    let (Some(tokens), Some(token)) = (&route.csrf, &context.token) else {
        return false;
    };
    if csrf::does_itself(session.req_header()) {
        return false;
    }
    match &context.csrf {
        Some(refused) => tokens.forget(refused),
        // Others of its kind will need one, too.
        None => route.wants_csrf.store(true, Ordering::Relaxed),
    }
    if context.heal.is_for_csrf || session.as_ref().retry_buffer_truncated() {
        return false;
    }
    // While it waits, it is not under way.
    context.slot = None;
    let newer = tokens.session(token, Need::Required(Instant::now()));
    matches!(unless_disconnected(session, newer).await, Ok(Some(_)))
}

/// Deals with a login page that was found in a body. `false`: there is nothing more to try.
pub(super) async fn from_login_page(
    route: &RouteHandle,
    session: &Session,
    context: &mut Context,
) -> bool {
    context.heal.due = false;
    Box::pin(renew(route, session, context, TokenRefusal::LoginPage)).await
}

/// Rejects the token that was refused and gets a newer one, if the request may be sent again.
async fn renew(
    route: &RouteHandle,
    session: &Session,
    context: &mut Context,
    refusal: TokenRefusal,
) -> bool {
    let (client, heal) = (&route.client, &mut context.heal);
    let Some(token) = &context.token else {
        return false;
    };
    let newer = reject(route, token, refusal, heal.record.is_some());
    if let Some(record) = &mut heal.record {
        record.outcome = HealOutcome::RefusedAgain;
        return false;
    }
    let request = session.req_header();
    let replayable = !session.as_ref().retry_buffer_truncated()
        && (route.only_reads(request)
            || refusal::may_replay(route.config.profile.replay, &request.method, &request.headers));
    // Until told otherwise: also if the caller leaves while it waits for the token.
    let outcome = if replayable { HealOutcome::NoToken } else { HealOutcome::NotReplayable };
    let record = heal.record.insert(Record { metrics: client.metrics.clone(), refusal, outcome });
    if !replayable || !newer {
        return false;
    }
    // Meanwhile it is not under way.
    context.slot = None;
    let newer = client.store.wait_newer(token.generation, client.wait);
    let Ok(Ok(newer)) = unless_disconnected(session, newer).await else {
        return false;
    };
    record.outcome = HealOutcome::Unanswered;
    context.token = Some(newer);
    true
}

/// Rejects the token that was refused, if that is worth while. Returns whether a newer one is there or will be.
fn reject(route: &RouteHandle, token: &Usable, refusal: TokenRefusal, is_again: bool) -> bool {
    let (store, now) = (&route.client.store, Instant::now());
    let rejection = match refusal {
        TokenRefusal::Forbidden => Some(Rejection::Permission),
        _ if is_again => route.rejections.refused_again(token.generation, now),
        // Nobody has to be asked.
        _ if store.has_newer(token.generation) => return true,
        _ => route.rejections.refused(token.generation, now),
    };
    rejection.is_some_and(|rejection| store.reject(token.generation, rejection))
}

/// Keeps the header of a suspect answer from the caller: as an informational one it is not sent,
/// and the answer has not begun. Tells whether it does.
pub(super) fn hold_back(
    session: &mut Session,
    response: &mut ResponseHeader,
    context: &Context,
) -> bool {
    let holding = matches!(context.heal.peek, Peek::Holding { .. });
    if holding {
        response.remove_header(&CONTENT_LENGTH);
        response.remove_header(&TRANSFER_ENCODING);
        // A status from the table is always accepted.
        let _ = response.set_status(StatusCode::EARLY_HINTS);
    }
    if context.heal.replays > 0 || holding {
        let is_old = session.req_header().version == Version::HTTP_10;
        session.as_downstream_mut().set_ignore_info_resp(holding || is_old);
    }
    holding
}

/// Looks into a held body until it is known what it is; then begins a new attempt.
pub(super) fn look_into(
    body: &mut Option<Bytes>,
    is_end: bool,
    context: &mut Context,
) -> pingora::Result<()> {
    let heal = &mut context.heal;
    let Peek::Holding { start, until } = &mut heal.peek else {
        return Ok(());
    };
    let chunk = body.take().unwrap_or_default();
    let room = PEEK.saturating_sub(start.len()).min(chunk.len());
    start.extend_from_slice(chunk.get(..room).unwrap_or_default());
    if refusal::is_login_page(start) {
        heal.peek = Peek::No;
        heal.due = true;
    } else if is_end || start.len() >= PEEK || Instant::now() >= *until {
        heal.peek = Peek::Harmless;
    } else {
        return Ok(());
    }
    Err(heal.replay())
}

/// Looks at the first bytes of an answer that could not be held back. A login page is dealt with as ever if
/// nothing of it has gone out yet. If its header has, it ends here, and with it the caller's connection: half
/// a page is no data.
pub(super) fn watch(
    session: &Session,
    body: &Option<Bytes>,
    context: &mut Context,
) -> pingora::Result<()> {
    let (Peek::Passing(start), Some(chunk)) = (&mut context.heal.peek, body) else {
        return Ok(());
    };
    let room = PEEK.saturating_sub(start.len()).min(chunk.len());
    let chunk = chunk.get(..room).unwrap_or_default();
    // Nearly always the first bytes say that it is none, and nothing is copied.
    if !start.is_empty() || refusal::may_be_html_page(&refusal::inflated(chunk)) {
        start.extend_from_slice(chunk);
    }
    let is_over = start.is_empty() && !chunk.is_empty() || start.len() >= PEEK;
    let plain = refusal::inflated(start);
    let is_login = refusal::is_html_page(&plain) && refusal::is_login_page(&plain);
    let is_known = is_login || is_over || !refusal::may_be_html_page(&plain);
    let (true, Some(route), Some(token)) = (is_known, &context.route, &context.token) else {
        return Ok(());
    };
    context.heal.peek = Peek::No;
    if !is_login {
        route.rejections.worked(token.generation);
        return Ok(());
    }
    if final_answer(session).is_none() && !session.as_ref().retry_buffer_truncated() {
        context.heal.due = true;
        return Err(context.heal.replay());
    }
    let record = &mut context.heal.record;
    reject(route, token, TokenRefusal::LoginPage, record.is_some());
    match record {
        Some(record) => record.outcome = HealOutcome::RefusedAgain,
        None => {
            let (metrics, outcome) = (route.client.metrics.clone(), HealOutcome::NotReplayable);
            *record = Some(Record { metrics, refusal: TokenRefusal::LoginPage, outcome });
        }
    }
    Err(still_a_login_page())
}
