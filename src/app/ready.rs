//! The line of the log that says that the start has succeeded.

use crate::config::ListenAddress;
use crate::token::ClientHandle;
use std::time::Duration;
use tracing::info;

/// Longer than any start takes.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Waits until each client has a token, and logs where tools connect.
pub(super) async fn report(clients: Vec<ClientHandle>, addresses: Vec<ListenAddress>) {
    for client in clients {
        if client.store.wait(FOREVER).await.is_err() {
            return;
        }
    }
    let addresses = addresses.iter().map(|address| match address {
        ListenAddress::Tcp(address) => format!("http://{address}"),
        ListenAddress::Unix(_) => address.to_string(),
    });
    let addresses: Vec<_> = addresses.collect();
    info!("Ready. Tools connect to {}.", addresses.join(" and "));
}
