//! Export of request spans to a trace collector by OTLP over HTTP. It needs a build with the
//! feature `otlp`, and an environment that names a collector. Otherwise all functions do nothing.
//!
//! A request only puts its finished span into a queue, which drops spans if it is full. A thread of
//! the SDK empties the queue. The runtime of the control tasks sends the requests to the collector.

#[cfg(feature = "otlp")]
mod collector;
#[cfg(not(feature = "otlp"))]
mod none;
#[cfg(feature = "otlp")]
mod settings;
#[cfg(feature = "otlp")]
mod spans;
mod variables;

#[cfg(not(feature = "otlp"))]
pub(crate) use none::Span;
#[cfg(not(feature = "otlp"))]
pub use none::Spans;
#[cfg(feature = "otlp")]
pub(crate) use spans::Span;
#[cfg(feature = "otlp")]
pub use spans::Spans;
