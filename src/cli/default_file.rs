//! The configuration file that is taken if the command line names none.

use super::print_error;
use bearerd::config;
use bearerd::environment::Environment;
use rustix::process::getuid;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// In the working directory, for any user but root.
const LOCAL: &str = "./bearerd.yaml";
pub(super) const SYSTEM: &str = "/etc/bearerd/bearerd.yaml";
const ROOT: u32 = 0;
/// The bits of a mode with which the group or other users may write.
const SHARED: u32 = 0o022;

/// Finds the file, and reports it unless `is_quiet`. There is none if a `BEARERD_*` variable
/// configures anything: the environment alone is a configuration.
pub(super) fn find(environment: &Environment, is_quiet: bool) -> Option<PathBuf> {
    if config::variables().any(|variable| environment.get(variable).is_some()) {
        return None;
    }
    let user = getuid().as_raw();
    let file = places(user).iter().map(Path::new).find(|path| match path.metadata() {
        Ok(file) if is_trusted(&file, user) => true,
        Ok(_) => {
            print_error(&format!(
                "warning: {} is not used, because other users may write to it; name it with --config",
                path.display()
            ));
            false
        }
        Err(_) => false,
    })?;
    if !is_quiet {
        print_error(&format!("Using {}.", file.display()));
    }
    Some(file.to_owned())
}

/// The file that `bearerd init` writes if the command line names none.
pub(super) fn to_write() -> PathBuf {
    PathBuf::from(if getuid().as_raw() == ROOT { SYSTEM } else { LOCAL })
}

/// The places in which to look. Root may stand in a directory of another user.
const fn places(user: u32) -> &'static [&'static str] {
    match user {
        ROOT => &[SYSTEM],
        _ => &[LOCAL, SYSTEM],
    }
}

/// Whether only this user and root decide on the content.
fn is_trusted(file: &Metadata, user: u32) -> bool {
    [user, ROOT].contains(&file.uid()) && file.mode() & SHARED == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_that_others_may_write_is_not_trusted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let owner = file.as_file().metadata().unwrap().uid();
        for (mode, is_good) in [(0o644, true), (0o600, true), (0o664, false), (0o646, false)] {
            set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
            let metadata = file.path().metadata().unwrap();
            assert_eq!(is_trusted(&metadata, owner), is_good, "{mode:o}");
            // For another user, only a file of root is trusted.
            assert_eq!(is_trusted(&metadata, owner + 1), is_good && owner == ROOT, "{mode:o}");
        }
    }

    #[test]
    fn root_takes_no_file_of_the_working_directory() {
        assert_eq!(places(ROOT), [SYSTEM]);
        assert_eq!(places(1000), [LOCAL, SYSTEM]);
    }

    #[test]
    fn a_variable_that_configures_anything_is_enough() {
        let environment = Environment::from([("BEARERD_LOG", "debug")]);
        assert_eq!(find(&environment, false), None);
    }
}
