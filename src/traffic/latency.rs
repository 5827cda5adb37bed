//! Times of requests, in buckets that are each 41 % longer than the one before.

use std::ops::AddAssign;
use std::time::Duration;

/// The upper bound of the first bucket.
const SHORTEST: Duration = Duration::from_micros(500);
/// The last bucket begins at six minutes.
const BUCKETS: usize = 40;

/// How many requests took how long.
#[derive(Clone, Debug)]
pub(super) struct Latencies([u32; BUCKETS]);

impl Default for Latencies {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Latencies {
    pub(super) fn add(&mut self, took: Duration) {
        if let Some(count) = self.0.get_mut(bucket(took)) {
            *count = count.saturating_add(1);
        }
    }

    /// The time that this share of the requests took at most, to the bound of a bucket.
    pub(super) fn quantile(&self, share: f64) -> Option<Duration> {
        let all: u64 = self.0.iter().copied().map(u64::from).sum();
        if all == 0 {
            return None;
        }
        let mut seen = 0;
        let bucket = self.0.iter().position(|count| {
            seen += u64::from(*count);
            seen as f64 >= share * all as f64
        });
        bucket.map(bound)
    }
}

impl AddAssign<&Self> for Latencies {
    fn add_assign(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count = count.saturating_add(more);
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is clamped before")]
fn bucket(took: Duration) -> usize {
    let steps = (took.as_secs_f64() / SHORTEST.as_secs_f64()).log2() * 2.0;
    steps.ceil().clamp(0.0, (BUCKETS - 1) as f64) as usize
}

/// The longest time of a bucket.
fn bound(bucket: usize) -> Duration {
    SHORTEST.mul_f64((bucket as f64 / 2.0).exp2())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_a_bucket() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        for milliseconds in 1..=100 {
            latencies.add(Duration::from_millis(milliseconds));
        }
        for (share, exact) in [(0.5, 0.050), (0.95, 0.095), (1.0, 0.1)] {
            let found = latencies.quantile(share).unwrap().as_secs_f64();
            assert!(found >= exact && found < exact * 1.42, "{share}: {found}");
        }
    }

    #[test]
    fn the_shortest_and_the_longest_have_a_place() {
        for took in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            let mut latencies = Latencies::default();
            latencies.add(took);
            assert!(latencies.quantile(0.5).is_some(), "{took:?}");
        }
    }
}
