//! The two protocols that have batches. Pure.

use crate::proxy::route::{self, BATCH};

/// The last segment of the path of a SCIM batch.
const BULK: &str = "Bulk";

/// The protocol of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchKind {
    OData,
    Scim,
}

impl BatchKind {
    /// The kind of batch that a server could take this target for.
    pub(super) fn of(target: &[u8]) -> Option<Self> {
        if route::may_hold(target, BATCH) {
            Some(Self::OData)
        } else if route::may_end_with(target, BULK) {
            Some(Self::Scim)
        } else {
            None
        }
    }

    /// The last segment of the path of a batch.
    pub(super) const fn last_segment(self) -> &'static str {
        match self {
            Self::OData => BATCH,
            Self::Scim => BULK,
        }
    }
}
