//! A request in a batch. Pure.

use super::refusal::{BatchRefusal, unreadable};
use http::{HeaderMap, Method};

/// The OData resource that makes a read of a POST, without its `$`.
const QUERY: &str = "query";

/// A request in a batch.
#[derive(Debug)]
pub(super) struct PartRequest<'a> {
    pub(super) method: Method,
    /// The target as the caller wrote it.
    pub(super) target: &'a str,
    pub(super) headers: &'a HeaderMap,
}

/// Checks one part. The readers get it as an argument and stay pure.
pub(super) type CheckPart<'a> = &'a dyn Fn(&PartRequest<'_>) -> Result<(), BatchRefusal>;

impl PartRequest<'_> {
    /// Whether the result of another part may replace something in the target. The target that is
    /// executed is then not the one that was checked.
    pub(super) fn has_reference(&self) -> bool {
        let path = self.target.split('?').next().unwrap_or_default();
        let before_last = path.rsplit_once('/').map_or("", |(before, _)| before);
        before_last.trim_matches('/').is_empty()
            || ["$", "%24", "%25"].iter().any(|mark| before_last.contains(mark))
    }
}

/// Checks that the id of a part does not make a reference of an OData name that begins with `$`.
/// Some servers look for `$` and the id in the text alone: for them, the id `q` makes one of
/// `$query`.
///
/// # Errors
/// The id makes a reference.
pub(super) fn check_id(id: &str) -> Result<(), BatchRefusal> {
    let id = id.trim();
    if QUERY.get(..id.len()).is_some_and(|start| start.eq_ignore_ascii_case(id)) {
        return unreadable(format!(
            "has the id `{id}`, with which `${QUERY}` can be read as a reference"
        ));
    }
    Ok(())
}
