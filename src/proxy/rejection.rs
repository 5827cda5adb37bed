//! Whether a refused token is rejected, so that the issuer is asked for a newer one. Each route
//! decides by its own history. Pure: the time is an argument.

use crate::token::store::Rejection;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a route rejects no token after a newer token was refused, too. The token is not the
/// cause then, and the issuer must not be asked again and again. Other routes are not affected.
const QUIET: Duration = Duration::from_secs(30);

/// Decides for one route whether a refused token is rejected.
#[derive(Debug, Default)]
pub(super) struct RejectionPolicy {
    /// The latest generation that the upstream accepted.
    worked: AtomicU64,
    /// Locked only when a token is refused.
    refusals: Mutex<Refusals>,
}

#[derive(Debug, Default)]
struct Refusals {
    /// The latest generation that was rejected here, and when.
    rejected: Option<(u64, Instant)>,
    /// When it was found that a newer token does not help.
    quiet_since: Option<Instant>,
}

impl RejectionPolicy {
    /// Records that the upstream accepted a token.
    pub(super) fn record_success(&self, generation: u64) {
        if self.worked.load(Ordering::Relaxed) < generation {
            self.worked.fetch_max(generation, Ordering::Relaxed);
        }
    }

    /// Handles the refusal of a token. `None`: another token would not help.
    pub(super) fn on_refusal(&self, generation: u64, now: Instant) -> Option<Rejection> {
        let worked = self.worked.load(Ordering::Relaxed);
        let mut refusals = self.refusals();
        let is_recent = |at: Instant| now.saturating_duration_since(at) < QUIET;
        if refusals.quiet_since.is_some_and(is_recent) {
            return None;
        }
        let (rejected, at) = refusals.rejected.unzip();
        let rejected = rejected.unwrap_or_default();
        let has_worked = worked > rejected;
        // The newer token is refused, too. A request that cannot be sent again shows that here.
        if generation > rejected && !has_worked && at.is_some_and(is_recent) {
            refusals.quiet_since = Some(now);
            return None;
        }
        if generation >= rejected {
            refusals.rejected = Some((generation, now));
        }
        Some(Rejection::Token { has_worked })
    }

    /// Handles the refusal of the newer token with which a request was sent again. If that token
    /// was accepted here before, this refusal is handled like any other. If not, the route is quiet
    /// from now on.
    pub(super) fn on_second_refusal(&self, generation: u64, now: Instant) -> Option<Rejection> {
        if self.worked.load(Ordering::Relaxed) >= generation {
            return self.on_refusal(generation, now);
        }
        self.refusals().quiet_since = Some(now);
        None
    }

    /// A panic cannot leave the value half written, so poisoning is ignored.
    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn rejected(has_worked: bool) -> Option<Rejection> {
        Some(Rejection::Token { has_worked })
    }

    #[test]
    fn a_token_that_a_heal_just_brought_is_rejected_like_any_other() {
        let (route, now) = (RejectionPolicy::default(), Instant::now());
        for generation in 1..20 {
            route.record_success(generation);
            assert_eq!(route.on_refusal(generation, now), rejected(true), "{generation}");
            assert_eq!(route.on_refusal(generation, now), rejected(false), "the same again");
        }
    }

    #[test]
    fn a_route_is_quiet_for_half_a_minute_after_its_healed_request_was_refused_again() {
        let (route, start) = (RejectionPolicy::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        route.record_success(1);
        assert_eq!(route.on_refusal(1, at(0)), rejected(true));
        assert_eq!(route.on_second_refusal(2, at(1)), None);
        for seconds in [1, 15, 30] {
            assert_eq!(route.on_refusal(2, at(seconds)), None);
        }
        route.record_success(2);
        assert_eq!(route.on_refusal(2, at(30)), None, "a path that works does not end it");
        assert_eq!(route.on_refusal(2, at(31)), rejected(true));
    }

    #[test]
    fn a_request_that_cannot_be_sent_again_makes_the_route_quiet_with_the_next_one() {
        let (route, start) = (RejectionPolicy::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(route.on_refusal(1, at(0)), rejected(false));
        assert_eq!(route.on_refusal(2, at(1)), None);
        assert_eq!(route.on_refusal(2, at(30)), None);
        assert_eq!(route.on_refusal(2, at(31)), rejected(false), "its turn comes again");
        assert_eq!(route.on_refusal(3, at(62)), rejected(false), "long after");
    }

    #[test]
    fn a_newer_token_that_has_worked_is_rejected_when_it_is_refused() {
        let (route, now) = (RejectionPolicy::default(), Instant::now());
        route.record_success(2);
        assert_eq!(route.on_second_refusal(2, now), rejected(true));
        assert_eq!(route.on_second_refusal(3, now), None);
    }
}
