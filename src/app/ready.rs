//! The line of the log that says that the start has succeeded.

use crate::token::ClientHandle;
use std::time::Duration;
use tracing::info;

/// Longer than any start takes.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Waits until each client has a token, and logs the URLs to which tools connect.
pub(super) async fn report(clients: Vec<ClientHandle>, urls: Vec<String>) {
    for client in clients {
        if client.store.wait(FOREVER).await.is_err() {
            return;
        }
    }
    info!("Ready. Tools connect to {}.", urls.join(" and "));
}
