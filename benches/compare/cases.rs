//! The loads of the comparison, and the sidecars that each is sent to.

use crate::load::Work;
use crate::measure::{Sample, sample};
use crate::sidecar::{BEARERD, Extra, Kind, OTHER_BUILD, Sidecar};
use crate::world::World;
use std::collections::BTreeMap;
use std::time::Duration;

const PEERS: [Kind; 8] = [
    Kind::Nginx,
    Kind::NginxSilent,
    Kind::NginxLua,
    Kind::Haproxy,
    Kind::Caddy,
    Kind::Envoy,
    Kind::Minimal,
    BEARERD,
];
/// Those with TLS on both sides.
const WITH_TLS: [Kind; 2] = [Kind::NginxTls, Kind::Bearerd(Extra::Tls)];
/// The number of routes in the case with many. The clients follow.
const ROUTES: usize = 200;
const CLIENTS: usize = 50;
pub(crate) const MANY_ROUTES: Kind = Kind::Bearerd(Extra::Routes(ROUTES));
pub(crate) const MANY_CLIENTS: Kind = Kind::Bearerd(Extra::Clients(CLIENTS));
/// The length of a window.
pub(crate) const WINDOW: Duration = Duration::from_secs(1);
/// The bytes of an upload.
const UPLOAD: usize = 1 << 20;

/// A load for several sidecars in turn.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    kinds: &'static [Kind],
    /// Whether throughput is counted in bytes instead of requests.
    pub(crate) is_bulk: bool,
    work: fn(&World, &Sidecar) -> Work,
}

impl Case {
    /// The sidecars that get the load.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = Kind> {
        let is_ours = self.kinds.contains(&BEARERD);
        let other = OTHER_BUILD.get().filter(|_| is_ours);
        self.kinds.iter().copied().chain(other.map(|_| Kind::Bearerd(Extra::OtherBuild)))
    }
}

fn page(world: &World, sidecar: &Sidecar) -> Work {
    Work::get(sidecar.address, "/plain/page.json", &world.page)
}

/// The same page by a route that rewrites its links.
fn linked_page(world: &World, sidecar: &Sidecar) -> Work {
    let page = std::str::from_utf8(&world.page).unwrap();
    let page = page.replace(&world.origin(), &format!("http://{}", sidecar.address));
    Work::get(sidecar.address, "/odata/page.json", &page.into_bytes().into())
}

fn upload(_world: &World, sidecar: &Sidecar) -> Work {
    Work::put(sidecar.address, "/plain/upload", &vec![b'u'; UPLOAD])
}

/// A load in which callers use different routes in turn.
fn ways(world: &World, sidecar: &Sidecar, count: usize) -> Work {
    let ways: Vec<Work> = (0..count)
        .map(|way| Work::get(sidecar.address, &format!("/way-{way}/plain/small"), &world.small))
        .collect();
    Work {
        requests: ways.into_iter().flat_map(|work| work.requests).collect(),
        ..sidecar.small(world)
    }
}

