//! Logs: events with fields, one line each, on standard error.

mod json;
mod output;
mod target;
mod text;
mod timestamp;

pub use output::WriterGuard;
pub(crate) use target::ACCESS;

use crate::config::{Log, LogFormat};
use json::Json;
use output::Output;
use std::io::{self, IsTerminal, Write, stderr};
use std::panic;
use text::OneLine;
use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, error};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, registry, reload};

/// Level of libraries. Below it, HTTP libraries print the headers of requests.
const LIBRARIES: LevelFilter = LevelFilter::WARN;

/// Handle that changes the level while the process runs.
#[derive(Clone, Default)]
pub struct LevelHandle(Option<reload::Handle<Targets, Registry>>);

impl LevelHandle {
    /// Sets the level: events of this level and more severe ones are written.
    pub fn set(&self, level: LevelFilter) {
        // Without a subscriber of this process, there is nothing to change.
        let _ = self.0.as_ref().map(|handle| handle.reload(targets(level)));
    }
}

fn targets(level: LevelFilter) -> Targets {
    Targets::new()
        .with_default(LIBRARIES.min(level))
        // It would only log callers that break off in a header, which is not a fault.
        .with_target("pingora_proxy", LevelFilter::OFF)
        // It logs each certificate that it refuses, every time. The code that connects logs the
        // reason.
        .with_target("rustls_platform_verifier", LevelFilter::OFF)
        .with_target("bearerd", level)
}

/// Returns a subscriber that writes events to `writer`, and the handle of its level.
pub fn subscriber(
    log: Log,
    writer: impl for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
) -> (impl Subscriber + Send + Sync, LevelHandle) {
    let (filter, handle) = reload::Layer::new(targets(log.level));
    let is_terminal = stderr().is_terminal();
    let is_text = match log.format {
        LogFormat::Auto => is_terminal,
        LogFormat::Json => false,
        LogFormat::Text => true,
    };
    let layer = if is_text {
        // By itself, the layer uses colors unless NO_COLOR is set.
        let layer = fmt::layer().with_writer(OneLine(writer));
        if is_terminal { layer.boxed() } else { layer.with_ansi(false).boxed() }
    } else {
        Json(writer).boxed()
    };
    (registry().with(layer.with_filter(filter)), LevelHandle(Some(handle)))
}

/// Logging to standard error.
pub struct Logs {
    /// Handle of the level.
    pub level: LevelHandle,
    output: Output,
}

impl Logs {
    /// Returns a writer of whole lines to the same place. It waits for its reader.
    pub fn writer(&self) -> impl Write + Send + 'static {
        self.output.direct()
    }

    /// Starts a thread that writes the log until the guard is dropped, so that a stalled reader of
    /// standard error delays no request. Panics are logged, too.
    ///
    /// # Errors
    ///
    /// The system cannot start the thread.
    pub fn start_writer(&self) -> io::Result<WriterGuard> {
        let writer = self.output.start_writer()?;
        panic::set_hook(Box::new(|panic| {
            error!("A request or a task panicked, which is a defect: {panic}.")
        }));
        Ok(writer)
    }
}

/// Starts logging. A second call changes nothing.
pub fn init(log: Log) -> Logs {
    let output = Output::stderr();
    let (subscriber, mut level) = subscriber(log, output.clone());
    if subscriber.try_init().is_ok() {
        // Records of libraries that the filter drops are not created at all. To create one, pingora
        // prints requests, and panics on a header that is not UTF-8.
        log::set_max_level(log::LevelFilter::Warn.min(log::max_level()));
    } else {
        level = LevelHandle::default();
    }
    Logs { level, output }
}
