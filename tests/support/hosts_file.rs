//! A hosts file for a single process, mounted over the system's.

use super::process::bearerd_after;
use std::fmt::Write;
use std::fs::OpenOptions;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;
use tokio::process::Command;

/// The width of each line. A new text has the old length, so that a reader sees the old or the new
/// one.
const WIDTH: usize = 60;
const MOST: usize = 2;

/// A hosts file with a single name.
pub(crate) struct HostsFile {
    name: &'static str,
    file: NamedTempFile,
}

impl HostsFile {
    pub(crate) fn new(name: &'static str, addresses: &[IpAddr]) -> Self {
        let names = Self { name, file: NamedTempFile::new().unwrap() };
        names.point_to(addresses);
        names
    }

    /// Sets the addresses of the name.
    pub(crate) fn point_to(&self, addresses: &[IpAddr]) {
        assert!((1..=MOST).contains(&addresses.len()));
        let mut text = String::new();
        for place in 0..MOST {
            let line = addresses.get(place).map(|address| format!("{address} {}", self.name));
            let line = line.unwrap_or_default();
            writeln!(text, "{line:WIDTH$}").unwrap();
        }
        let file = OpenOptions::new().write(true).open(self.file.path()).unwrap();
        file.write_all_at(text.as_bytes(), 0).unwrap();
    }

    /// A command that becomes bearerd with this hosts file.
    pub(crate) fn bearerd(&self) -> Command {
        bearerd_with(self.file.path())
    }
}

/// A hosts file that never answers: a pipe without a writer.
pub(crate) struct SilentHostsFile(PathBuf);

impl SilentHostsFile {
    pub(crate) fn new(folder: &Path) -> Self {
        let pipe = folder.join("hosts");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        Self(pipe)
    }

    /// A command that becomes bearerd with this hosts file.
    pub(crate) fn bearerd(&self) -> Command {
        bearerd_with(&self.0)
    }
}

fn bearerd_with(hosts: &Path) -> Command {
    bearerd_after(r#"mount --bind "$0" /etc/hosts"#, hosts)
}
