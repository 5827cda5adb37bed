//! Logs: events with fields, one line each, on standard error.

mod json;
mod output;
mod text;

pub use output::WriterGuard;

use crate::config::{Log, LogFormat};
use json::Json;
use output::Output;
use std::io::{self, IsTerminal, stderr};
use std::panic;
use text::OneLine;
use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, error};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, registry, reload};

/// Libraries may warn, and no more: below that, HTTP libraries print the headers of requests.
const LIBRARIES: LevelFilter = LevelFilter::WARN;

/// The target of the access log's events.
pub(crate) const ACCESS: &str = "bearerd::access";

/// Changes what is logged while the process runs.
#[derive(Clone, Default)]
pub struct LevelHandle(Option<reload::Handle<Targets, Registry>>);

impl LevelHandle {
    /// From now on, events of this level and more severe ones are written.
    pub fn set(&self, level: LevelFilter) {
        // Without a subscriber there is nothing to change.
        let _ = self.0.as_ref().map(|handle| handle.reload(targets(level)));
    }
}

fn targets(level: LevelFilter) -> Targets {
    Targets::new()
        .with_default(LIBRARIES.min(level))
        // Of these, only callers that break off in a header would be left: no fault of anybody here.
        .with_target("pingora_proxy", LevelFilter::OFF)
        // It tells of each certificate that it refuses, however often; whoever asked tells the reason.
        .with_target("rustls_platform_verifier", LevelFilter::OFF)
        .with_target("bearerd", level)
}

/// What writes events to `writer`, and the handle that changes which ones.
pub fn subscriber(
    log: Log,
    writer: impl for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
) -> (impl Subscriber + Send + Sync, LevelHandle) {
    let (filter, handle) = reload::Layer::new(targets(log.level));
    let layer = match log.format {
        LogFormat::Json => Json(writer).boxed(),
        LogFormat::Text => {
            fmt::layer().with_writer(OneLine(writer)).with_ansi(stderr().is_terminal()).boxed()
        }
    };
    (registry().with(layer.with_filter(filter)), LevelHandle(Some(handle)))
}

/// Logs on standard error.
pub struct Logs {
    /// Changes what is logged.
    pub level: LevelHandle,
    output: Output,
}

impl Logs {
    /// From now on, and until the guard is dropped, a thread of its own writes what is logged, panics too: a
    /// reader that stalls holds up no request.
    ///
    /// # Errors
    ///
    /// The system has no thread for it.
    pub fn start_writer(&self) -> io::Result<WriterGuard> {
        let writer = self.output.start_writer()?;
        panic::set_hook(Box::new(|panic| {
            error!("A request or a task ended in a defect: {panic}.")
        }));
        Ok(writer)
    }
}

/// Starts logging. A second call changes nothing.
pub fn init(log: Log) -> Logs {
    let output = Output::stderr();
    let (subscriber, mut level) = subscriber(log, output.clone());
    if subscriber.try_init().is_ok() {
        // Of libraries' records, those that the filter drops are not even made: to make one, pingora
        // prints requests, and panics on a header that is not UTF-8.
        log::set_max_level(log::LevelFilter::Warn.min(log::max_level()));
    } else {
        level = LevelHandle::default();
    }
    Logs { level, output }
}
