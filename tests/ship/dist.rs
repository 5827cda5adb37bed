//! What `make dist` publishes: the archive and the wheel run the demo, and the lists of
//! dependencies say what is in the binaries.

use super::packages::{newest_glibc, unpack_debian};
use crate::support::podman::succeeded;
use flate2::read::ZlibDecoder;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of a release.
fn dist() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/dist")
}

/// The file with this end of its name.
fn file(end: &str) -> PathBuf {
    let mut paths = std::fs::read_dir(dist()).unwrap().map(|entry| entry.unwrap().path());
    let found = paths.find(|path| path.to_str().unwrap().ends_with(end));
    found.unwrap_or_else(|| panic!("make dist: no {end}"))
}

fn run(command: &mut Command) -> String {
    succeeded(&command.output().unwrap(), &format!("{command:?}"))
}

/// The tour of the demo reads rows and refreshes its token.
fn is_the_tour(output: &str) {
    assert!(output.contains("2500 rows in 5 pages"), "{output}");
}

#[test]
#[ignore = "needs a release; make test-dist runs this after make dist"]
fn the_sums_are_those_of_all_files() {
    let sums = run(Command::new("sha256sum").args(["--check", "SHA256SUMS"]).current_dir(dist()));
    for end in [".deb: OK", ".rpm: OK", ".tar.gz: OK", ".whl: OK", ".cdx.json: OK"] {
        assert!(sums.lines().any(|line| line.ends_with(end)), "{end}: {sums}");
    }
}

#[test]
#[ignore = "needs a release; make test-dist runs this after make dist"]
fn the_archive_runs_the_demo_on_a_clean_debian() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("debian");
    unpack_debian(&root);
    // Every machine has this file.
    std::fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
    run(Command::new("tar").arg("-xzf").arg(file(".tar.gz")).arg("-C").arg(root.join("opt")));
    let unpacked = std::fs::read_dir(root.join("opt")).unwrap().next().unwrap().unwrap().path();
    for part in ["LICENSE", "man/bearerd.1", "completions/_bearerd", "systemd/bearerd.service"] {
        assert!(unpacked.join(part).exists(), "{part}");
    }
    let script = format!("cd /opt/{} && ./bearerd demo --once", name(&unpacked));
    is_the_tour(&run(Command::new("chroot").arg(&root).args(["sh", "-c", &script])));
}

#[test]
#[ignore = "needs a release; make test-dist runs this after make dist"]
fn the_wheel_runs_the_demo_in_a_fresh_environment() {
    let folder = tempfile::tempdir().unwrap();
    let venv = folder.path().join("venv");
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
    let mut pip = Command::new(venv.join("bin/pip"));
    run(pip.args(["install", "--quiet", "--no-index"]).arg(file(".whl")));
    is_the_tour(&run(Command::new(venv.join("bin/bearerd")).args(["demo", "--once"])));
}

/// The names of the dependencies that `cargo auditable` has put into a binary.
fn in_binary(binary: &Path) -> BTreeSet<String> {
    let folder = tempfile::tempdir().unwrap();
    let section = folder.path().join("dependencies");
    let mut objcopy = Command::new("objcopy");
    objcopy.arg("--dump-section").arg(format!(".dep-v0={}", section.display()));
    run(objcopy.arg(binary).arg("/dev/null"));
    let packed = std::fs::File::open(&section).unwrap();
    let list: Value = serde_json::from_reader(ZlibDecoder::new(packed)).unwrap();
    let packages = list["packages"].as_array().unwrap().iter();
    let at_run = packages.filter(|package| package["kind"] != "build");
    at_run.map(|package| package["name"].as_str().unwrap().to_owned()).collect()
}

/// The names of the dependencies in a list.
fn listed(end: &str) -> BTreeSet<String> {
    let list: Value = serde_json::from_str(&std::fs::read_to_string(file(end)).unwrap()).unwrap();
    let components = list["components"].as_array().unwrap().iter();
    components.map(|component| component["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
#[ignore = "needs a release; make test-dist runs this after make dist"]
fn the_lists_of_dependencies_say_what_is_in_the_binaries() {
    let production = in_binary(&dist().join("bearerd"));
    let demo = in_binary(&dist().join("demo/bearerd"));
    assert!(production.contains("pingora") && !production.contains("rsa"), "{production:?}");
    assert!(demo.contains("rsa"), "{demo:?}");
    for (list, names) in [("/bearerd.cdx.json", production), ("/bearerd-demo.cdx.json", demo)] {
        let mut listed = listed(list);
        listed.insert("bearerd".to_owned());
        let missing: Vec<_> = names.difference(&listed).collect();
        assert!(missing.is_empty(), "{list}: {missing:?}");
    }
}

#[test]
#[ignore = "needs a release; make test-dist runs this after make dist"]
fn both_forms_run_with_glibc_2_28() {
    for binary in ["bearerd", "demo/bearerd"] {
        assert!(newest_glibc(&dist().join(binary)) <= (2, 28), "{binary}");
    }
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}