/// The cases with one worker, which has a core to itself.
pub(crate) const ONE_WORKER: &[Case] = &[
    Case {
        name: "small-1",
        title: "1 KB, 1 connection",
        kinds: &PEERS,
        is_bulk: false,
        work: |world, sidecar| sidecar.small(world),
    },
    Case {
        name: "small-64",
        title: "1 KB, 64 connections",
        kinds: &PEERS,
        is_bulk: false,
        work: |world, sidecar| sidecar.small(world).by(64),
    },
    Case {
        name: "tls-64",
        title: "1 KB, 64 connections, TLS on both sides",
        kinds: &WITH_TLS,
        is_bulk: false,
        work: |world, sidecar| sidecar.small(world).by(64),
    },
    Case {
        name: "small-256",
        title: "1 KB, 256 connections",
        kinds: &PEERS,
        is_bulk: false,
        work: |world, sidecar| sidecar.small(world).by(256),
    },
    Case {
        name: "small-1024",
        title: "1 KB, 1,024 connections",
        kinds: &[Kind::Nginx, Kind::NginxLua, Kind::Envoy, Kind::Minimal, BEARERD],
        is_bulk: false,
        work: |world, sidecar| sidecar.small(world).by(1024),
    },
    Case {
        name: "thinking",
        title: "1 KB, 20 connections with pauses of 1 to 9 ms",
        kinds: &PEERS,
        is_bulk: false,
        work: |world, sidecar| sidecar.small(world).by(20).thinking(),
    },
    Case {
        name: "page",
        title: "100 KB, 16 connections",
        kinds: &PEERS,
        is_bulk: false,
        work: |world, sidecar| page(world, sidecar).by(16),
    },
    Case {
        name: "links",
        title: "100 KB of OData with rewritten links, 16 connections",
        kinds: &[BEARERD],
        is_bulk: false,
        work: |world, sidecar| linked_page(world, sidecar).by(16),
    },
    Case {
        name: "stream",
        title: "64 MiB, one reader",
        kinds: &PEERS,
        is_bulk: true,
        work: |world, sidecar| Work::get(sidecar.address, "/plain/stream", &world.stream),
    },
    Case {
        name: "upload",
        title: "Uploads of 1 MiB, 4 connections",
        kinds: &PEERS,
        is_bulk: true,
        work: |world, sidecar| upload(world, sidecar).by(4),
    },
    Case {
        name: "routes",
        title: "1 KB, 64 connections, with 200 more routes",
        kinds: &[MANY_ROUTES],
        is_bulk: false,
        work: |world, sidecar| ways(world, sidecar, ROUTES).by(64),
    },
    Case {
        name: "clients",
        title: "1 KB, 64 connections, with the tokens of 50 more clients",
        kinds: &[MANY_CLIENTS],
        is_bulk: false,
        work: |world, sidecar| ways(world, sidecar, CLIENTS).by(64),
    },
];

/// The cases with two workers, which share both cores with everything else.
pub(crate) const TWO_WORKERS: &[Case] = &[
    Case {
        name: "small-64-two",
        title: "1 KB, 64 connections, two workers",
        kinds: &PEERS,
        is_bulk: false,
        work: |world, sidecar| sidecar.small(world).by(64),
    },
    Case {
        name: "page-two",
        title: "100 KB, 64 connections, two workers",
        kinds: &PEERS,
        is_bulk: false,
        work: |world, sidecar| page(world, sidecar).by(64),
    },
];

/// The samples by the names of case and kind.
pub(crate) type Samples = BTreeMap<(&'static str, String), Vec<Sample>>;

/// The sidecars that these cases need.
pub(crate) fn start(cases: &[&Case], world: &World, workers: usize, cores: &str) -> Vec<Sidecar> {
    let mut sidecars: Vec<Sidecar> = Vec::new();
    for kind in cases.iter().flat_map(|case| case.kinds()) {
        if sidecars.iter().all(|sidecar| sidecar.kind != kind) {
            sidecars.push(Sidecar::ready(kind, world, workers, cores));
        }
    }
    sidecars
}

/// Runs every case on every sidecar in turn, once per round.
pub(crate) fn measure(
    cases: &[&Case],
    world: &World,
    sidecars: &[Sidecar],
    rounds: usize,
    samples: &mut Samples,
) {
    let turns = cases.iter().flat_map(|case| {
        let asked = |sidecar: &&Sidecar| case.kinds().any(|kind| kind == sidecar.kind);
        sidecars.iter().filter(asked).map(move |sidecar| (case, sidecar))
    });
    for (case, sidecar) in std::iter::repeat_n(turns, rounds).flatten() {
        let sample = sample(world, sidecar, &(case.work)(world, sidecar), WINDOW);
        eprintln!("{:>14} {:<22} {sample}", case.name, sidecar.kind.name());
        samples.entry((case.name, sidecar.kind.name())).or_default().push(sample);
        world.trim_logs();
    }
}
