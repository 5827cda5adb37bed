//! What the process gives up before it serves anybody, memory that others could read and files that
//! it does not need; and the one thing it takes, as many open files as it may have.
//!
//! The sandbox is Landlock's: from its beginning on, only the places of the configuration and what the
//! system's libraries need can be read, and nothing can be written.

use crate::config::{Config, ListenAddress};
use crate::files::{Link, folder_of, links};
use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus,
};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, getuid, set_dumpable_behavior, setrlimit,
};
use std::path::{Path, PathBuf};
use tracing::{info, warn};

/// What resolving names, trusting certificates and telling metrics reads. `/etc` is one of them as a
/// whole: a rule for a file ends with the file, and `resolv.conf` and `hosts` are replaced by others.
const SYSTEM: [&str; 13] = [
    "/etc",
    "/lib",
    "/lib64",
    "/proc",
    "/run/NetworkManager",
    "/run/connman",
    "/run/nscd",
    "/run/resolvconf",
    "/run/systemd",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/share/ca-certificates",
    "/usr/share",
];

/// Keeps secrets out of core dumps, and from other processes of the same user: their memory, and the environment.
/// To be called before there are any. Returns what could not be done.
pub fn hide() -> Vec<String> {
    let no_core = Rlimit { current: Some(0), maximum: Some(0) };
    let core = setrlimit(Resource::Core, no_core)
        .err()
        .map(|error| format!("core dumps can't be switched off ({error}); one would hold secrets"));
    let dumpable = set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .err()
        .map(|error| format!("the process stays open to debuggers of its user ({error})"));
    core.into_iter().chain(dumpable).collect()
}

/// Takes as many open files as there may be, and says so where the process runs as root. `contained` says that a
/// container holds it.
pub fn prepare(contained: bool) {
    // Each caller is an open file, and another one is its upstream connection.
    let files = getrlimit(Resource::Nofile);
    let most = Rlimit { current: files.maximum, ..files };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        warn!("The limit of open files stays as it is ({error}).");
    }
    if getuid().is_root() && !contained {
        warn!("bearerd runs as root and needs no right of root's; give it a user of its own.");
    }
}

/// Leaves only what this configuration needs. `config_file` is where it was read from, `anchors` where
/// `SSL_CERT_FILE` and `SSL_CERT_DIR` point.
///
/// It holds for the calling thread and those that it starts: to be called before there are others.
pub fn enter(config: &Config, config_file: Option<&Path>, anchors: &[PathBuf]) {
    match restrict(config, config_file, anchors) {
        Ok(RulesetStatus::FullyEnforced) => info!("Sandbox: only what is configured can be read."),
        Ok(RulesetStatus::PartiallyEnforced) => {
            info!("Sandbox: as far as this kernel knows how.");
        }
        Ok(RulesetStatus::NotEnforced) => info!("No sandbox: this kernel has no Landlock."),
        Err(error) => warn!("No sandbox ({error}); `sandbox: off` silences this."),
    }
}

fn restrict(
    config: &Config,
    config_file: Option<&Path>,
    anchors: &[PathBuf],
) -> Result<RulesetStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let all = AccessFs::from_all(ABI::V3);
    let mut ruleset = Ruleset::default().handle_access(all)?.create()?;
    for path in SYSTEM.iter().map(Path::new) {
        ruleset = allow(ruleset, path, read)?;
    }
    let anchors = anchors.iter().map(PathBuf::as_path);
    for path in configured(config).into_iter().chain(config_file).chain(anchors) {
        for folder in folders(path) {
            ruleset = allow(ruleset, &folder, read)?;
        }
    }
    for listen in &config.listen {
        if let ListenAddress::Unix(path) = listen {
            // Its file goes when the process ends.
            for folder in folders(path) {
                ruleset = allow(ruleset, &folder, read | AccessFs::RemoveFile)?;
            }
        }
    }
    Ok(ruleset.restrict_self()?.ruleset)
}

/// A path that is not there needs no rule.
fn allow(
    ruleset: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(opened) = PathFd::new(path) else {
        return Ok(ruleset);
    };
    // Of a file, only what files have can be allowed.
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(ABI::V3) };
    ruleset.add_rule(PathBeneath::new(opened, access))
}

/// The files and folders that a configuration names.
fn configured(config: &Config) -> Vec<&Path> {
    let clients = config
        .clients
        .iter()
        .flat_map(|client| client.source.paths().into_iter().chain(client.transport.files()));
    let upstreams = config.upstreams.iter().flat_map(|upstream| upstream.files());
    let access = [
        config.access.basic.as_ref().map(|(_, file)| file.as_path()),
        config.access.api_key_file.as_deref(),
    ];
    clients.chain(upstreams).chain(access.into_iter().flatten()).collect()
}

/// The folder of a file, and the folders in which links on the way to it may be turned: Kubernetes
/// turns `..data` beside the file, or above it.
fn folders(path: &Path) -> Vec<PathBuf> {
    let (links, end) = links(path);
    // What leads elsewhere, as /var/run does, is not turned.
    let is_turned = |link: &Link| link.target.is_relative() && !link.target.starts_with("..");
    let turned = links.into_iter().filter(is_turned).map(|link| link.folder);
    let ends = [path, &end].map(|end| folder_of(end).to_owned());
    // The root would be everything.
    turned.chain(ends).filter(|folder| folder.parent().is_some()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_link_on_the_way_brings_its_folder() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for folder in ["link", "volume", "volume/..d1"] {
            std::fs::create_dir(at(folder)).unwrap();
        }
        std::fs::write(at("volume/..d1/secret"), "x").unwrap();
        symlink("..d1", at("volume/..data")).unwrap();
        symlink("..data/secret", at("volume/secret")).unwrap();
        symlink("../volume/secret", at("link/secret")).unwrap();
        let canonical: Vec<_> = folders(&at("link/secret"))
            .iter()
            .map(|folder| folder.canonicalize().unwrap())
            .collect();
        let root = root.path().canonicalize().unwrap();
        for folder in ["link", "volume", "volume/..d1"] {
            assert!(canonical.contains(&root.join(folder)), "{folder}: {canonical:?}");
        }
    }

    #[test]
    fn a_link_above_the_file_brings_the_folder_in_which_it_is_turned() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        std::fs::create_dir_all(at("volume/..d1/binding")).unwrap();
        std::fs::write(at("volume/..d1/binding/secret"), "x").unwrap();
        symlink("..d1", at("volume/..data")).unwrap();
        symlink("..data/binding", at("volume/binding")).unwrap();
        let canonical = at("volume").canonicalize().unwrap();
        for path in ["volume/binding/secret", "volume/binding", "volume/..data/binding/secret"] {
            let found = folders(&at(path));
            assert!(
                found.iter().any(|folder| folder.canonicalize().unwrap() == canonical),
                "{path}: {found:?}"
            );
        }
    }

    #[test]
    fn links_that_lead_in_a_circle_end() {
        let root = tempfile::tempdir().unwrap();
        symlink("b", root.path().join("a")).unwrap();
        symlink("a", root.path().join("b")).unwrap();
        assert!(!folders(&root.path().join("a")).is_empty());
    }
}
