//! Targets of log events.

/// Target of the access log's events.
pub(crate) const ACCESS: &str = "bearerd::access";
