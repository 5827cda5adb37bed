//! What the process is asked to do by signals: end, or reload.

use std::io;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Two moments: please end, and end at once.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Finish what is in flight.
    pub requested: CancellationToken,
    /// Do not wait any more.
    pub forced: CancellationToken,
}

impl Shutdown {
    /// SIGTERM or SIGINT requests; a second one forces. Needs a running tokio runtime.
    ///
    /// # Errors
    /// The signals can't be caught.
    pub fn on_signals() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = Self::default();
        let told = shutdown.clone();
        tokio::spawn(async move {
            for moment in [told.requested, told.forced] {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                info!(signal = name, "Asked to end.");
                moment.cancel();
            }
        });
        Ok(shutdown)
    }
}

/// SIGHUP: each one asks for a reload. Needs a running tokio runtime.
///
/// # Errors
/// The signal can't be caught.
pub fn hangups() -> io::Result<Arc<Notify>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let asked = Arc::new(Notify::new());
    let told = asked.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            info!(signal = "SIGHUP", "Asked to reload.");
            told.notify_one();
        }
    });
    Ok(asked)
}
