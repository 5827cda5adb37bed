//! Restrictions of the process before it serves: its memory is closed to other processes, and files
//! that it does not need are closed to it. The limit of open files is raised to the maximum.
//!
//! The sandbox is Landlock. Inside it, only the configured places and the files of the system's
//! libraries can be read. Nothing can be written but the folder of the audit log.

use crate::config::{AuditTarget, Caller, Config, ListenAddress, TlsSettings};
use crate::files::{self, Link, folder_of, links};
use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus,
};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, getuid, set_dumpable_behavior, setrlimit,
};
use std::path::{Path, PathBuf};
use tracing::{info, warn};

/// Places that resolving names, verifying certificates and collecting metrics need. `/etc` is there
/// as a whole: a rule for a file ends when the file is replaced, as `resolv.conf` and `hosts` often
/// are.
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

/// Keeps secrets out of core dumps, and hides memory and environment from other processes of the
/// same user. Must be called before any secret is read. Returns what failed.
pub fn hide() -> Vec<String> {
    let no_core = Rlimit { current: Some(0), maximum: Some(0) };
    let core = setrlimit(Resource::Core, no_core).err().map(|error| {
        format!("core dumps can't be switched off ({error}), and would contain secrets")
    });
    core.into_iter().chain(hide_memory()).collect()
}

/// Hides memory and environment from other processes of the same user, and changes nothing for a
/// program that this process starts. Returns what failed.
pub fn hide_memory() -> Option<String> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).err().map(|error| {
        format!("debuggers of the same user can't be kept out of the process ({error})")
    })
}

/// Raises the limit of open files to its maximum. Warns if the process runs as root, unless it is
/// `contained` in a container.
pub fn prepare(contained: bool) {
    // Each client is an open file, and its upstream connection is another one.
    let files = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: files.maximum, ..files };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!("The limit of open files can't be raised ({error}); it stays as it is.");
    }
    if getuid().is_root() && !contained {
        warn!("bearerd runs as root, but does not need its rights; run it as another user.");
    }
}

/// Enters the sandbox: only files that this configuration needs can be read afterwards.
/// `config_file` is its own file, `anchors` are the values of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
///
/// The sandbox applies to the calling thread and to threads that it starts. It must be entered
/// before there are others.
pub fn enter(config: &Config, config_file: Option<&Path>, anchors: &[PathBuf]) {
    match restrict(config, config_file, anchors) {
        Ok(RulesetStatus::FullyEnforced) => {
            files::set_sandboxed();
            info!("Sandbox: only configured files can be read.");
        }
        Ok(RulesetStatus::PartiallyEnforced) => {
            files::set_sandboxed();
            info!("Sandbox: enforced as far as this kernel supports it.");
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
    if let Some(AuditTarget::Folder(folder)) = config.audit.as_ref().map(|audit| &audit.target) {
        let write = AccessFs::MakeReg | AccessFs::WriteFile | AccessFs::Truncate;
        ruleset = allow(ruleset, folder, write | AccessFs::ReadDir)?;
    }
    for listen in &config.listen {
        if let ListenAddress::Unix(path) = listen {
            // The file of the socket is removed when the process ends.
            for folder in folders(path) {
                ruleset = allow(ruleset, &folder, read | AccessFs::RemoveFile)?;
            }
        }
    }
    Ok(ruleset.restrict_self()?.ruleset)
}

/// Adds a rule for a path. One that does not exist needs no rule.
fn allow(
    ruleset: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(opened) = PathFd::new(path) else {
        return Ok(ruleset);
    };
    // Rules for a file may only name rights that files have.
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
    let callers = config.callers.iter().flat_map(Caller::files);
    let listeners = config.tls.values().chain(&config.admin.tls).flat_map(TlsSettings::files);
    clients.chain(upstreams).chain(listeners).chain(config.access.files()).chain(callers).collect()
}

/// The folder of a file, and the folders of the links on its path that may be switched: Kubernetes
/// switches `..data` beside the file, or above it.
fn folders(path: &Path) -> Vec<PathBuf> {
    let (links, end) = links(path);
    // Links to another place, for example /var/run, are not switched.
    let is_switched = |link: &Link| link.target.is_relative() && !link.target.starts_with("..");
    let switched = links.into_iter().filter(is_switched).map(|link| link.folder);
    let ends = [path, &end].map(|end| folder_of(end).to_owned());
    // A rule for the root would allow everything.
    switched.chain(ends).filter(|folder| folder.parent().is_some()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_link_on_a_path_adds_its_folder() {
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
    fn a_link_above_a_file_adds_the_folder_in_which_it_is_switched() {
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
    fn circular_links_are_not_followed_without_end() {
        let root = tempfile::tempdir().unwrap();
        symlink("b", root.path().join("a")).unwrap();
        symlink("a", root.path().join("b")).unwrap();
        assert!(!folders(&root.path().join("a")).is_empty());
    }
}
