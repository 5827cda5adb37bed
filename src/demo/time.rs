//! Wall clock and delays.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970 by the wall clock, the unit of `iat` and `exp`.
pub(super) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Waits for the number of milliseconds that a `…_delay_ms` has.
pub(super) async fn delay(milliseconds: u64) {
    if milliseconds > 0 {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
}

/// Never returns. The request ends when the client gives up or the tenant stops.
pub(super) async fn hang<T>() -> T {
    std::future::pending().await
}
