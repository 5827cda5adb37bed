//! An OAuth client as others see it.

use super::store::TokenStore;
use crate::metrics::ClientMetrics;
use std::sync::Arc;
use std::time::Duration;

/// An OAuth client, for rooms that need its tokens.
#[derive(Clone)]
pub struct ClientHandle {
    /// The client's name, for messages.
    pub name: String,
    /// Where its token is read.
    pub store: Arc<TokenStore>,
    /// How long a request may wait for one.
    pub wait: Duration,
    /// Where waits are counted.
    pub metrics: ClientMetrics,
}
