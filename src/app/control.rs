//! The control tasks: refreshers, watches over files, the admin listener.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long reading files may take, all together.
pub(super) const FILES_TIMEOUT: Duration = Duration::from_secs(10);

/// Tasks on the tokio runtime that polls [`App::run`](super::App::run).
#[derive(Clone, Default)]
pub(super) struct Control {
    pub(super) tasks: TaskTracker,
    /// Ends all tasks.
    pub(super) stop: CancellationToken,
    /// Asks for a reload of the configuration.
    pub(super) reload: Arc<Notify>,
}

impl Control {
    /// Starts a task that ends with the others, wherever it is.
    pub(super) fn spawn(&self, task: impl Future<Output: Send> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move { drop(stop.run_until_cancelled(task).await) });
    }

    /// Ends all tasks and waits for them.
    pub(super) async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
