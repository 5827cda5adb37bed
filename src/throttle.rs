//! Throttle for log lines about a fault that lasts.

use crate::clock::Instant;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Time between two log lines about the same fault.
const INTERVAL: Duration = Duration::from_secs(60);

/// Lets one log line pass a minute, however often the fault occurs.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<Option<Instant>>);

impl Throttle {
    /// Creates a throttle that lets the first line pass.
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Asks to write a line. Returns whether it may pass; if so, the next one may a minute later.
    pub(crate) fn try_pass(&self) -> bool {
        let now = Instant::now();
        let mut passed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if passed.is_some_and(|passed| now - passed < INTERVAL) {
            return false;
        }
        *passed = Some(now);
        true
    }

    /// Lets the next line pass at once.
    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn one_line_passes_a_minute_and_the_next_one_at_once_after_a_reset() {
        let mut throttle = Throttle::new();
        assert!(throttle.try_pass() && !throttle.try_pass());
        advance(INTERVAL - Duration::from_millis(1)).await;
        assert!(!throttle.try_pass());
        advance(Duration::from_millis(1)).await;
        assert!(throttle.try_pass() && !throttle.try_pass());
        throttle.reset();
        assert!(throttle.try_pass());
    }
}
