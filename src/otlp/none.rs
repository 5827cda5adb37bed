//! Replacement for OTLP export in builds without it.

use super::variables::{ENDPOINT, TRACES_ENDPOINT};
use crate::environment::Environment;
use crate::metrics::labels::RequestOutcome;
use crate::trace_context::Trace;
use http::StatusCode;
use pingora::http::RequestHeader;
use tracing::warn;

/// Creates no spans.
#[derive(Clone, Debug, Default)]
pub struct Spans(());

impl Spans {
    /// Logs a warning if the environment names a collector.
    pub fn start(environment: &Environment) -> Self {
        let mut names = [TRACES_ENDPOINT, ENDPOINT].into_iter();
        if let Some(name) = names.find(|name| environment.get(name).is_some()) {
            warn!(
                "{name} is set, but this build has no OTLP export; build it with `--features otlp`."
            );
        }
        Self(())
    }

    /// Does nothing.
    pub async fn end(self) {}

    pub(crate) const fn begin(
        &self,
        _scheme: &str,
        _request: &RequestHeader,
        _path: &[u8],
        _trace: &mut Trace,
    ) -> Span {
        Span(())
    }
}

/// A span that is not recorded.
#[derive(Debug, Default)]
pub(crate) struct Span(());

impl Span {
    pub(crate) const fn routed(&self, _route: &str) {}

    pub(crate) const fn called_by(&self, _caller: &str) {}

    pub(crate) const fn sent(&self, _attempt: u32, _heal: Option<&str>) {}

    pub(crate) const fn end(&self, _status: Option<StatusCode>, _outcome: RequestOutcome) {}
}
