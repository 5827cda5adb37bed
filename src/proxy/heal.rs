//! Heals a request whose token the upstream refused: the token is rejected, a newer one awaited,
//! and the request sent again, once. A refused CSRF token is renewed likewise.
//!
//! pingora calls a hook for the header of each answer before it passes anything on. An error of
//! that hook discards the answer and starts another attempt, with the request's body from the
//! replay buffer.

use super::attempt::Attempt;
use super::attempts::{Attempts, Cause};
use super::csrf::{self, Need};
use super::downstream::unless_disconnected;
use super::login_page::{self, PEEK};
use super::outcome::final_answer;
use super::problem::Problem;
use super::replay;
use super::route_handle::RouteHandle;
use super::token_refusal::{self, AnswerVerdict, RequestKind};
use crate::error::ErrorKind;
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

/// How long a page is held back for its first bytes, if it sends any.
const PEEK_TIME: Duration = Duration::from_secs(3);
/// The error if the upstream answers with a login page and a newer token does not help.
const LOGIN_PAGE: ErrorType = ErrorType::new("LoginPage");

/// The state of healing one request.
#[derive(Debug, Default)]
pub(super) struct Heal {
    /// The refusal that was handled; there is at most one.
    handled: Option<HandledRefusal>,
    /// Whether a login page was found in a body. The next attempt starts with renewing the token.
    is_due: bool,
    page: PageCheck,
}

/// Counts a heal when its request ends, by its last outcome.
#[derive(Debug)]
struct HandledRefusal {
    metrics: ClientMetrics,
    refusal: TokenRefusal,
    outcome: HealOutcome,
}

impl Drop for HandledRefusal {
    fn drop(&mut self) {
        self.metrics.record_heal(self.refusal, self.outcome);
    }
}

/// The check whether an answer is a login page, by the first bytes of its body.
#[derive(Debug, Default)]
enum PageCheck {
    /// Nothing to check.
    #[default]
    None,
    /// The page was compressed; the next attempt asks for an uncompressed one.
    WantsUncompressed,
    /// The answer is held back.
    Holding {
        /// The first bytes so far.
        start: Vec<u8>,
        /// When the check ends, however little has come.
        until: Instant,
    },
    /// The page is not a login page; the next attempt passes it on.
    Harmless,
    /// The answer is passed on while these first bytes are checked.
    Passing(Vec<u8>),
}

impl Heal {
    /// Whether a login page was found in a body, and not yet handled.
    pub(super) const fn is_due(&self) -> bool {
        self.is_due
    }

    /// Whether the next attempt asks for an uncompressed answer.
    pub(super) const fn wants_uncompressed(&self) -> bool {
        matches!(self.page, PageCheck::WantsUncompressed)
    }

