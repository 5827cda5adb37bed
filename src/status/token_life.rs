//! History of each token's life: how much of it was left at each of the last minutes.

use crate::token::ClientHandle;
use crate::traffic::HISTORY;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Time between two points.
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// The points of each client, at most [`HISTORY`]. `None` without a token.
#[derive(Default)]
pub(super) struct TokenLife(Mutex<BTreeMap<String, VecDeque<Option<f64>>>>);

impl TokenLife {
    /// Adds a point for each client. A client that is gone is forgotten.
    pub(super) fn record(&self, clients: &[ClientHandle]) {
        let now = SystemTime::now();
        let mut history = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        history.retain(|name, _| clients.iter().any(|client| client.name == *name));
        for client in clients {
            let gauges = client.store.state().gauges;
            let left = gauges.issued.zip(gauges.expires).and_then(|(issued, expires)| {
                let whole = expires.duration_since(issued).ok()?.as_secs_f64();
                Some((expires.duration_since(now).ok()?.as_secs_f64() / whole).clamp(0.0, 1.0))
            });
            let points = history.entry(client.name.clone()).or_default();
            if points.len() >= HISTORY {
                points.pop_front();
            }
            points.push_back(left);
        }
    }

    /// Returns the points of a client, the latest last.
    pub(super) fn of(&self, client: &str) -> Vec<Option<f64>> {
        let history = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        history.get(client).into_iter().flatten().copied().collect()
    }
}
