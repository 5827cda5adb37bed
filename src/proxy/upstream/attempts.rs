//! What one request tries to get to its upstream, and how often. Pure.

use super::addresses::Known;
use super::http2;
use pingora::Error;
use std::net::SocketAddr;
use std::sync::Arc;

/// How many addresses one request tries at most.
pub(crate) const MAX_ADDRESSES: usize = 4;

/// How often a read is sent again that was cut over HTTP/2.
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
    /// How often it was cut over HTTP/2.
    cut: usize,
    /// How often the upstream refused to begin with it.
    refused: usize,
    /// A kept connection was dead, and so may be the others: it is to be a new one.
    pub(super) wants_new: bool,
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
        if let Some(again) = self.was_declined(error, is_kept) {
            error.set_retry(again);
        } else if only_reads {
            if self.was_cut(error) {
                error.set_retry(true);
            }
            error.retry.decide_reuse(is_kept);
            // A kept connection was dead, and so may be the others. Of HTTP/2 there is one, and it is not kept any more.
            self.wants_new = is_kept && error.retry() && !http2::is_of_http2(error);
        } else {
            error.set_retry(false);
        }
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

    /// Whether a read was cut by HTTP/2, where what befalls one request, or their connection, need not befall it again; and
    /// may be sent once more.
    fn was_cut(&mut self, error: &Error) -> bool {
        let is_cut = http2::is_cut(error);
        self.cut += usize::from(is_cut);
        is_cut && self.cut <= MAX_CUTS
    }
}
