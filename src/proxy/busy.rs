//! A read that the upstream has no time for is sent again when it asks for that: `retry` of a route.

use super::RouteHandle;
use super::context::Context;
use crate::config::Retry;
use crate::retry_after;
use http::{HeaderMap, StatusCode};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep_until};

/// The first wait where the upstream names none; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// What one request has waited for.
#[derive(Debug, Default)]
pub(super) struct Retries {
    /// How often it was sent again.
    done: u32,
    waited: Duration,
    /// When it is sent again.
    at: Option<Instant>,
}

impl Retries {
    /// How long to wait before it is sent again, if it is.
    fn next(
        &self,
        policy: Retry,
        status: StatusCode,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Option<Duration> {
        let is_busy =
            matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        if !is_busy || self.done + 1 >= policy.attempts {
            return None;
        }
        let wait = retry_after::read(headers, now)
            .unwrap_or_else(|| FIRST_WAIT * 2_u32.saturating_pow(self.done));
        (self.waited.checked_add(wait)? <= policy.max_wait).then_some(wait)
    }

    /// Waits until it is time for the next attempt.
    pub(super) async fn wait(&mut self) {
        if let Some(at) = self.at.take() {
            sleep_until(at).await;
        }
    }
}

/// Judges an answer that is about to be passed on. An error begins a new attempt, later.
pub(super) fn judge(
    route: &RouteHandle,
    session: &Session,
    response: &ResponseHeader,
    context: &mut Context,
) -> pingora::Result<()> {
    let request = session.req_header();
    let Some(policy) = route.config.retry.filter(|_| route.only_reads(request)) else {
        return Ok(());
    };
    // Without its beginning, a body can't be sent again.
    if session.as_ref().retry_buffer_truncated() {
        return Ok(());
    }
    let retries = &mut context.retries;
    let next = retries.next(policy, response.status, &response.headers, SystemTime::now());
    let Some(wait) = next else {
        return Ok(());
    };
    retries.done += 1;
    retries.waited += wait;
    retries.at = Some(Instant::now() + wait);
    // Meanwhile it is not under way.
    context.slot = None;
    Err(context.heal.replay())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::RETRY_AFTER;

    const POLICY: Retry = Retry { attempts: 4, max_wait: Duration::from_secs(10) };

    /// The waits, in seconds, after answers that ask for these.
    fn waits(policy: Retry, asked: &[&str]) -> Vec<u64> {
        let mut retries = Retries::default();
        let mut waits = Vec::new();
        for asked in asked {
            let mut headers = HeaderMap::new();
            if !asked.is_empty() {
                headers.insert(RETRY_AFTER, asked.parse().unwrap());
            }
            let status = StatusCode::TOO_MANY_REQUESTS;
            let Some(wait) = retries.next(policy, status, &headers, SystemTime::now()) else {
                break;
            };
            retries.done += 1;
            retries.waited += wait;
            waits.push(wait.as_secs());
        }
        waits
    }

    #[test]
    fn a_read_is_sent_again_as_often_and_as_long_as_the_policy_says() {
        assert_eq!(waits(POLICY, &["2", "3", "0", "0"]), [2, 3, 0], "four attempts in all");
        assert_eq!(waits(POLICY, &["6", "5"]), [6], "ten seconds in all");
        assert_eq!(waits(POLICY, &["11"]), [0; 0]);
        assert_eq!(waits(POLICY, &["99999999999999999999"]), [1], "no number, so our own wait");
        assert_eq!(waits(POLICY, &["18446744073709551615"]), [0; 0]);
        assert_eq!(waits(POLICY, &["", "", "", ""]), [1, 2, 4]);
    }

    #[test]
    fn only_the_statuses_of_the_busy_are_waited_out() {
        for (status, is_busy) in
            [(429, true), (503, true), (500, false), (502, false), (404, false)]
        {
            let status = StatusCode::from_u16(status).unwrap();
            let next =
                Retries::default().next(POLICY, status, &HeaderMap::new(), SystemTime::now());
            assert_eq!(next.is_some(), is_busy, "{status}");
        }
    }
}
