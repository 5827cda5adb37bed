//! The timeout of a caller that does not read its response.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// How long a caller may read nothing. The system's buffers hold megabytes, so that a caller that
/// reads slowly seems to read nothing for a while.
pub(in crate::proxy) const WRITE_TIMEOUT: Duration = Duration::from_secs(300);

/// The time since the caller has read anything. pingora's own timeout covers a whole chunk,
/// however long it becomes.
#[derive(Debug, Default)]
pub(super) struct WriteStall {
    is_running: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl WriteStall {
    /// Records that the caller has read something.
    pub(super) const fn reset(&mut self) {
        self.is_running = false;
    }

    /// Records that the caller has read nothing. Ready when its time is up.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT)));
        if !std::mem::replace(&mut self.is_running, true) {
            timer.as_mut().reset(Instant::now() + WRITE_TIMEOUT);
        }
        Future::poll(timer.as_mut(), context)
    }
}
