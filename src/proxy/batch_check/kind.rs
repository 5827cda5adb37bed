//! The two protocols that have batches. Pure.

use crate::profile::Profile;
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

    /// Whether the APIs of a profile have batches of this kind: this target is no other resource.
    pub(super) fn is_of(self, profile: &Profile) -> bool {
        match self {
            Self::OData => profile.is_odata(),
            Self::Scim => profile.bulk,
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
