//! The audit log.

use super::route::RouteRef;
use std::path::PathBuf;

/// The audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Where it is written.
    pub target: AuditTarget,
    /// The routes that are audited. `None` means all of them.
    pub routes: Option<Vec<RouteRef>>,
    /// Whether a write waits until its line is on the disk.
    pub sync: bool,
    /// The length of a file, after which another one begins.
    pub max_size: u64,
    /// What happens to a write whose line can't be written.
    pub on_failure: OnAuditFailure,
}

/// Where the audit log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditTarget {
    /// Files in this folder.
    Folder(PathBuf),
    /// Standard error.
    Stderr,
}

/// What happens to a write whose line in the audit log can't be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnAuditFailure {
    /// It is refused.
    Refuse,
    /// It is sent, with a warning in the log.
    Warn,
}
