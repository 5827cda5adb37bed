//! When a session is asked for again after fetches that failed. Pure: the time is an argument.

use std::time::Duration;
use tokio::time::Instant;

/// After a fetch that failed, writes go out without a token for this long before the next fetch, and twice as
/// long after each further one: they may not need one. The upstream says if they do.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const MOST_PAUSE: Duration = Duration::from_secs(60);
/// The same where a token is known to be needed. Nothing works without one, so that an upstream that is well
/// again must not be found so much later.
const FIRST_PRESSING_PAUSE: Duration = Duration::from_millis(200);
const MOST_PRESSING_PAUSE: Duration = Duration::from_secs(5);

/// Why a session is asked for.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) enum Need {
    /// For a write that can be sent again if the session turns out to be stale.
    Usual,
    /// The upstream has just refused a write for want of a token: the one that was sent is forgotten.
    Required(Instant),
    /// For a write that can't be sent again: the session has to be found good after this moment.
    Sure(Instant),
}

impl Need {
    /// Since when it is known that the upstream must be asked, if it is.
    const fn since(self) -> Option<Instant> {
        match self {
            Self::Usual => None,
            Self::Required(since) | Self::Sure(since) => Some(since),
        }
    }
}

/// Fetches that failed one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct FetchFailures {
    /// The access token with which they were tried.
    generation: u64,
    /// When the last one ended.
    at: Instant,
    /// How many there were.
    fetches: u32,
    /// How many of them were asked for by more than [`Need::Usual`].
    pressing: u32,
}

impl FetchFailures {
    /// The failures with one more.
    pub(super) fn with(before: Option<Self>, generation: u64, need: Need, at: Instant) -> Self {
        let before = before.filter(|before| before.generation == generation);
        let (fetches, pressing) = before.map_or((0, 0), |before| (before.fetches, before.pressing));
        Self {
            generation,
            at,
            fetches: fetches.saturating_add(1),
            pressing: pressing.saturating_add(u32::from(need.since().is_some())),
        }
    }

    /// Whether it is worth while to ask again.
    pub(super) fn is_over(&self, generation: u64, need: Need, now: Instant) -> bool {
        let pause = match need.since() {
            _ if self.generation != generation => return true,
            // What is known from before that failure was answered by it.
            Some(since) if since <= self.at => return false,
            Some(_) => pause(FIRST_PRESSING_PAUSE, self.pressing, MOST_PRESSING_PAUSE),
            None => pause(FIRST_PAUSE, self.fetches, MOST_PAUSE),
        };
        now >= self.at + pause
    }
}

/// How long to wait after so many failures.
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
    async fn asking_pauses_longer_while_it_fails_and_a_complaint_ends_the_pause() {
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
            let pressed = fail(Some(often), need(later));
            assert!(!over(&pressed, need(later), 0.19) && over(&pressed, need(later), 0.2));
            let more = (0..50).fold(pressed, |before, _| fail(Some(before), need(later)));
            assert!(!over(&more, need(later), 4.9) && over(&more, need(later), 5.0));
        }
        assert!(often.is_over(2, Need::Usual, start), "another access token is another case");
    }
}
