//! `Retry-After`: when a server wants to be asked again (RFC 9110 section 10.2.3).

use http::HeaderMap;
use http::header::RETRY_AFTER;
use std::time::{Duration, SystemTime};

/// In seconds or as a date. A date in the past is zero.
pub(crate) fn read(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
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
}
