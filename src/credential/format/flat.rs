//! Formats whose keys are all in one map.

use super::error::ClientFault;
use super::fields::Fields;
use super::found::ClientDetails;

/// A format whose keys are all in one map.
pub(super) struct FlatFormat {
    /// The name for messages.
    pub(super) name: &'static str,
    /// Whether a map is in this format, complete or not.
    pub(super) is_format: fn(&Fields<'_>) -> bool,
    /// Reads the client of a map in this format.
    pub(super) read: fn(&Fields<'_>) -> Result<ClientDetails, Vec<ClientFault>>,
}
