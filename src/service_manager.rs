//! The service manager, usually systemd: what it is sent about the state of the process.
//!
//! Nothing is sent if the environment names no socket for it (`NOTIFY_SOCKET`).

use sd_notify::NotifyState;
use std::time::Duration;
use tracing::warn;

/// The time within which the service manager wants a sign of life, if it wants one.
pub(crate) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// The listeners accept connections, and no reload is running.
pub(crate) fn ready() {
    send(&[NotifyState::Ready]);
}

/// A reload has begun.
pub(crate) fn reloading() {
    // Since systemd 253, a reload without the time is refused.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => warn!("The reload is not reported to the service manager: {error}."),
    }
}

/// The process is ending.
pub(crate) fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// The state in a line, which `systemctl status` shows.
pub(crate) fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// A sign of life.
pub(crate) fn alive() {
    send(&[NotifyState::Watchdog]);
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("The service manager cannot be notified: {error}.");
    }
}
