//! Drain: the shutdown of the process, as requests see it. It begins, and later its deadline
//! passes.

use tokio_util::sync::CancellationToken;

/// Progress of the shutdown. Clones share it, and neither moment is taken back.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    begun: CancellationToken,
    deadline: CancellationToken,
}

impl Drain {
    /// Begins the drain: the sidecar is no longer ready, and answers close their connection.
    pub fn begin(&self) {
        self.begun.cancel();
    }

    /// Whether the drain has begun.
    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Ends the time for requests: those that still wait give up.
    pub fn expire(&self) {
        self.deadline.cancel();
    }

    /// Resolves when the deadline has passed.
    pub async fn deadline(&self) {
        self.deadline.cancelled().await;
    }
}
