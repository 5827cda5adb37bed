//! When a refused reload is tried again.

use std::time::Duration;
use tokio::time::Instant;

/// The delay of the first retry. It doubles, since a wrong secret must not be sent again and again.
const FIRST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(300);

/// The next retry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pub(super) at: Instant,
    delay: Duration,
}

impl Backoff {
    /// The retry after a refusal, which itself may have been the retry `before`.
    pub(super) fn after(before: Option<Self>) -> Self {
        let delay = before.map_or(FIRST, |before| (before.delay * 2).min(LONGEST));
        Self { at: Instant::now() + delay, delay }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_retry_waits_twice_as_long_up_to_a_limit() {
        let (mut backoff, now) = (None, Instant::now());
        let delays = [30, 60, 120, 240, 300, 300].map(Duration::from_secs);
        for delay in delays {
            let next = Backoff::after(backoff);
            assert_eq!(next.at - now, delay);
            backoff = Some(next);
        }
    }
}