    /// The refusal that caused the request to be sent again, for the log.
    pub(super) fn reason(&self) -> Option<&'static str> {
        self.handled.as_ref().map(|handled| handled.refusal.label())
    }

    /// Handles the header of an answer. An error starts another attempt, or ends in a local answer.
    /// Rare cases are boxed: otherwise every request would carry their state.
    pub(super) async fn on_answer_header(
        &mut self,
        route: &RouteHandle,
        session: &mut Session,
        response: &ResponseHeader,
        attempt: &mut Attempt,
        attempts: &mut Attempts,
    ) -> pingora::Result<()> {
        let (status, headers) = (response.status, &response.headers);
        let kind = || kind_of(route, session.req_header());
        match token_refusal::classify(kind, route.config.html, status, headers) {
            AnswerVerdict::Answer => {
                self.record_answered();
                // An error status may have been sent without a look at the token.
                if status < StatusCode::BAD_REQUEST {
                    route.rejections.record_success(attempt.token.generation);
                }
            }
            AnswerVerdict::Unsure => self.pass(),
            AnswerVerdict::Refused(refusal) => {
                let is_login =
                    matches!(refusal, TokenRefusal::LoginPage | TokenRefusal::LoginRedirect);
                if Box::pin(self.renew_token(route, session, attempt, refusal)).await {
                    return Err(attempts.replay(Cause::RefusedToken));
                } else if is_login {
                    return Err(still_a_login_page());
                }
            }
            AnswerVerdict::WantsCsrf => {
                self.record_answered();
                if Box::pin(renew_csrf_token(route, session, attempt, attempts)).await {
                    return Err(attempts.replay(Cause::RefusedCsrfToken));
                }
            }
            AnswerVerdict::Suspect => {
                let is_encoded = token_refusal::is_encoded(headers);
                let is_harmless = matches!(self.page, PageCheck::Harmless);
                // A page that is compressed although that was not accepted cannot be checked.
                if is_harmless
                    || self.wants_uncompressed() && is_encoded
                    || !can_be_held_back(session)
                {
                    self.pass();
                } else if is_encoded && matches!(self.page, PageCheck::None) {
                    self.page = PageCheck::WantsUncompressed;
                    return Err(attempts.replay(Cause::CompressedPage));
                } else {
                    let until = Instant::now() + PEEK_TIME;
                    self.page = PageCheck::Holding { start: Vec::new(), until };
                }
            }
        }
        Ok(())
    }

    /// Records that the request was answered, whatever the answer.
    fn record_answered(&mut self) {
        if let Some(handled) = &mut self.handled
            && handled.outcome == HealOutcome::Unanswered
        {
            handled.outcome = HealOutcome::Healed;
        }
    }

    /// Passes an answer on, and checks its first bytes on the way.
    fn pass(&mut self) {
        self.page = PageCheck::Passing(Vec::new());
        self.record_answered();
    }

    /// Renews the token after a login page in a body. Returns whether the request may be sent.
    pub(super) async fn renew_after_login_page(
        &mut self,
        route: &RouteHandle,
        session: &Session,
        attempt: &mut Attempt,
    ) -> bool {
        self.is_due = false;
        Box::pin(self.renew_token(route, session, attempt, TokenRefusal::LoginPage)).await
    }

    /// Rejects the refused token and waits for a newer one. Returns whether to send the request
    /// again.
    async fn renew_token(
        &mut self,
        route: &RouteHandle,
        session: &Session,
        attempt: &mut Attempt,
        refusal: TokenRefusal,
    ) -> bool {
        let client = &route.client;
        let is_coming = reject(route, &attempt.token, refusal, self.handled.is_some());
        if let Some(handled) = &mut self.handled {
            handled.outcome = HealOutcome::RefusedAgain;
            return false;
        }
        let request = session.req_header();
        let is_replayable = replay::is_body_held(session)
            && (route.only_reads(request)
                || replay::is_allowed(
                    route.config.profile.replay,
                    &request.method,
                    &request.headers,
                ));
        // The outcome if the caller leaves during the wait for a token, too.
        let outcome = if is_replayable { HealOutcome::NoToken } else { HealOutcome::NotReplayable };
        let metrics = client.metrics.clone();
        let handled = self.handled.insert(HandledRefusal { metrics, refusal, outcome });
        if !is_replayable || !is_coming {
            return false;
        }
        // While it waits, the request takes no slot of the upstream.
        attempt.slot = None;
        let newer = client.store.wait_newer(attempt.token.generation, client.wait);
        let Ok(Ok(newer)) = unless_disconnected(session, newer).await else {
            return false;
        };
        handled.outcome = HealOutcome::Unanswered;
        attempt.token = newer;
        true
    }

    /// Holds a suspect answer back from the caller. Returns whether it does.
    pub(super) fn hold_back(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        attempts: &Attempts,
    ) -> bool {
        let is_holding = matches!(self.page, PageCheck::Holding { .. });
        if is_holding {
            make_informational(response);
        }
        if attempts.number() > 1 || is_holding {
            // Informational answers are unknown to HTTP/1.0. After an attempt that was held back,
            // they are passed on again.
            let is_http10 = session.req_header().version == Version::HTTP_10;
            session.as_downstream_mut().set_ignore_info_resp(is_holding || is_http10);
        }
        is_holding
    }

    /// Checks the first bytes of a body that is held back. An error starts another attempt, once it
    /// is known what the page is.
    pub(super) fn check_held_body(
        &mut self,
        body: &mut Option<Bytes>,
        is_end: bool,
        attempts: &mut Attempts,
    ) -> pingora::Result<()> {
        let PageCheck::Holding { start, until } = &mut self.page else {
            return Ok(());
        };
        let chunk = body.take().unwrap_or_default();
        let room = PEEK.saturating_sub(start.len()).min(chunk.len());
        start.extend_from_slice(chunk.get(..room).unwrap_or_default());
        if login_page::is_login_page(start) {
            self.page = PageCheck::None;
            self.is_due = true;
            Err(attempts.replay(Cause::RefusedToken))
        } else if is_end || start.len() >= PEEK || Instant::now() >= *until {
            self.page = PageCheck::Harmless;
            Err(attempts.replay(Cause::HarmlessPage))
        } else {
            Ok(())
        }
    }

    /// Checks the first bytes of a body that is passed on. If it is a login page and nothing of the
    /// answer was sent, another attempt starts. If its header was sent, the answer ends here, and
    /// with it the caller's connection: half a page is not data.
    pub(super) fn check_passing_body(
        &mut self,
        route: &RouteHandle,
        session: &Session,
        body: Option<&Bytes>,
        token: &Usable,
        attempts: &mut Attempts,
    ) -> pingora::Result<()> {
        let (PageCheck::Passing(start), Some(chunk)) = (&mut self.page, body) else {
            return Ok(());
        };
        let Some(is_login) = login_page::check_page_start(start, chunk) else {
            return Ok(());
        };
        self.page = PageCheck::None;
        if !is_login {
            route.rejections.record_success(token.generation);
            return Ok(());
        }
        if final_answer(session).is_none() && replay::is_body_held(session) {
            self.is_due = true;
            return Err(attempts.replay(Cause::RefusedToken));
        }
        reject(route, token, TokenRefusal::LoginPage, self.handled.is_some());
        match &mut self.handled {
            Some(handled) => handled.outcome = HealOutcome::RefusedAgain,
            None => {
                let (metrics, outcome) = (route.client.metrics.clone(), HealOutcome::NotReplayable);
                let refusal = TokenRefusal::LoginPage;
                self.handled = Some(HandledRefusal { metrics, refusal, outcome });
            }
        }
        Err(still_a_login_page())
    }
}

