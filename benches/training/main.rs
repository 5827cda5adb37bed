//! The training run of `make dist`: a binary that counts its own branches does what sidecars do.
//! Its profile decides how the shipped binary is laid out.
//!
//! It starts cold several times, serves every kind of request of the instruction guard to few
//! callers and to many, and reads, writes and uploads through a demo tenant, over HTTP/1.1 and
//! HTTP/2 upstream.
//!
//! Without `--train BINARY`, as `cargo test` runs it, each step runs once, with the binary of the
//! tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../loopback.rs"]
mod loopback;
mod tenant;
#[path = "../world.rs"]
mod world;

use futures_util::future::join_all;
use std::ffi::OsString;
use tokio::process::Command;
use world::{KINDS, USUAL, World};

/// How much of each step is done.
#[derive(Clone, Copy)]
struct Amount {
    /// Starts of the sidecar, each with one request of each kind.
    starts: u32,
    /// Concurrent callers.
    callers: u32,
    /// Requests of each caller and kind.
    requests: u32,
    /// Rounds of reads, writes and uploads of each caller of the demo tenant.
    rounds: u32,
}

const ONCE: Amount = Amount { starts: 1, callers: 1, requests: 1, rounds: 1 };
/// The amount of training. Most sidecars serve small answers to few callers.
const TRAINING: Amount = Amount { starts: 6, callers: 24, requests: 120, rounds: 12 };

/// A command that starts the binary with an empty environment, except for where its profile goes.
fn command(binary: &str) -> Command {
    const PROFILE: &str = "LLVM_PROFILE_FILE";
    let profile: Option<OsString> = std::env::var_os(PROFILE);
    let mut command = Command::new(binary);
    command.env_clear().envs(profile.map(|path| (PROFILE, path)));
    command
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--train").skip(1);
    let (binary, amount) = match arguments.next() {
        Some(binary) => (binary, TRAINING),
        None => (env!("CARGO_BIN_EXE_bearerd").to_owned(), ONCE),
    };
    let world = World::start().await;
    for _ in 0..amount.starts {
        let sidecar = world.start_sidecar(command(&binary), USUAL).await;
        for (_, path) in KINDS {
            world.send(&sidecar, path, 1).await;
        }
        sidecar.end().await;
    }
    let sidecar = world.start_sidecar(command(&binary), USUAL).await;
    for (_, path) in KINDS {
        // First one caller alone, as most tools are.
        world.send(&sidecar, path, amount.requests).await;
        let callers = (0..amount.callers).map(|_| world.send(&sidecar, path, amount.requests));
        join_all(callers).await;
    }
    sidecar.end().await;
    for http2 in [false, true] {
        tenant::train(command(&binary), http2, amount.callers, amount.rounds).await;
    }
}
