//! One attempt: what is sent with it, and the state of its answer.

use super::answer_body::AnswerBody;
use super::csrf::CsrfSession;
use super::downstream::Downstream;
use super::problem::Problem;
use super::upstream::Slot;
use crate::error::ErrorKind;
use crate::token::store::Usable;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use std::sync::Arc;
use std::time::Duration;

/// The token expired between admission and sending.
const TOKEN_EXPIRED: ErrorType = ErrorType::new("TokenExpired");
/// `Retry-After` of a request whose token expired.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// One attempt to send a request.
pub(super) struct Attempt {
    /// The access token that is injected.
    pub(super) token: Usable,
    /// The CSRF session that is injected, if bearerd manages CSRF for the caller.
    pub(super) csrf: Option<Arc<CsrfSession>>,
    /// The slot of the upstream's `max_in_flight`.
    pub(super) slot: Option<Slot>,
    /// Whether the answer's status is 300 or above, so the upstream possibly does not read the rest
    /// of the body.
    pub(super) is_refused: bool,
    pub(super) answer_body: AnswerBody,
}

impl Attempt {
    /// The first attempt of a request.
    pub(super) fn new(token: Usable) -> Self {
        Self {
            token,
            csrf: None,
            slot: None,
            is_refused: false,
            answer_body: AnswerBody::default(),
        }
    }

    /// Returns the token, if it is still valid. Otherwise nothing may be sent.
    pub(super) fn valid_token(&self) -> pingora::Result<&Usable> {
        if self.token.is_over() { Err(token_expired()) } else { Ok(&self.token) }
    }

    /// Handles the end of the answer. The upstream no longer needs the rest of the request body, so
    /// the slot is released.
    pub(super) fn response_finished(&mut self, session: &Session) {
        let is_refused = self.is_refused;
        Downstream::with(session, |downstream| downstream.response_finished(is_refused));
        self.slot = None;
    }
}

/// Ends a request whose token expired before it was sent.
pub(super) fn token_expired() -> Box<Error> {
    let detail = "the token expired while bearerd connected to the upstream; see /readyz for why there is no newer one";
    let problem = Problem::new(ErrorKind::TokenUnavailable, detail);
    Problem { retry_after: Some(RETRY_AFTER), ..problem }.into_error(TOKEN_EXPIRED).into_in()
}
