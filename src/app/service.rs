//! Reports to the service manager: the state in a line, and signs of life.

use crate::readiness::Readiness;
use crate::service_manager;
use std::time::Duration;
use tokio::time::sleep;

/// The longest time between two looks at the state.
const INTERVAL: Duration = Duration::from_secs(5);
/// Signs of life within the time in which one is wanted.
const SIGNS: u32 = 3;

/// Reports again and again. There is no sign of life while `/livez` fails, so that systemd restarts
/// a sidecar whose refresher is stuck.
pub(super) async fn report(readiness: Readiness) {
    let wanted = service_manager::watchdog_interval();
    let interval = wanted.map_or(INTERVAL, |wanted| INTERVAL.min(wanted / SIGNS));
    let mut reported = String::new();
    loop {
        if wanted.is_some() && readiness.livez().ok {
            service_manager::alive();
        }
        let status = readiness.summary();
        if status != reported {
            service_manager::status(&status);
            reported = status;
        }
        sleep(interval).await;
    }
}
