//! What one request tries to get to its upstream, and how often. Pure.

use super::addresses::Known;
use super::http2;
use super::loss::{IDLE_ANSWER, Loss};
use http::StatusCode;
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType};
use std::net::SocketAddr;
use std::sync::Arc;

/// How many addresses one request tries at most.
pub(crate) const MAX_ADDRESSES: usize = 4;

/// How often a read is sent again that was cut over HTTP/2, or whose way to the upstream went silent.
pub(crate) const MAX_CUTS: usize = 2;

/// How often a request is sent again that the upstream refused to begin with: it may have enough to do.
const MAX_REFUSALS: usize = 3;

/// What one request has tried.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Attempts {
    /// The latest, and what the resolver had said before it.
    pub(super) latest: Option<(SocketAddr, Arc<Known>)>,
    /// Those that could not be connected to.
    pub(super) failed: Vec<SocketAddr>,
    /// Whether the resolver may know more than before the latest.
    pub(super) asks_anew: bool,
    /// Why the latest failed: the request ends with this, if there is no other.
    pub(super) failure: Option<Box<Error>>,
    /// Whether the private anchors are the ones to trust.
    pub(super) is_private: Option<bool>,
    /// Whether the others were tried before.
    pub(super) has_turned: bool,
    /// How often it was cut over HTTP/2, or the way went silent.
    cut: usize,
    /// How often the upstream refused to begin with it.
    refused: usize,
    /// A kept connection was dead, and so may be the others: it is to be a new one.
    pub(super) wants_new: bool,
    /// Whether the latest went over a kept connection.
    pub(in crate::proxy) is_kept: bool,
}

impl Attempts {
    /// The first of these that has not failed yet; of those that others are to shun, only if there is no other.
    pub(super) fn next(&self, known: &Known, shunned: &[SocketAddr]) -> Option<SocketAddr> {
        let untried = known.addresses.iter().filter(|address| !self.failed.contains(address));
        untried
            .clone()
            .find(|address| !shunned.contains(address))
            .or_else(|| untried.clone().next())
            .copied()
    }

    /// Decides whether a request that ended like this before its answer is sent again, and says so in the error. A write
    /// may have been executed before that, idempotent or not: it is sent again only where the upstream says that it has
    /// not begun with it.
    pub(in crate::proxy) fn decide(&mut self, error: &mut Error, only_reads: bool, is_kept: bool) {
        let declined = self.was_declined(error, is_kept);
        let again = declined.unwrap_or_else(|| only_reads && self.was_lost(error, is_kept));
        error.set_retry(again);
    }

    /// Whether the answer is none to a read over this connection, but the upstream's word before it closes an idle one.
    pub(in crate::proxy) fn is_of_idleness(&self, response: &ResponseHeader) -> bool {
        self.is_kept
            && response.status == StatusCode::REQUEST_TIMEOUT
            // Of HTTP/2, an answer has its request's number.
            && response.version != http::Version::HTTP_2
    }

    /// Ends such an attempt.
    pub(in crate::proxy) fn idle_answer() -> Box<Error> {
        Error::new_up(IDLE_ANSWER)
    }

    /// Whether a connection of HTTP/2 was gone before it took the request, so that another one is worth while.
    pub(super) fn is_worth_another_stream(&mut self, error: &Error) -> bool {
        let is_gone = *error.etype() == ErrorType::H2Error && http2::is_cut(error);
        self.cut += usize::from(is_gone);
        is_gone && self.cut <= MAX_CUTS
    }

    /// Whether the upstream says that it has not begun with the request; and if so, whether to send it again.
    fn was_declined(&mut self, error: &Error, is_kept: bool) -> Option<bool> {
        // A connection that was kept may have been about to close; one that says so at once turns requests away.
        if http2::is_refused(error) || http2::is_goodbye(error) && !is_kept {
            self.refused += 1;
            return Some(self.refused <= MAX_REFUSALS);
        }
        (http2::is_goodbye(error) || http2::wants_http1(error)).then_some(true)
    }

    /// Whether a read was lost with its connection; and if so, whether to send it again.
    fn was_lost(&mut self, error: &Error, is_kept: bool) -> bool {
        let Some(loss) = Loss::of(error, is_kept) else { return false };
        if loss != Loss::Kept {
            self.cut += 1;
        }
        // Others that are kept may be as dead. Of HTTP/2 there is one, and it is not kept any more.
        self.wants_new = !http2::is_of_http2(error);
        self.cut <= MAX_CUTS
    }
}
