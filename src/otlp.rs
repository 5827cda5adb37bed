//! Spans of requests for a collector of traces, by OTLP over HTTP: in builds with the feature `otlp`,
//! and where the environment names a collector. Everywhere else, what is here is nothing at all.
//!
//! A request only puts its finished span into a queue that drops what it can't hold; a thread of the
//! SDK's empties it, and the runtime of the control tasks speaks to the collector.

#[cfg(feature = "otlp")]
mod collector;
#[cfg(not(feature = "otlp"))]
mod none;
#[cfg(feature = "otlp")]
mod settings;
#[cfg(feature = "otlp")]
mod spans;

#[cfg(not(feature = "otlp"))]
pub(crate) use none::Span;
#[cfg(not(feature = "otlp"))]
pub use none::Spans;
#[cfg(feature = "otlp")]
pub(crate) use spans::Span;
#[cfg(feature = "otlp")]
pub use spans::Spans;

/// The variables that name a collector: of traces, and of everything, which is a folder.
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