/// Ends a request that got a login page and cannot be healed, or not again.
pub(super) fn still_a_login_page() -> Box<Error> {
    let detail = "the upstream answers with its login page although the token is fresh; check that the route's profile fits its path and that the OAuth client may use this API";
    Problem::new(ErrorKind::LoginPage, detail).into_error(LOGIN_PAGE).into_up()
}

fn kind_of(route: &RouteHandle, request: &RequestHeader) -> RequestKind {
    match request.method {
        Method::HEAD => RequestKind::Head,
        _ if route.only_reads(request) => RequestKind::Read,
        _ => RequestKind::Write,
    }
}

/// Whether an answer can be held back until its first bytes are checked. A request body that is
/// still arriving may outgrow the replay buffer in that time.
fn can_be_held_back(session: &mut Session) -> bool {
    session.is_body_empty()
        || session.as_downstream_mut().is_body_done() && replay::is_body_held(session)
}

/// Makes pingora send nothing of an answer. pingora's `write_response_header` drops informational
/// answers after `set_ignore_info_resp(true)`, and does not count them as the answer, so that a
/// later attempt's header can still be sent.
fn make_informational(response: &mut ResponseHeader) {
    response.remove_header(&CONTENT_LENGTH);
    response.remove_header(&TRANSFER_ENCODING);
    // A registered status is always accepted.
    let _ = response.set_status(StatusCode::EARLY_HINTS);
}

/// Renews the CSRF token of a write that the upstream refused for lack of a good one. Returns
/// whether to send the write again. The upstream did not execute it, so this is safe for any
/// method while the body is held.
async fn renew_csrf_token(
    route: &RouteHandle,
    session: &Session,
    attempt: &mut Attempt,
    attempts: &Attempts,
) -> bool {
    let Some(tokens) = &route.csrf else {
        return false;
    };
    if csrf::is_managed_by_caller(session.req_header()) {
        return false;
    }
    match &attempt.csrf {
        Some(refused) => tokens.forget(refused),
        // Other writes on this route need one, too.
        None => route.wants_csrf.store(true, Ordering::Relaxed),
    }
    if attempts.count_of(Cause::RefusedCsrfToken) > 0 || !replay::is_body_held(session) {
        return false;
    }
    // While it waits, the request takes no slot of the upstream.
    attempt.slot = None;
    let newer = tokens.get_or_fetch(&attempt.token, Need::Required(Instant::now()));
    matches!(unless_disconnected(session, newer).await, Ok(Some(_)))
}

/// Rejects a refused token, unless a newer one would not help. Returns whether a newer one is there
/// or will be.
fn reject(route: &RouteHandle, token: &Usable, refusal: TokenRefusal, is_again: bool) -> bool {
    let (store, now) = (&route.client.store, Instant::now());
    let rejection = match refusal {
        TokenRefusal::Forbidden => Some(Rejection::Permission),
        _ if is_again => route.rejections.on_second_refusal(token.generation, now),
        _ if store.has_newer(token.generation) => return true,
        _ => route.rejections.on_refusal(token.generation, now),
    };
    rejection.is_some_and(|rejection| store.reject(token.generation, rejection))
}
