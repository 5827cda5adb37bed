//! Resources of a process, as the kernel counts them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process on these cores, which is killed on drop.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

/// The CPU time of a process and its children, in seconds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Cpu {
    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { user: self.user - earlier.user, system: self.system - earlier.system }
    }
}

/// The memory of a process and its children, in MiB.
#[derive(Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Resident pages, with shared ones.
    pub(crate) resident: f64,
    /// Resident pages, with each shared page divided by the number of its processes.
    pub(crate) proportional: f64,
}

impl Process {
    /// Starts a command with its output in `log`. `cores` has taskset's form: `0`, `0,1`.
    pub(crate) fn start(command: &[&str], cores: &str, log: &Path) -> Self {
        let file = fs::File::options().create(true).append(true).open(log).unwrap();
        let child = Command::new("taskset")
            .args(["-c", cores])
            .args(command)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("taskset {command:?}: {error}"));
        Self { child, log: log.to_owned() }
    }

    /// The process and all its descendants.
    fn tree(&self) -> Vec<u32> {
        let mut pids = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = pids.get(next).copied() {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            let children = children.unwrap_or_default();
            pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            next += 1;
        }
        pids
    }

    pub(crate) fn cpu(&self) -> Cpu {
        self.tree().into_iter().fold(Cpu::default(), |sum, pid| {
            let own = cpu_of(&fs::read_to_string(format!("/proc/{pid}/stat")).unwrap());
            Cpu { user: sum.user + own.user, system: sum.system + own.system }
        })
    }

    pub(crate) fn memory(&self) -> Memory {
        self.tree().into_iter().fold(Memory::default(), |sum, pid| {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
            let mib = |name: &str| {
                let line = rollup.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
            };
            Memory {
                resident: sum.resident + mib("Rss:"),
                proportional: sum.proportional + mib("Pss:"),
            }
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("{}:\n{}", self.log.display(), log.get(..2000).unwrap_or(&log));
        }
        // The whole group is killed: a killed master would leave its workers.
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-s", "KILL", "--", &group]).status();
        let _ = self.child.wait();
    }
}

/// The unit of these figures: Linux reports them in hundredths of a second.
const TICKS: f64 = 100.0;

fn cpu_of(stat: &str) -> Cpu {
    // The name before it can hold blanks and parentheses.
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    let seconds = |index: usize| fields[index].parse::<f64>().unwrap() / TICKS;
    Cpu { user: seconds(11), system: seconds(12) }
}

/// The CPU time of this process.
pub(crate) fn own_cpu() -> Cpu {
    cpu_of(&fs::read_to_string("/proc/self/stat").unwrap())
}

/// The busy time of all cores in seconds, with the time that a hypervisor has taken.
pub(crate) fn machine_busy() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let fields: Vec<f64> = stat
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .skip(1)
        .map(|n| n.parse().unwrap())
        .collect();
    let [user, nice, system, _idle, _wait, irq, softirq, steal, ..] = fields[..] else {
        panic!("/proc/stat: {stat}")
    };
    (user + nice + system + irq + softirq + steal) / TICKS
}

/// Restricts this process and all its threads to these cores.
pub(crate) fn pin(cores: &str) {
    let pid = std::process::id().to_string();
    let pinned = Command::new("taskset").args(["-a", "-c", "-p", cores, &pid]).output().unwrap();
    assert!(pinned.status.success(), "{pinned:?}");
}

/// An unused address.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// Waits until a server listens at this address.
pub(crate) fn wait_for(address: SocketAddr) {
    let since = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(since.elapsed() < Duration::from_secs(10), "no server listens at {address}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
