//! `Retry-After`: how long a server asks to wait (RFC 9110 section 10.2.3).

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};
use std::time::{Duration, SystemTime};

/// The time to wait, given in seconds or as a date. A date in the past is zero.
///
/// A date is by the server's clock, so it is compared with the response's own `Date`, or with the
/// local clock if there is none.
pub(crate) fn read(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let now = server_time(headers).unwrap_or(now);
    Some(date.duration_since(now).unwrap_or_default())
}

/// The server's clock when it responded (RFC 9110 section 6.6.1).
pub(crate) fn server_time(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn it_is_read_in_both_forms() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let asked = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            read(&headers, now).map(|asked| asked.as_secs())
        };
        assert_eq!(asked("7"), Some(7));
        assert_eq!(asked(&httpdate::fmt_http_date(now + Duration::from_secs(9))), Some(9));
        assert_eq!(asked(&httpdate::fmt_http_date(now - Duration::from_secs(9))), Some(0));
        assert_eq!(asked("soon"), None);
        assert_eq!(asked("-3"), None);
    }

    #[test]
    fn a_date_is_compared_with_the_servers_own_clock() {
        let theirs = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let headers = HeaderMap::from_iter([
            (DATE, httpdate::fmt_http_date(theirs).parse().unwrap()),
            (
                RETRY_AFTER,
                httpdate::fmt_http_date(theirs + Duration::from_secs(9)).parse().unwrap(),
            ),
        ]);
        for ours in [theirs - Duration::from_secs(7200), theirs + Duration::from_secs(7200)] {
            assert_eq!(read(&headers, ours), Some(Duration::from_secs(9)));
        }
    }
}
