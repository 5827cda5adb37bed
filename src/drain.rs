//! The end of the process, as requests see it: it has begun; its deadline has passed.

use tokio_util::sync::CancellationToken;

/// Shared by all who have to know. Both moments come once and stay.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    begun: CancellationToken,
    deadline: CancellationToken,
}

impl Drain {
    /// From now on the sidecar is not ready, and answers close their connection.
    pub fn begin(&self) {
        self.begun.cancel();
    }

    /// Whether [`Drain::begin`] was called.
    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Whoever still waits for something gives up.
    pub fn expire(&self) {
        self.deadline.cancel();
    }

    /// Resolves when the deadline has passed.
    pub async fn deadline(&self) {
        self.deadline.cancelled().await;
    }
}
