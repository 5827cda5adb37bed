//! Clock of the issuer, as the `Date` of its answers shows it.

use crate::clock::Instant;
use crate::retry_after::server_time;
use http::HeaderMap;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Clock of an issuer. It runs on from the last answer with a `Date`, independently of the local
/// wall clock.
#[derive(Debug, Default)]
pub(super) struct IssuerClock(Mutex<Option<(Instant, SystemTime)>>);

impl IssuerClock {
    /// Sets the clock from the headers of an answer that arrived at this moment.
    pub(super) fn set_from(&self, headers: &HeaderMap, at: Instant) {
        if let Some(date) = server_time(headers) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, date));
        }
    }

    /// Returns the issuer's time, if any answer had a `Date`. It is slightly behind rather than
    /// ahead: answers take a while, and give whole seconds.
    pub(super) fn time(&self, now: Instant) -> Option<SystemTime> {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.and_then(|(at, date)| date.checked_add(now - at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::machine;
    use http::header::DATE;
    use std::time::{Duration, UNIX_EPOCH};

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_while_the_machine_sleeps_and_while_the_local_clock_is_set() {
        let clock = IssuerClock::default();
        assert_eq!(clock.time(Instant::now()), None);
        let time = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let date = httpdate::fmt_http_date(time).parse().unwrap();
        clock.set_from(&HeaderMap::from_iter([(DATE, date)]), Instant::now());
        machine::sleep(Duration::from_secs(9 * 3600));
        tokio::time::advance(Duration::from_secs(60)).await;
        machine::set_wall_clock(7200.0);
        clock.set_from(&HeaderMap::new(), Instant::now());
        assert_eq!(clock.time(Instant::now()), Some(time + Duration::from_secs(9 * 3600 + 60)));
    }
}
