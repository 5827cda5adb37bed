//! State of one OAuth client, as probes, the status page and the gauges report it.

use crate::clock::{self, Instant};
use crate::error::ErrorKind;
use crate::metrics::ClientGauges;
use std::sync::Arc;
use std::time::Duration;

/// State of one OAuth client: its token, its failures and its credential.
#[derive(Clone, Debug, Default)]
pub struct ClientState {
    /// Why the last token request failed; `None` after a success.
    pub failure: Option<Failure>,
    /// Why the credential cannot be read; `None` if it can.
    pub credential_read_error: Option<Arc<str>>,
    /// Why a newer credential is not in use; `None` if there is none.
    pub pending_source_error: Option<Arc<str>>,
    /// Figures, as the gauges show them.
    pub gauges: ClientGauges,
}

/// A failed token request.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Kind of the local answer to a request that gets no token.
    pub kind: ErrorKind,
    /// When the next token request is due if the current token must be replaced.
    pub next_attempt: Instant,
    /// What went wrong, and what to do.
    pub message: Arc<str>,
}

impl ClientState {
    /// Returns why the client's latest credential is not in use; a failure to read it comes first.
    pub fn credential_errors(&self) -> impl Iterator<Item = &Arc<str>> {
        self.credential_read_error.iter().chain(&self.pending_source_error)
    }

    /// Records a token that was requested `age` ago. Its life began then: the answer may have taken
    /// a while.
    pub(super) fn record_token(
        &mut self,
        age: Duration,
        lifetime: Duration,
        clock_skew: Option<f64>,
    ) {
        let issued = clock::wall() - age;
        let gauges = &mut self.gauges;
        gauges.issued = Some(issued);
        gauges.expires = Some(issued + lifetime);
        gauges.clock_skew = clock_skew.or(gauges.clock_skew);
        gauges.generation += 1;
        gauges.consecutive_failures = 0;
        self.failure = None;
    }

    /// Records a failed token request.
    pub(super) fn record_failure(&mut self, failure: Failure) {
        let failures = &mut self.gauges.consecutive_failures;
        *failures = failures.saturating_add(1);
        self.failure = Some(failure);
    }

    /// Moves the times by as much as the wall clock was set, in seconds.
    pub(super) fn shift_times(&mut self, seconds: f64) {
        let gauges = &mut self.gauges;
        for time in [&mut gauges.issued, &mut gauges.expires, &mut gauges.next_refresh] {
            *time = time.map(|time| clock::moved(time, seconds));
        }
        gauges.clock_skew = gauges.clock_skew.map(|skew| skew - seconds);
    }
}
