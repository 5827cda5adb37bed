//! Signals to the process: end, or reload.

use std::io;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// The two steps of a shutdown: end gracefully, then end at once.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Cancelled to request a graceful end: requests in flight are finished.
    pub requested: CancellationToken,
    /// Cancelled to end at once.
    pub forced: CancellationToken,
}

impl Shutdown {
    /// A shutdown that the first SIGTERM or SIGINT requests, and a second one forces. Needs a
    /// running tokio runtime.
    ///
    /// # Errors
    /// The signals can't be caught.
    pub fn on_signals() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = Self::default();
        let signalled = shutdown.clone();
        tokio::spawn(async move {
            for step in [signalled.requested, signalled.forced] {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                info!(signal = name, "Received a signal to stop.");
                step.cancel();
            }
        });
        Ok(shutdown)
    }
}

/// Returns what each SIGHUP notifies, to request a reload. Needs a running tokio runtime.
///
/// # Errors
/// The signal can't be caught.
pub fn hangups() -> io::Result<Arc<Notify>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let requested = Arc::new(Notify::new());
    let notified = requested.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            info!(signal = "SIGHUP", "Received a signal to reload.");
            notified.notify_one();
        }
    });
    Ok(requested)
}
