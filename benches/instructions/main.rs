//! What one request costs, counted: instructions, cache misses and allocations. The load of the
//! machine does not affect the figures, so that they guard against slow code.
//!
//! The binary runs under valgrind's callgrind, once for few requests and once for many, so that the
//! start and the end cancel out. `make instructions` compares with `figures.yaml`. The binary is
//! built alone: a build with tests and benches adds features of libraries, for example tokio's
//! clock that can be paused.
//!
//! Without `--measure`, as `cargo test` runs it, one request of each kind is sent and not counted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout)]

mod callgrind;
mod figures;
#[path = "../loopback.rs"]
mod loopback;
#[path = "../world.rs"]
mod world;

use callgrind::Counts;
use figures::Figures;
use futures_util::stream::{self, StreamExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;
use world::{KINDS, MANY_CLIENTS, USUAL, WITH_CALLERS, World};

/// The numbers of requests in the short and the long run. The instructions vary by a few
/// thousandths.
const FEW: u32 = 100;
const MANY: u32 = 600;
/// Runs at once, more than the cores: a long run must not keep the next ones waiting.
const AT_ONCE: usize = 4;
/// The longest run on a busy machine.
const DEADLINE: Duration = Duration::from_secs(240);

/// The file of callgrind's figures of a run.
fn profile(run: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("instructions-{run}.callgrind"))
}

/// 1 KB from an upstream that many clients use: the answer is searched for the tokens of all.
const CLIENTS: (&str, &str) = ("clients", "/client-0/x");

/// The same as `tls`, from the last of ten callers with names. The difference is the cost of
/// callers.
const CALLERS: (&str, &str) = ("callers", "/tls/x?caller");

/// All kinds of requests.
fn kinds() -> impl Iterator<Item = (&'static str, &'static str)> {
    KINDS.into_iter().chain([CLIENTS, CALLERS])
}

/// Starts the sidecar, sends this many requests one after the other, and ends it.
async fn run(world: &World, command: Command, path: &str, requests: u32) {
    let configuration = match path {
        path if path == CLIENTS.1 => MANY_CLIENTS,
        path if path == CALLERS.1 => WITH_CALLERS,
        _ => USUAL,
    };
    let sidecar = world.start_sidecar(command, configuration).await;
    world.send(&sidecar, path, requests).await;
    sidecar.end().await;
}

/// The counts of a whole run.
async fn count(world: &World, binary: &str, (kind, path): (&str, &str), requests: u32) -> Counts {
    let name = format!("{kind}-{requests}");
    let profile = profile(&name);
    // valgrind's own messages must not get into the sidecar's log.
    let log = world.file(&format!("valgrind-{name}"));
    let command = callgrind::command(binary, &profile, &log);
    timeout(DEADLINE, run(world, command, path, requests)).await.expect("it ends in time");
    Counts::read(&profile)
}

#[tokio::main]
async fn main() -> ExitCode {
    let before = Figures::read();
    let world = World::start().await;
    let mut arguments = std::env::args().skip_while(|argument| argument != "--measure").skip(1);
    let Some(binary) = arguments.next() else {
        for (_, path) in kinds() {
            let mut command = Command::new(env!("CARGO_BIN_EXE_bearerd"));
            command.env_clear();
            run(&world, command, path, 1).await;
        }
        return ExitCode::SUCCESS;
    };
    let mut now = Figures::here().await;
    // The counts do not depend on the load of the machine, so several runs go on at once.
    let runs = kinds().flat_map(|kind| [FEW, MANY].map(|requests| (kind, requests)));
    let counts = runs.map(|(kind, requests)| count(&world, &binary, kind, requests));
    let counts: Vec<Counts> = stream::iter(counts).buffered(AT_ONCE).collect().await;
    for (kind, counts) in kinds().zip(counts.chunks(2)) {
        now.insert(kind.0, (counts[1] - counts[0]).of_one(u64::from(MANY - FEW)));
    }
    let option = arguments.next();
    if option.as_deref() == Some("--renew") {
        println!("{}", now.write());
        return ExitCode::SUCCESS;
    }
    let is_other = option.as_deref() == Some("--other-build");
    if now.are_as_good_as(&before, is_other, |kind| profile(&format!("{kind}-{MANY}"))) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
