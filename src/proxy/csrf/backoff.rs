//! When a CSRF token is fetched again after failures. Pure: the time is an argument.

use std::time::Duration;
use tokio::time::Instant;

/// The pause after a failed fetch, twice as long after each further one. During the pause, writes
/// are sent without a token: they may not need one, and the upstream says if they do.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const MOST_PAUSE: Duration = Duration::from_secs(60);
/// The pause if a token is known to be needed. No write works without one, so that the recovery of
/// an upstream must be noticed early.
const FIRST_REQUIRED_PAUSE: Duration = Duration::from_millis(200);
const MOST_REQUIRED_PAUSE: Duration = Duration::from_secs(5);

/// How good a session must be.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) enum Need {
    /// Good enough for a write that can be sent again if the session is stale.
    Usual,
    /// The upstream refused a write for lack of a good token at this moment.
    Required(Instant),
    /// For a write that cannot be sent again: the session must be fetched after this moment.
    Sure(Instant),
}

impl Need {
    /// Since when a fetch is known to be necessary, if it is.
    const fn since(self) -> Option<Instant> {
        match self {
            Self::Usual => None,
            Self::Required(since) | Self::Sure(since) => Some(since),
        }
    }
}

/// A series of failed fetches.
#[derive(Clone, Copy, Debug)]
pub(super) struct FetchFailures {
    /// The generation of their access token.
    generation: u64,
    /// When the last one failed.
    at: Instant,
    /// The number of failed fetches.
    fetches: u32,
    /// The number of those with another need than [`Need::Usual`].
    required: u32,
}

impl FetchFailures {
    /// Adds a failure.
    pub(super) fn with(before: Option<Self>, generation: u64, need: Need, at: Instant) -> Self {
        let before = before.filter(|before| before.generation == generation);
        let (fetches, required) = before.map_or((0, 0), |before| (before.fetches, before.required));
        Self {
            generation,
            at,
            fetches: fetches.saturating_add(1),
            required: required.saturating_add(u32::from(need.since().is_some())),
        }
    }

    /// Whether the pause is over.
    pub(super) fn is_over(&self, generation: u64, need: Need, now: Instant) -> bool {
        let pause = match need.since() {
            _ if self.generation != generation => return true,
            // The failed fetch was later than the reason for this one.
            Some(since) if since <= self.at => return false,
            Some(_) => pause(FIRST_REQUIRED_PAUSE, self.required, MOST_REQUIRED_PAUSE),
            None => pause(FIRST_PAUSE, self.fetches, MOST_PAUSE),
        };
        now >= self.at + pause
    }
}

/// The pause after a number of failures.
fn pause(first: Duration, failures: u32, most: Duration) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => first.saturating_mul(2_u32.saturating_pow(doublings)).min(most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_pause_grows_with_each_failure_and_ends_when_a_token_is_required() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let fail = |before, need| FetchFailures::with(before, 1, need, start);
        let once = fail(None, Need::Usual);
        let over = |failing: &FetchFailures, need, seconds: f64| {
            failing.is_over(1, need, start + Duration::from_secs_f64(seconds))
        };
        assert!(!over(&once, Need::Usual, 4.9) && over(&once, Need::Usual, 5.0));
        let twice = fail(Some(once), Need::Usual);
        assert!(!over(&twice, Need::Usual, 9.9) && over(&twice, Need::Usual, 10.0));
        let often = (0..50).fold(None, |before, _| Some(fail(before, Need::Usual))).unwrap();
        assert!(!over(&often, Need::Usual, 59.9) && over(&often, Need::Usual, 60.0));
        let later = start + second / 1000;
        for need in [Need::Required, Need::Sure] {
            assert!(over(&often, need(later), 0.001), "at once");
            assert!(!over(&often, need(start), 9.0), "it was answered by that failure");
            let refused = fail(Some(often), need(later));
            assert!(!over(&refused, need(later), 0.19) && over(&refused, need(later), 0.2));
            let more = (0..50).fold(refused, |before, _| fail(Some(before), need(later)));
            assert!(!over(&more, need(later), 4.9) && over(&more, need(later), 5.0));
        }
        assert!(often.is_over(2, Need::Usual, start), "another access token is another case");
    }
}
