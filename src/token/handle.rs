//! Handle of one OAuth client for other rooms.

use super::store::TokenStore;
use crate::metrics::ClientMetrics;
use std::sync::Arc;
use std::time::Duration;

/// An OAuth client, for rooms that need its tokens or report its state.
#[derive(Clone)]
pub struct ClientHandle {
    /// The client's name, for messages.
    pub name: String,
    /// Store with the client's current token and state.
    pub store: Arc<TokenStore>,
    /// How long a request may wait for a token.
    pub wait: Duration,
    /// The client's metrics.
    pub metrics: ClientMetrics,
}
