//! Clocks of the machine, read in one place so that tests can set them: the clock by which tokens
//! and addresses age, and the wall clock.
//!
//! Tokens age by `CLOCK_BOOTTIME`. It cannot be set, and it runs while the machine sleeps. It
//! stands still while a hypervisor pauses the machine. Afterwards only the wall clock is set
//! forward, which `Pace` detects.

pub mod instant;

pub use instant::Instant;
use std::time::{Duration, SystemTime};

impl Instant {
    /// Returns the present moment, without a system call where the kernel has a vDSO.
    pub fn now() -> Self {
        Self::at(source::since_boot())
    }

    /// Returns the time since this moment.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now().saturating_duration_since(self)
    }
}

/// Returns the time of the wall clock. It may be wrong, and it may be set at any time.
pub(crate) fn wall() -> SystemTime {
    source::wall()
}

/// Returns a time moved by this many seconds, back if they are negative.
pub(crate) fn moved(time: SystemTime, seconds: f64) -> SystemTime {
    let by = Duration::try_from_secs_f64(seconds.abs()).unwrap_or_default();
    let moved = if seconds < 0.0 { time.checked_sub(by) } else { time.checked_add(by) };
    moved.unwrap_or(time)
}

/// Returns how many seconds one time is ahead of another; negative if it is behind.
pub(crate) fn ahead(time: SystemTime, of: SystemTime) -> f64 {
    match time.duration_since(of) {
        Ok(ahead) => ahead.as_secs_f64(),
        Err(behind) => -behind.duration().as_secs_f64(),
    }
}

/// Comparison of the wall clock with the clock by which tokens age.
#[derive(Debug)]
pub(crate) struct Pace {
    at: Instant,
    wall: SystemTime,
}

/// Least difference, in seconds, that counts as set. Daemons that keep the time correct it by less
/// at once.
const STEP: f64 = 2.0;

impl Pace {
    /// Creates a comparison from the times of both clocks at one moment.
    pub(crate) const fn new(at: Instant, wall: SystemTime) -> Self {
        Self { at, wall }
    }

    /// Returns by how many seconds the wall clock was set since the last step, if it was.
    pub(crate) fn step(&mut self, at: Instant, wall: SystemTime) -> Option<f64> {
        let step = ahead(wall, self.wall) - (at - self.at).as_secs_f64();
        if step.abs() < STEP {
            return None;
        }
        *self = Self::new(at, wall);
        Some(step)
    }
}

#[cfg(not(test))]
mod source {
    use rustix::time::{ClockId, clock_gettime};
    use std::time::{Duration, SystemTime};

    pub(super) fn since_boot() -> Duration {
        let now = clock_gettime(ClockId::Boottime);
        // Neither part is ever negative.
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
    }

    pub(super) fn wall() -> SystemTime {
        SystemTime::now()
    }
}

/// Clocks of each thread that follow tokio's clock, which tests pause.
#[cfg(test)]
mod source {
    use std::cell::Cell;
    use std::sync::LazyLock;
    use std::time::{Duration, SystemTime};
    use tokio::time::Instant;

    /// Time before the start to which tests may go back.
    const DAY: Duration = Duration::from_secs(24 * 3600);

    static ZERO: LazyLock<(Instant, SystemTime)> =
        LazyLock::new(|| (Instant::now() - DAY, SystemTime::now() - DAY));

    thread_local! {
        pub(super) static SLEPT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
        pub(super) static SET: Cell<f64> = const { Cell::new(0.0) };
    }

    pub(super) fn since_boot() -> Duration {
        Instant::now().saturating_duration_since(ZERO.0) + SLEPT.get()
    }

    pub(super) fn wall() -> SystemTime {
        super::moved(ZERO.1 + since_boot(), SET.get())
    }
}

/// Events that change a machine's clocks, for the calling thread of a test.
#[cfg(test)]
pub(crate) mod machine {
    use super::source::{SET, SLEPT};
    use std::time::Duration;

    /// Lets the machine sleep. tokio's clock and its timers stand still in that time.
    pub(crate) fn sleep(length: Duration) {
        SLEPT.set(SLEPT.get() + length);
    }

    /// Sets the wall clock forward, or back.
    pub(crate) fn set_wall_clock(seconds: f64) {
        SET.set(SET.get() + seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn moments_pass_while_the_machine_sleeps_and_while_tokio_advances() {
        let before = Instant::now();
        tokio::time::advance(seconds(10)).await;
        assert_eq!(before.elapsed(), seconds(10));
        machine::sleep(seconds(9 * 3600));
        assert_eq!(before.elapsed(), seconds(9 * 3600 + 10));
        machine::set_wall_clock(-7200.0);
        assert_eq!(before.elapsed(), seconds(9 * 3600 + 10), "the wall clock does not matter");
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_wall_clock_that_was_set_is_noticed() {
        let mut pace = Pace::new(Instant::now(), wall());
        let mut step = || pace.step(Instant::now(), wall());
        tokio::time::advance(seconds(100)).await;
        machine::sleep(seconds(9 * 3600));
        assert_eq!(step(), None, "both ran on");
        for set in [7200.0, -7200.0] {
            machine::set_wall_clock(set);
            assert!(step().is_some_and(|step| (step - set).abs() < 0.001));
            assert_eq!(step(), None, "reported once");
        }
    }

    #[test]
    fn times_are_moved_and_compared_in_both_directions() {
        let time = SystemTime::UNIX_EPOCH + seconds(1000);
        for by in [90.0, -90.0, 0.0] {
            assert_eq!(ahead(moved(time, by), time), by);
        }
        assert_eq!(moved(time, f64::NAN), time);
    }
}
