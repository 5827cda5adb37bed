//! What callers must present, and the limits of those with names.

use super::value::ListenerId;
use crate::secret::Secret;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The name in metrics, log and audit log of the caller that `access` allows.
pub const UNNAMED: &str = "unnamed";

/// The index of a caller in [`Config::callers`](super::Config::callers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallerId(pub usize);

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

/// Formats the rate as in the configuration.
impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.period.as_secs() {
            1 => "s",
            60 => "min",
            _ => "h",
        };
        write!(formatter, "{}/{unit}", self.requests)
    }
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

/// The source of a local user's password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordSource {
    /// A file, which is watched.
    File(PathBuf),
    /// A password made for one run of `bearerd exec`.
    Generated(Secret),
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

/// A subject alternative name of a certificate (RFC 5280 section 4.2.1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectName {
    /// A URI.
    Uri(String),
    /// A DNS name, in lower case.
    Dns(String),
}

impl fmt::Display for SubjectName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(uri) => write!(formatter, "URI {uri}"),
            Self::Dns(name) => write!(formatter, "DNS name {name}"),
        }
    }
}

/// A name in a caller's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateName {
    /// The name.
    pub name: SubjectName,
    /// The listener whose authorities sign it. `None` if all listeners have the same ones.
    pub listener: Option<ListenerId>,
}

impl CertificateName {
    /// Whether a certificate could be that of both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let is_same = self.listener.zip(other.listener).is_none_or(|(one, other)| one == other);
        self.name == other.name && is_same
    }
}

/// Limits of a caller's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallerLimits {
    /// Concurrent requests.
    pub requests: Option<u32>,
    /// Requests in a time.
    pub rate: Option<Rate>,
}

/// A number of requests in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The number; at least one.
    pub requests: u32,
    /// The time.
    pub period: Duration,
}
