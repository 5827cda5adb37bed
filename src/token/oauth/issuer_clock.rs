//! What time it is at the issuer, as its answers tell.

use crate::clock::Instant;
use crate::retry_after::server_time;
use http::HeaderMap;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// An issuer's clock. It goes on from the last answer that showed the time, however our own wall clock is set.
#[derive(Debug, Default)]
pub(super) struct IssuerClock(Mutex<Option<(Instant, SystemTime)>>);

impl IssuerClock {
    /// An answer that came at this moment.
    pub(super) fn learn(&self, headers: &HeaderMap, at: Instant) {
        if let Some(told) = server_time(headers) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, told));
        }
    }

    /// The issuer's time, if it ever showed it. A little behind rather than ahead: answers take a while, and say whole
    /// seconds.
    pub(super) fn time(&self, now: Instant) -> Option<SystemTime> {
        let told = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.and_then(|(at, told)| told.checked_add(now - at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::machine;
    use http::header::DATE;
    use std::time::{Duration, UNIX_EPOCH};

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_while_the_machine_sleeps_and_while_our_own_clock_is_set() {
        let clock = IssuerClock::default();
        assert_eq!(clock.time(Instant::now()), None);
        let told = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let date = httpdate::fmt_http_date(told).parse().unwrap();
        clock.learn(&HeaderMap::from_iter([(DATE, date)]), Instant::now());
        machine::sleep(Duration::from_secs(9 * 3600));
        tokio::time::advance(Duration::from_secs(60)).await;
        machine::set_wall_clock(7200.0);
        clock.learn(&HeaderMap::new(), Instant::now());
        assert_eq!(clock.time(Instant::now()), Some(told + Duration::from_secs(9 * 3600 + 60)));
    }
}
