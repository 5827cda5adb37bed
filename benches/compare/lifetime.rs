//! Start, memory and size of a sidecar, and the cost of its own work for callers.

use crate::load::{Idle, Load, first_answer};
use crate::measure::{Sample, median, sample};
use crate::process::Memory;
use crate::sidecar::{BEARERD, Extra, Kind, OTHER_BUILD, Sidecar};
use crate::world::World;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// The sidecars whose start and memory are measured.
fn kinds() -> Vec<Kind> {
    let other = OTHER_BUILD.get().map(|_| Kind::Bearerd(Extra::OtherBuild));
    let kinds = [Kind::Nginx, Kind::Haproxy, Kind::Envoy, Kind::Minimal, BEARERD];
    kinds.into_iter().chain(other).collect()
}

const IDLE_CONNECTIONS: usize = 1000;
const BUSY_CONNECTIONS: usize = 256;
const LOAD: Duration = Duration::from_secs(3);
/// The time from the end of the last connection to the last memory measurement.
const REST: Duration = Duration::from_secs(30);
/// The time that the issuer takes for a token while starts are timed.
pub(crate) const ISSUER: Duration = Duration::from_millis(100);
/// The interval of scrapes. It is much shorter than any Prometheus has.
const SCRAPE: Duration = Duration::from_millis(100);

/// The milliseconds from the start of the process to its first right response.
pub(crate) fn starts(world: &World, rounds: usize) -> Vec<(Kind, f64)> {
    world.issuer.delay(ISSUER);
    let mut took: Vec<(Kind, Vec<f64>)> =
        kinds().into_iter().map(|kind| (kind, Vec::new())).collect();
    for _ in 0..rounds {
        for (kind, took) in &mut took {
            let sidecar = Sidecar::start(*kind, world, 1, "1");
            let first = first_answer(sidecar.address, &sidecar.small(world));
            took.push(first.as_secs_f64() * 1e3);
        }
    }
    world.issuer.delay(Duration::ZERO);
    took.into_iter().map(|(kind, took)| (kind, median(&took, |took| *took))).collect()
}

/// The memory of a sidecar at points of its life.
pub(crate) struct Held {
    pub(crate) kind: Kind,
    pub(crate) idle: Memory,
    pub(crate) idle_connections: Memory,
    pub(crate) busy: Memory,
    pub(crate) after: Memory,
    /// The size of the binary in megabytes.
    pub(crate) program: f64,
}

/// Measures the memory of fresh sidecars that run side by side.
pub(crate) fn memory(world: &World) -> Vec<Held> {
    let sidecars: Vec<Sidecar> =
        kinds().into_iter().map(|kind| Sidecar::ready(kind, world, 1, "1")).collect();
    let mut held: Vec<Held> = sidecars
        .iter()
        .map(|sidecar| Held {
            kind: sidecar.kind,
            idle: sidecar.process.memory(),
            idle_connections: Memory::default(),
            busy: Memory::default(),
            after: Memory::default(),
            program: sidecar.kind.program().metadata().unwrap().len() as f64 / 1e6,
        })
        .collect();
    for (sidecar, held) in sidecars.iter().zip(&mut held) {
        let work = sidecar.small(world);
        let connections = Idle::open(sidecar.address, &work.clone().by(IDLE_CONNECTIONS));
        held.idle_connections = sidecar.process.memory();
        drop(connections);
        let load = Load::start(sidecar.address, &work.by(BUSY_CONNECTIONS));
        std::thread::sleep(LOAD);
        held.busy = sidecar.process.memory();
        drop(load);
    }
    std::thread::sleep(REST);
    for (sidecar, held) in sidecars.iter().zip(&mut held) {
        held.after = sidecar.process.memory();
    }
    held
}

/// Response times with and without other work of the sidecar.
pub(crate) struct Steadiness {
    pub(crate) quiet: Vec<Sample>,
    pub(crate) scraped: Vec<Sample>,
    pub(crate) refreshed: Vec<Sample>,
}

/// A window that is long enough for a token refresh.
const STEADY: Duration = Duration::from_secs(4);

/// Measures windows in turn: without other work, with a scrape every 100 ms, with a token refresh.
pub(crate) fn steadiness(world: &World, rounds: usize) -> Steadiness {
    let [quiet, short] = [Extra::Nothing, Extra::ShortTokens]
        .map(|extra| Sidecar::ready(Kind::Bearerd(extra), world, 1, "1"));
    let measure = |sidecar: &Sidecar| sample(world, sidecar, &sidecar.small(world).by(64), STEADY);
    let mut steadiness =
        Steadiness { quiet: Vec::new(), scraped: Vec::new(), refreshed: Vec::new() };
    for _ in 0..rounds {
        steadiness.quiet.push(measure(&quiet));
        let scraping = Scraping::start(quiet.admin);
        steadiness.scraped.push(measure(&quiet));
        drop(scraping);
        let issued = world.issuer.issued();
        steadiness.refreshed.push(measure(&short));
        assert!(world.issuer.issued() > issued, "no token was refreshed in the window");
        world.trim_logs();
    }
    steadiness
}

/// Scrapes until it is dropped.
struct Scraping(Arc<AtomicBool>);

impl Scraping {
    fn start(admin: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        std::thread::spawn(move || {
            while !stopped.load(Relaxed) {
                let mut stream = TcpStream::connect(admin).unwrap();
                let request =
                    format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
                stream.write_all(request.as_bytes()).unwrap();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).unwrap();
                assert!(answer.starts_with(b"HTTP/1.1 200 "));
                std::thread::sleep(SCRAPE);
            }
        });
        Self(stop)
    }
}

impl Drop for Scraping {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
