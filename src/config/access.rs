//! What callers without a name must present.

use crate::secret::Secret;
use std::path::{Path, PathBuf};

/// The callers that may connect, and what they must present.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// Names that are allowed in `Host`, without a port.
    pub hosts: Vec<String>,
    /// A local user name, and its password.
    pub basic: Option<BasicAccess>,
    /// The file of a local API key.
    pub api_key_file: Option<PathBuf>,
    /// User ids that may connect to a Unix socket, besides that of this process.
    pub uids: Vec<u32>,
}

impl Access {
    /// The files of the local credential.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let password_file = self.basic.as_ref().and_then(BasicAccess::password_file);
        password_file.into_iter().chain(self.api_key_file.as_deref())
    }
}

/// A local user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicAccess {
    /// The user name; it has no colon.
    pub username: String,
    /// The source of the password.
    pub password: PasswordSource,
}

impl BasicAccess {
    /// The file of the password, if it is in one.
    pub fn password_file(&self) -> Option<&Path> {
        match &self.password {
            PasswordSource::File(path) => Some(path),
            PasswordSource::Generated(_) => None,
        }
    }
}

/// The source of a local user's password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordSource {
    /// A file, which is watched.
    File(PathBuf),
    /// A password made for one run of `bearerd exec`.
    Generated(Secret),
}
