//! `make compare`: bearerd beside nginx, HAProxy and Envoy, each as the same sidecar over the same
//! verified TLS upstream.
//!
//! With one worker, the sidecar has core 1 to itself, and upstream and callers share core 0. Every
//! byte of every response is compared, and the upstream requires the token. CPU time is the
//! kernel's figure for the sidecar's processes in a window in which all connections are warm. A
//! noisy machine affects this figure least.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout, clippy::print_stderr)]
// It measures real time, and has no worker to block.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod cases;
mod lifetime;
mod load;
mod measure;
mod minimal;
mod picture;
mod process;
mod report;
mod sidecar;
mod world;

use cases::{Case, ONE_WORKER, Samples, TWO_WORKERS};
use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::path::PathBuf;
use world::World;

/// The minimal proxy has bearerd's allocator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[derive(Parser)]
struct Arguments {
    /// The bearerd to measure.
    #[arg(long)]
    measure: Option<PathBuf>,
    /// Runs everything once, for a rough result.
    #[arg(long, conflicts_with = "rounds")]
    quick: bool,
    /// The number of rounds. The median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Runs only the cases whose name begins with this.
    #[arg(long, conflicts_with = "write")]
    only: Option<String>,
    /// Another build of bearerd to measure beside this one.
    #[arg(long)]
    against: Option<PathBuf>,
    /// What distinguishes that build, for the tables.
    #[arg(long, default_value = "the other build")]
    against_name: String,
    /// Writes the tables into docs/performance.md, and draws its picture.
    #[arg(long)]
    write: bool,
    /// The flag that cargo gives to benches.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs as the minimal pingora proxy.
    #[command(hide = true)]
    Minimal { configuration: PathBuf },
}

fn main() {
    let arguments = Arguments::parse();
    if let Some(Command::Minimal { configuration }) = arguments.command {
        minimal::run(&configuration);
    }
    let Some(build) = arguments.measure else {
        // `cargo test` only checks that it runs. The peers may not be installed.
        return;
    };
    sidecar::BUILD.set(build.canonicalize().unwrap()).unwrap();
    if let Some(build) = arguments.against {
        sidecar::OTHER_BUILD.set(build.canonicalize().unwrap()).unwrap();
        sidecar::OTHER_NAME.set(arguments.against_name).unwrap();
    }
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();

    let rounds = if arguments.quick { 1 } else { arguments.rounds };
    let is_wanted = |name: &str| arguments.only.as_ref().is_none_or(|only| name.starts_with(only));
    let wanted = |cases: &'static [Case]| -> Vec<&'static Case> {
        cases.iter().filter(|case| is_wanted(case.name)).collect()
    };
    let mut report = report::Report::new(rounds);
    let mut samples = Samples::new();

    process::pin("0");
    let world = World::start("0");
    let cases = wanted(ONE_WORKER);
    cases::measure(&cases, &world, &cases::start(&cases, &world, 1, "1"), rounds, &mut samples);
    report.cases(&cases, &samples);
    if is_wanted("steadiness") {
        report.steadiness(&lifetime::steadiness(&world, rounds));
    }
    if is_wanted("memory") {
        report.memory(&lifetime::memory(&world));
    }
    if is_wanted("start") {
        report.starts(&lifetime::starts(&world, rounds));
    }
    drop(world);

    process::pin("0,1");
    let world = World::start("0,1");
    let cases = wanted(TWO_WORKERS);
    cases::measure(&cases, &world, &cases::start(&cases, &world, 2, "0,1"), rounds, &mut samples);
    report.cases(&cases, &samples);
    if arguments.only.is_none() {
        report.goals(&samples);
    }

    println!("{}", report.text());
    if arguments.write {
        report.write();
        let cases: Vec<&Case> = ONE_WORKER.iter().chain(TWO_WORKERS).collect();
        report::write_picture(&picture::draw(&cases, &samples));
    }
}
