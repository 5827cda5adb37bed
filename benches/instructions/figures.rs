//! The figures of the last commit that renewed them, and whether new ones are as good.

use crate::callgrind::Counts;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use tokio::process::Command;

/// The smallest change of instructions or allocations that counts. A smaller one can come from the
/// compiler.
const TOLERANCE: f64 = 0.05;
/// The smallest change of cache misses that counts. They depend on where the linker puts code.
const TOLERANCE_OF_MISSES: f64 = 0.1;
/// The smallest change that counts with another compiler or tool.
const LOOSE: f64 = 0.25;

const FIGURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/figures.yaml");
const HEAD: &str = "\
# What one request takes, by its kind in benches/world.rs. `make instructions` compares;
# `make instructions RENEW=1` writes this file anew. A commit that makes a figure grow says what for.
";

/// The content of `figures.yaml`.
#[derive(Deserialize)]
pub(crate) struct Figures {
    /// The properties of the machine that decide which instructions run. Figures of others don't
    /// compare.
    machine: String,
    /// The tools that change the figures slightly.
    tools: String,
    requests: BTreeMap<String, Counts>,
}

impl Figures {
    pub(crate) fn read() -> Self {
        serde_saphyr::from_str(&fs::read_to_string(FIGURES).unwrap()).unwrap()
    }

    /// Empty figures for this machine and its tools.
    pub(crate) async fn here() -> Self {
        let rustc = version_of("rustc", &["--version"]).await;
        let rustc = rustc.split(" (").next().unwrap();
        let libc = version_of("getconf", &["GNU_LIBC_VERSION"]).await;
        let valgrind = version_of("valgrind", &["--version"]).await;
        Self {
            machine: machine(),
            tools: format!("{rustc}, {libc}, {valgrind}"),
            requests: BTreeMap::new(),
        }
    }

    pub(crate) fn insert(&mut self, kind: &str, counts: Counts) {
        self.requests.insert(kind.to_owned(), counts);
    }

    /// Replaces the figures of the last commit. Returns the text.
    pub(crate) fn write(&self) -> String {
        let mut text = format!("{HEAD}machine: {}\ntools: {}\n", self.machine, self.tools);
        text.push_str("requests:\n");
        for (kind, counts) in &self.requests {
            writeln!(text, "  {kind}:").unwrap();
            for (measure, of) in Counts::MEASURES {
                writeln!(text, "    {measure}: {}", of(counts)).unwrap();
            }
        }
        fs::write(FIGURES, &text).unwrap();
        text
    }

    /// Whether `self`, measured now, is no worse than `before`. Prints the comparison. `is_other`:
    /// the binary is of another kind than that of `before`, so it cannot renew the figures.
    pub(crate) fn are_as_good_as(
        &self,
        before: &Self,
        is_other: bool,
        profile: impl Fn(&str) -> PathBuf,
    ) -> bool {
        if self.machine != before.machine {
            println!(
                "Not compared: the figures are of {}, this is {}.",
                before.machine, self.machine
            );
            return true;
        }
        let is_same = self.tools == before.tools;
        if !is_same {
            println!("The figures are by {}, these by {}: renew them.", before.tools, self.tools);
        }
        let mut good = true;
        for (kind, now) in &self.requests {
            let Some(before) = before.requests.get(kind) else {
                println!("{kind}: {now:?}, and no figures are known: `make instructions RENEW=1`.");
                good = false;
                continue;
            };
            for (measure, of) in Counts::MEASURES {
                let tolerance = match measure {
                    _ if !is_same => LOOSE,
                    "code_misses" | "data_misses" => TOLERANCE_OF_MISSES,
                    _ => TOLERANCE,
                };
                let (now, before) = (of(now), of(before));
                let change = now as f64 / before as f64 - 1.0;
                println!(
                    "{kind}: {now} {measure} a request, where {before} are known ({:+.1} %)",
                    change * 100.0
                );
                if change > tolerance {
                    println!("  More than {:.0} % too many; to see where:", tolerance * 100.0);
                    println!("  callgrind_annotate {}-NN, NN is a thread", profile(kind).display());
                    good = false;
                } else if change < -tolerance && !is_other {
                    println!("  The figure should be renewed: `make instructions RENEW=1`.");
                }
            }
        }
        good
    }
}

/// The first line of a command's output.
async fn version_of(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).output().await;
    let output = output.unwrap_or_else(|error| panic!("{command}: {error}"));
    String::from_utf8(output.stdout).unwrap().lines().next().unwrap_or_default().to_owned()
}

/// AVX2 in the processor. valgrind shows the same processor everywhere except for AVX2, which
/// memchr and the C library use.
fn machine() -> String {
    #[cfg(target_arch = "x86_64")]
    let avx2 = if is_x86_feature_detected!("avx2") { " with AVX2" } else { " without AVX2" };
    #[cfg(not(target_arch = "x86_64"))]
    let avx2 = "";
    format!("{}{avx2}", std::env::consts::ARCH)
}
