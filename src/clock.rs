//! The machine's clocks, read in one place so that tests can set them: the one by which tokens and addresses age,
//! and the wall clock.
//!
//! Tokens age by `CLOCK_BOOTTIME`. It can't be set, and it runs while the machine sleeps. It stands still while a
//! hypervisor pauses the machine: afterwards only the wall clock is set forward, which `Pace` notices.

pub mod instant;

pub use instant::Instant;
use std::time::{Duration, SystemTime};

impl Instant {
    /// The present moment. No system call where the kernel shares its clock with processes.
    pub fn now() -> Self {
        Self::at(source::since_boot())
    }

    /// How long ago it was.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now().saturating_duration_since(self)
    }
}

/// What the wall clock says. It may be wrong, and it may be set at any time.
pub(crate) fn wall() -> SystemTime {
    source::wall()
}

/// A time moved by so many seconds, back if they are negative.
pub(crate) fn moved(time: SystemTime, seconds: f64) -> SystemTime {
    let by = Duration::try_from_secs_f64(seconds.abs()).unwrap_or_default();
    let moved = if seconds < 0.0 { time.checked_sub(by) } else { time.checked_add(by) };
    moved.unwrap_or(time)
}

/// How many seconds one time is ahead of another; negative if it is behind.
pub(crate) fn ahead(time: SystemTime, of: SystemTime) -> f64 {
    match time.duration_since(of) {
        Ok(ahead) => ahead.as_secs_f64(),
        Err(behind) => -behind.duration().as_secs_f64(),
    }
}

/// Compares the wall clock with the one by which tokens age.
#[derive(Debug)]
pub(crate) struct Pace {
    at: Instant,
    wall: SystemTime,
}

/// A difference that is worth a notice. Daemons that keep the time correct less than this at a time.
const STEP: f64 = 2.0;

impl Pace {
    /// Begins with what both say at one moment.
    pub(crate) const fn new(at: Instant, wall: SystemTime) -> Self {
        Self { at, wall }
    }

    /// By how many seconds the wall clock was set since the last step, if it was.
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
        // Neither is ever negative.
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
    }

    pub(super) fn wall() -> SystemTime {
        SystemTime::now()
    }
}

/// Clocks that follow tokio's, which tests pause, and that are each thread's own.
#[cfg(test)]
mod source {
    use std::cell::Cell;
    use std::sync::LazyLock;
    use std::time::{Duration, SystemTime};
    use tokio::time::Instant;

    /// Beside it, tests may go back by a day.
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

/// What happens to the clocks of a machine: for tests, and for the calling thread alone.
#[cfg(test)]
pub(crate) mod machine {
    use super::source::{SET, SLEPT};
    use std::time::Duration;

    /// Sleeps. tokio's clock, and its timers, stand still in that time.
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
        assert_eq!(before.elapsed(), seconds(9 * 3600 + 10), "whatever the wall clock says");
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
            assert_eq!(step(), None, "told once");
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
