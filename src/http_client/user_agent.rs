//! bearerd's name in its own requests.

/// Value of `User-Agent`.
pub(super) const USER_AGENT: &str = concat!("bearerd/", env!("CARGO_PKG_VERSION"));
