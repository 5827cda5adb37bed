//! Moments on the clock by which tokens age. Pure: [`super`] reads that clock.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment on a clock that also runs while the machine sleeps.
///
/// tokio's clock stands still then: by it, a token would count as fresh after a night in a closed lid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

impl Instant {
    /// The moment this long after the clock's zero.
    pub const fn at(since_zero: Duration) -> Self {
        Self(since_zero)
    }

    /// How long it is after another one; zero if it is before that.
    #[must_use]
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }
}

/// Not before the clock's zero.
impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, earlier: Duration) -> Self {
        Self(self.0.saturating_sub(earlier))
    }
}

/// Zero if the other one is later.
impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}
