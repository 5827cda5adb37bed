//! Why a batch is refused. Pure.

/// The reason: the rest of a sentence about one of the batch's parts, or about the batch itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BatchRefusal {
    /// The batch cannot be read, or can be read in more than one way.
    Unreadable(String),
    /// A part may not be sent.
    Forbidden(String),
}

/// Returns [`BatchRefusal::Unreadable`].
pub(super) fn unreadable<T>(why: impl Into<String>) -> Result<T, BatchRefusal> {
    Err(BatchRefusal::Unreadable(why.into()))
}
