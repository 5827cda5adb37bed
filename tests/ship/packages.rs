//! The release and the .rpm. Debian's rpm installs it into a clean Debian.

use crate::support::podman::succeeded;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
/// The release, and its packages.
pub(super) const RELEASE: &str = "target/ship";
/// The packages of a newer version.
pub(super) const NEXT: &str = "next";
/// A clean Debian.
const DEBIAN: &str = "target/tools/debian.tar";

/// The .rpm of a folder.
fn package(folder: &Path) -> PathBuf {
    let mut names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let found = names.find(|path| path.extension().is_some_and(|end| end == "rpm"));
    found.unwrap_or_else(|| panic!("make packages: no .rpm in {}", folder.display()))
}

/// Unpacks the clean Debian.
pub(super) fn unpack_debian(root: &Path) {
    std::fs::create_dir(root).unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(Path::new(PROJECT).join(DEBIAN)).arg("-C").arg(root);
    succeeded(&tar.output().unwrap(), "tar");
}

/// Runs rpm on another root.
fn rpm(root: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("rpm");
    // Debian has no database with the libraries of the system.
    command.arg("--root").arg(root).args(arguments).arg("--nodeps");
    let output = command.output().unwrap();
    succeeded(&output, &format!("rpm {arguments:?}"))
}

#[test]
#[ignore = "needs packages; make test-packages makes them and runs this"]
fn the_rpm_is_installed_upgraded_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("debian");
    unpack_debian(&root);
    let release = Path::new(PROJECT).join(RELEASE);
    let old = package(&release);
    let requires = Command::new("rpm").args(["-qp", "--requires"]).arg(&old).output().unwrap();
    let requires = succeeded(&requires, "rpm --requires");
    assert!(requires.contains("libc.so.6(GLIBC_2.28)(64bit)"), "{requires}");
    assert!(!requires.contains("Zstd"), "rpm 4.14 may not know it: {requires}");

    let installed = rpm(&root, &["--install", old.to_str().unwrap()]);
    assert!(installed.contains("systemctl enable --now bearerd.socket"), "{installed}");
    let runs = Command::new("chroot").arg(&root).args(["bearerd", "version"]).output().unwrap();
    assert!(succeeded(&runs, "bearerd version").starts_with("bearerd 0.1.0"));
    let unit =
        std::fs::read_to_string(root.join("usr/lib/systemd/system/bearerd.service")).unwrap();
    assert!(unit.contains("ExecStart=/usr/bin/bearerd run"), "{unit}");
    let enabled = root.join("etc/systemd/system/multi-user.target.wants/bearerd.service");
    assert!(!enabled.exists());

    let configuration = root.join("etc/bearerd/bearerd.yaml");
    std::fs::write(&configuration, "changed").unwrap();
    let upgraded = rpm(&root, &["--upgrade", package(&release.join(NEXT)).to_str().unwrap()]);
    assert!(!upgraded.contains("enter the values"), "{upgraded}");
    assert_eq!(std::fs::read_to_string(&configuration).unwrap(), "changed");

    rpm(&root, &["--erase", "bearerd"]);
    assert!(!root.join("usr/bin/bearerd").exists());
    assert!(!configuration.exists());
    let saved = root.join("etc/bearerd/bearerd.yaml.rpmsave");
    assert_eq!(std::fs::read_to_string(saved).unwrap(), "changed");
}

#[test]
#[ignore = "needs the release; make test-packages builds it and runs this"]
fn the_release_runs_with_glibc_2_28() {
    assert!(newest_glibc(&Path::new(PROJECT).join(RELEASE).join("bearerd")) <= (2, 28));
}

/// The newest version of glibc of which a binary needs a symbol.
pub(super) fn newest_glibc(binary: &Path) -> (u32, u32) {
    let symbols = Command::new("objdump").arg("-T").arg(binary).output().unwrap();
    let symbols = succeeded(&symbols, "objdump");
    let versions: Vec<(u32, u32)> = symbols
        .split(|character: char| "()".contains(character) || character.is_whitespace())
        .filter_map(|word| word.strip_prefix("GLIBC_")?.split_once('.'))
        .map(|(major, rest)| {
            let minor = rest.split('.').next().unwrap();
            (major.parse().unwrap(), minor.parse().unwrap())
        })
        .collect();
    assert!(versions.len() > 100, "{symbols}");
    *versions.iter().max().unwrap()
}
