//! What valgrind's callgrind counts in one run of a process.

use serde::Deserialize;
use std::collections::HashMap;
use std::fs;
use std::ops::Sub;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// Simulated caches: first-level code, first-level data, last level (bytes, ways, bytes a line).
/// They are fixed so that the figures of two machines compare.
const CACHES: [&str; 3] = ["--I1=32768,8,64", "--D1=32768,8,64", "--LL=8388608,16,64"];
/// A part of the names of functions that run only in a worker.
const SERVING: &str = "ProxyHttp>::logging";
/// The beginning of the names of mimalloc's functions.
const ALLOCATOR: [&str; 2] = ["mi_", "_mi_"];
/// Functions of mimalloc that allocate.
const ALLOCATING: [&str; 3] = ["mi_malloc", "mi_zalloc", "mi_realloc"];

/// Counts of a run, or of one request.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Counts {
    /// Executed instructions in user space. `rep movsb`, by which the C library copies 2 KiB and
    /// more, counts once for each byte.
    pub(crate) instructions: u64,
    /// Instruction fetches that the first-level cache did not hold.
    pub(crate) code_misses: u64,
    /// Reads and writes that the first-level cache did not hold.
    pub(crate) data_misses: u64,
    /// Calls of the allocator for memory.
    pub(crate) allocations: u64,
}

/// A measure: its name, and its count.
pub(crate) type Measure = (&'static str, fn(&Counts) -> u64);

impl Counts {
    /// The measures in the order in which they are written.
    pub(crate) const MEASURES: [Measure; 4] = [
        ("instructions", |counts| counts.instructions),
        ("code_misses", |counts| counts.code_misses),
        ("data_misses", |counts| counts.data_misses),
        ("allocations", |counts| counts.allocations),
    ];

    /// Reads what callgrind wrote at the end of the process about the thread that serves requests.
    /// Other threads work by the time that passes, which depends on the load of the machine.
    pub(crate) fn read(profile: &Path) -> Self {
        let text = worker(profile);
        let line = |prefix: &str| text.lines().find_map(|line| line.strip_prefix(prefix)).unwrap();
        let events = line("events: ").split_whitespace();
        let totals = line("totals: ").split_whitespace().map(|count| count.parse().unwrap());
        let totals: HashMap<&str, u64> = events.zip(totals).collect();
        Self {
            instructions: totals["Ir"],
            code_misses: totals["I1mr"],
            data_misses: totals["D1mr"] + totals["D1mw"],
            allocations: allocations(&text),
        }
    }

    /// The counts of one of these requests.
    pub(crate) const fn of_one(self, requests: u64) -> Self {
        Self {
            instructions: self.instructions / requests,
            code_misses: self.code_misses / requests,
            data_misses: self.data_misses / requests,
            allocations: self.allocations / requests,
        }
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            instructions: self.instructions - other.instructions,
            code_misses: self.code_misses - other.code_misses,
            data_misses: self.data_misses - other.data_misses,
            allocations: self.allocations - other.allocations,
        }
    }
}

/// A command that runs this binary under callgrind.
pub(crate) fn command(binary: &str, profile: &Path, log: &Path) -> Command {
    // An earlier run may have had more threads.
    for file in threads(profile).collect::<Vec<_>>() {
        fs::remove_file(file).unwrap();
    }
    let mut command = Command::new("valgrind");
    command.env_clear();
    command.args(["--tool=callgrind", "--cache-sim=yes", "--separate-threads=yes"]).args(CACHES);
    command.arg(format!("--callgrind-out-file={}", profile.display()));
    command.arg(format!("--log-file={}", log.display()));
    command.arg(binary);
    command
}

/// The files of the process's threads: `profile-01`, and so on.
fn threads(profile: &Path) -> impl Iterator<Item = PathBuf> {
    let of_thread = move |number: usize| {
        let mut path = profile.as_os_str().to_owned();
        path.push(format!("-{number:02}"));
        PathBuf::from(path)
    };
    (1..).map(of_thread).take_while(|path| path.exists())
}

/// The figures of the thread that serves requests.
fn worker(profile: &Path) -> String {
    let mut threads = threads(profile).map(|path| fs::read_to_string(path).unwrap());
    threads.find(|text| text.contains(SERVING)).expect("a thread serves requests")
}

/// How many times a function that is not mimalloc's called one of mimalloc that allocates. The
/// format is that of callgrind: `fn=(1) name` begins a function, `cfn=(2) name` and `calls=3 …` are
/// its calls. Later, a number stands for its name.
fn allocations(text: &str) -> u64 {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let (mut caller, mut callee, mut count) = ("", "", 0);
    for line in text.lines() {
        if let Some(entry) = line.strip_prefix("fn=") {
            caller = resolved(&mut names, entry);
        } else if let Some(entry) = line.strip_prefix("cfn=") {
            callee = resolved(&mut names, entry);
        } else if let Some(calls) = line.strip_prefix("calls=") {
            let starts = |prefixes: &[&str], name: &str| {
                prefixes.iter().any(|prefix| name.starts_with(prefix))
            };
            if starts(&ALLOCATING, callee) && !starts(&ALLOCATOR, caller) {
                count += calls.split(' ').next().unwrap().parse::<u64>().unwrap();
            }
        }
    }
    assert!(count > 0, "the binary has mimalloc's names");
    count
}

/// The name of an entry `(1) name`, or `(1)` if the name was given before.
fn resolved<'t>(names: &mut HashMap<&'t str, &'t str>, entry: &'t str) -> &'t str {
    match entry.split_once(' ') {
        Some((number, name)) => {
            names.insert(number, name);
            name
        }
        None => names[entry],
    }
}
