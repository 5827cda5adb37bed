//! When a read that a busy upstream answered with 429 or 503 is sent again: `retry` of a route.

use super::attempt::Attempt;
use super::attempts::{Attempts, Cause};
use super::replay;
use super::route_handle::RouteHandle;
use crate::config::Retry;
use crate::retry_after;
use http::{HeaderMap, StatusCode};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep_until};

/// The first wait after an answer without `Retry-After`. Each further wait is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// How long one request waits for a busy upstream.
#[derive(Debug, Default)]
pub(super) struct RetryWait {
    /// The sum of all waits.
    total: Duration,
    /// When the next attempt starts.
    until: Option<Instant>,
}

impl RetryWait {
    /// The wait after an answer with this status, or `None` if the answer is passed on. `retries`
    /// is the number of earlier waits.
    fn wait_after(
        &self,
        policy: Retry,
        retries: u32,
        status: StatusCode,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Option<Duration> {
        let is_busy =
            matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        if !is_busy || retries + 1 >= policy.attempts {
            return None;
        }
        let wait = retry_after::read(headers, now)
            .unwrap_or_else(|| FIRST_WAIT * 2_u32.saturating_pow(retries));
        (self.total.checked_add(wait)? <= policy.max_wait).then_some(wait)
    }

    /// Waits until the next attempt may start.
    pub(super) async fn wait(&mut self) {
        if let Some(until) = self.until.take() {
            sleep_until(until).await;
        }
    }

    /// Handles the header of an answer that is about to be passed on. An error starts another
    /// attempt, after a wait.
    pub(super) fn on_answer_header(
        &mut self,
        route: &RouteHandle,
        session: &Session,
        response: &ResponseHeader,
        attempt: &mut Attempt,
        attempts: &mut Attempts,
    ) -> pingora::Result<()> {
        let request = session.req_header();
        let Some(policy) = route.config.retry.filter(|_| route.only_reads(request)) else {
            return Ok(());
        };
        if !replay::is_body_held(session) {
            return Ok(());
        }
        let (retries, now) = (attempts.count_of(Cause::Busy), SystemTime::now());
        let next = self.wait_after(policy, retries, response.status, &response.headers, now);
        let Some(wait) = next else {
            return Ok(());
        };
        self.total += wait;
        self.until = Some(Instant::now() + wait);
        // While it waits, the request is not in flight.
        attempt.slot = None;
        Err(attempts.replay(Cause::Busy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::RETRY_AFTER;

    const POLICY: Retry = Retry { attempts: 4, max_wait: Duration::from_secs(10) };

    /// The waits, in seconds, after answers with these values of `Retry-After`.
    fn waits(policy: Retry, asked: &[&str]) -> Vec<u64> {
        let mut waited = RetryWait::default();
        let mut waits = Vec::new();
        for (retries, asked) in (0..).zip(asked) {
            let mut headers = HeaderMap::new();
            if !asked.is_empty() {
                headers.insert(RETRY_AFTER, asked.parse().unwrap());
            }
            let status = StatusCode::TOO_MANY_REQUESTS;
            let next = waited.wait_after(policy, retries, status, &headers, SystemTime::now());
            let Some(wait) = next else { break };
            waited.total += wait;
            waits.push(wait.as_secs());
        }
        waits
    }

    #[test]
    fn a_read_is_sent_again_as_often_and_as_long_as_the_policy_says() {
        assert_eq!(waits(POLICY, &["2", "3", "0", "0"]), [2, 3, 0], "four attempts in all");
        assert_eq!(waits(POLICY, &["6", "5"]), [6], "ten seconds in all");
        assert_eq!(waits(POLICY, &["11"]), [0; 0]);
        assert_eq!(waits(POLICY, &["99999999999999999999"]), [1], "no number, so the default");
        assert_eq!(waits(POLICY, &["18446744073709551615"]), [0; 0]);
        assert_eq!(waits(POLICY, &["", "", "", ""]), [1, 2, 4]);
    }

    #[test]
    fn only_statuses_of_a_busy_upstream_are_waited_out() {
        for (status, is_busy) in
            [(429, true), (503, true), (500, false), (502, false), (404, false)]
        {
            let status = StatusCode::from_u16(status).unwrap();
            let (waited, now) = (RetryWait::default(), SystemTime::now());
            let next = waited.wait_after(POLICY, 0, status, &HeaderMap::new(), now);
            assert_eq!(next.is_some(), is_busy, "{status}");
        }
    }
}
