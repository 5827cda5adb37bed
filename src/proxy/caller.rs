//! A caller with everything that its requests need: its name, its limits, and its counters.

use super::problem::{Problem, RETRY_AFTER_OVERLOAD};
use crate::clock::Instant;
use crate::config::{CallerLimits, Rate};
use crate::error::ErrorKind;
use crate::metrics::CallerMetrics;
use crate::traffic::CallerTraffic;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A caller of the configuration in force.
pub(super) struct CallerHandle {
    pub(super) name: String,
    limits: CallerLimits,
    load: Arc<CallerLoad>,
    pub(super) metrics: CallerMetrics,
    pub(super) traffic: Arc<CallerTraffic>,
}

/// How much of its limits a caller has used. A reload keeps it.
#[derive(Debug, Default)]
struct CallerLoad {
    requests: AtomicU32,
    /// When its requests so far would have ended at the permitted rate.
    spent: Mutex<Instant>,
}

/// One request of a caller in flight.
pub(super) struct CallerRequest(Arc<CallerLoad>);

impl CallerHandle {
    /// Creates the caller, which continues the one `before` if there was one of this name.
    pub(super) fn new(
        name: &str,
        limits: CallerLimits,
        metrics: CallerMetrics,
        traffic: Arc<CallerTraffic>,
        before: Option<&Self>,
    ) -> Self {
        let load = before.map(|before| before.load.clone()).unwrap_or_default();
        Self { name: name.to_owned(), limits, load, metrics, traffic }
    }

    /// Counts a request, until the result is dropped.
    ///
    /// # Errors
    /// The answer to a request beyond the limits.
    pub(super) fn admit(&self) -> Result<CallerRequest, Problem> {
        let most = self.limits.requests.unwrap_or(u32::MAX);
        let more = |requests: u32| (requests < most).then(|| requests.saturating_add(1));
        let counted = self.load.requests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        if counted.is_err() {
            let what =
                format!("{most} concurrent requests (`callers.{}.limits.requests`)", self.name);
            return Err(self.limited(&what, RETRY_AFTER_OVERLOAD));
        }
        let request = CallerRequest(self.load.clone());
        if let Some(rate) = self.limits.rate {
            self.load.spend(rate, Instant::now()).map_err(|wait| {
                let what = format!("{rate} requests (`callers.{}.limits.rate`)", self.name);
                self.limited(&what, wait)
            })?;
        }
        Ok(request)
    }

    fn limited(&self, what: &str, retry_after: Duration) -> Problem {
        let detail = format!(
            "caller {} has reached its limit of {what}; send fewer, or raise the limit in bearerd's configuration",
            self.name
        );
        let retry_after = Some(retry_after);
        Problem { retry_after, ..Problem::new(ErrorKind::CallerLimited, detail) }
    }
}

impl CallerLoad {
    /// Takes one request off the rate (generic cell rate algorithm). As many requests as the rate
    /// names may come at once.
    ///
    /// # Errors
    /// The time until there is room for this request.
    fn spend(&self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let each = rate.period / rate.requests;
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        // The rate may have been lower before a reload.
        *spent = (*spent).max(now).min(now + rate.period);
        let after = *spent + each;
        let excess = (after - now).saturating_sub(rate.period);
        if !excess.is_zero() {
            return Err(excess);
        }
        *spent = after;
        Ok(())
    }
}

impl Drop for CallerRequest {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_lets_its_number_through_at_once_and_then_one_after_the_other() {
        let load = CallerLoad::default();
        let rate = Rate { requests: 4, period: Duration::from_secs(2) };
        let at = |millis: u64| Instant::at(Duration::from_millis(10_000 + millis));
        for _ in 0..4 {
            assert_eq!(load.spend(rate, at(0)), Ok(()));
        }
        let wait = Err(Duration::from_millis(500));
        assert_eq!(load.spend(rate, at(0)), wait);
        assert_eq!(load.spend(rate, at(0)), wait, "a refused request costs nothing");
        assert_eq!(load.spend(rate, at(499)), Err(Duration::from_millis(1)));
        assert_eq!(load.spend(rate, at(500)), Ok(()));
        assert_eq!(load.spend(rate, at(500)), wait);
        // An idle time gives back no more than the number.
        let passed = (0..10).filter(|_| load.spend(rate, at(60_000)).is_ok()).count();
        assert_eq!(passed, 4);
        // What was spent at a lower rate does not count for longer than at this one.
        let slow = Rate { requests: 1, period: Duration::from_secs(3600) };
        assert_eq!(load.spend(slow, at(100_000)), Ok(()));
        assert_eq!(load.spend(rate, at(100_000)), wait);
        assert_eq!(load.spend(rate, at(100_500)), Ok(()));
    }
}
