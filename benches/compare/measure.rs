//! A measurement: a warm load, a window, and the resources that the proxy used in it.

use crate::load::{Load, Work};
use crate::process::{Cpu, machine_busy, own_cpu};
use crate::sidecar::Sidecar;
use crate::world::World;
use std::fmt;
use std::time::{Duration, Instant};

/// The share of a window that other processes may use. A window with more is measured again.
const FOREIGN: f64 = 0.06;
/// The largest number of attempts for a window. After them, the quietest one counts.
const TRIES: usize = 3;
/// The time that a load runs before its window.
const WARM_UP: Duration = Duration::from_millis(300);

/// The result of a load on a sidecar.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) user_us: f64,
    pub(crate) system_us: f64,
    pub(crate) per_second: f64,
    pub(crate) bytes_per_second: f64,
    /// Response times in microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// The CPU seconds for 10^9 bytes.
    pub(crate) cpu_per_gb: f64,
    foreign: f64,
}

impl Sample {
    /// The CPU microseconds for a request.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.user_us + self.system_us
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user_us, system_us, per_second, p50, p99, cpu_per_gb, .. } = self;
        write!(f, "{:7.1} us ({user_us:.1} + {system_us:.1}), ", self.cpu_us())?;
        write!(f, "{per_second:.0}/s, p50 {p50:.0} us, p99 {p99:.0} us, {cpu_per_gb:.3} s/GB")
    }
}

/// Measures a window, again if other processes kept the machine busy.
pub(crate) fn sample(world: &World, sidecar: &Sidecar, work: &Work, window: Duration) -> Sample {
    let mut best: Option<Sample> = None;
    for _ in 0..TRIES {
        let sample = once(world, sidecar, work, window);
        if best.is_none_or(|best| sample.foreign < best.foreign) {
            best = Some(sample);
        }
        if sample.foreign <= FOREIGN {
            break;
        }
    }
    best.unwrap()
}

fn once(world: &World, sidecar: &Sidecar, work: &Work, window: Duration) -> Sample {
    let load = Load::start(sidecar.address, work);
    std::thread::sleep(WARM_UP);
    load.begin();
    let busy = || (machine_busy(), own_cpu().total() + world.upstream_cpu());
    let (since, count, cpu, before) = (Instant::now(), load.count(), sidecar.process.cpu(), busy());
    std::thread::sleep(window);
    let (elapsed, cpu, end, after) =
        (since.elapsed().as_secs_f64(), sidecar.process.cpu().since(cpu), load.count(), busy());
    let took = load.end();
    let (answers, bytes) = ((end.0 - count.0) as f64, (end.1 - count.1) as f64);
    let Cpu { user, system } = cpu;
    let own = after.1 - before.1 + cpu.total();
    let at = |share: f64| {
        let index = ((took.len() as f64 * share) as usize).min(took.len().saturating_sub(1));
        took.get(index).map_or(f64::NAN, |took| took.as_secs_f64() * 1e6)
    };
    Sample {
        user_us: user * 1e6 / answers,
        system_us: system * 1e6 / answers,
        per_second: answers / elapsed,
        bytes_per_second: bytes / elapsed,
        p50: at(0.5),
        p99: at(0.99),
        cpu_per_gb: cpu.total() * 1e9 / bytes,
        foreign: (after.0 - before.0 - own) / elapsed,
    }
}

/// The median of a value of these samples.
pub(crate) fn median<T>(samples: &[T], of: impl Fn(&T) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}
