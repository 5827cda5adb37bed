//! Signals to `bearerd exec`, which are meant for the tool.

use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use std::io::{self, stderr, stdin};
use std::process::ExitCode;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

const FORWARDED: [Signal; 6] =
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2];

/// The signals that arrive.
pub(super) struct Signals {
    arriving: mpsc::UnboundedReceiver<Signal>,
}

impl Signals {
    /// Catches them from now on. Needs a running tokio runtime.
    pub(super) fn listen() -> io::Result<Self> {
        let (sender, arriving) = mpsc::unbounded_channel();
        let ignored = ignored();
        // A signal that the tool would ignore, as with `nohup`, stays ignored.
        for kind in FORWARDED.into_iter().filter(|kind| ignored & mask(*kind) == 0) {
            let mut caught = signal(SignalKind::from_raw(kind.as_raw()))?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while caught.recv().await.is_some() {
                    // The receiver is only gone at the end.
                    let _ = sender.send(kind);
                }
            });
        }
        Ok(Self { arriving })
    }

    /// The next signal.
    pub(super) async fn next(&mut self) -> Signal {
        match self.arriving.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }
}

/// The signals that this process ignores, as a mask.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

/// The bit of a signal in that mask.
const fn mask(signal: Signal) -> u64 {
    1 << (signal.as_raw() - 1)
}

/// Passes a signal on to the tool, unless the terminal has sent it to the tool, too.
pub(super) fn forward(signal: Signal, tool: &Child) {
    let is_keyboards = [Signal::INT, Signal::QUIT].contains(&signal);
    if is_keyboards && is_in_foreground() {
        return;
    }
    let pid = tool.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    // A tool that has ended needs no signal.
    let _ = pid.map(|pid| kill_process(pid, signal));
}

/// Whether a terminal sends its signals to this process and to the tool.
fn is_in_foreground() -> bool {
    let own = getpgrp();
    [tcgetpgrp(stdin()), tcgetpgrp(stderr())].contains(&Ok(own))
}

/// The exit code of a process that this signal ended, as shells have it.
pub(super) fn exit_code(signal: Signal) -> ExitCode {
    super::tool::code_of_signal(signal.as_raw())
}
