//! Span of a request, from its header to its end.
//!
//! Names and attributes follow OpenTelemetry's semantic conventions for HTTP servers. bearerd's own
//! attributes begin with `bearerd.`. Of the request, a span holds only the method and the path.

use super::collector::Collector;
use super::settings::Settings;
use crate::blocking;
use crate::environment::Environment;
use crate::metrics::labels::RequestOutcome;
use crate::readable;
use crate::trace_context::{TRACESTATE, Trace};
use http::{HeaderMap, Method, StatusCode};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags,
    TraceId, TraceState, Tracer, TracerProvider,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracer, SdkTracerProvider};
use pingora::http::RequestHeader;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;
use std::time::Duration;
use tokio::runtime::Handle;
use tracing::{info, warn};

/// Timeout for sending the last spans when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);
/// The flags that bearerd passes on: whether the trace is sampled, and whether its id is random
/// (W3C Trace Context level 2, section 3.2.2.5).
const KNOWN_FLAGS: u8 = 0b11;

/// Creates spans and sends them to the collector, if there is one. Clones share the collector.
#[derive(Clone, Debug, Default)]
pub struct Spans(Option<Exporting>);

#[derive(Clone, Debug)]
struct Exporting {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Spans {
    /// Starts the export to the collector that the environment names, on the tokio runtime from
    /// which it is called. If a variable has an unsupported value, a warning is logged and nothing
    /// is exported: missing traces are not a reason to end the process.
    ///
    /// The SDK starts a thread. It reads the size of its queue and the interval of its batches from
    /// the environment itself (`OTEL_BSP_…`).
    pub fn start(environment: &Environment) -> Self {
        let started = Settings::read(environment).and_then(|settings| {
            let exporting = settings.map(|settings| {
                // The SDK panics if the system refuses a thread.
                let started = catch_unwind(AssertUnwindSafe(|| Exporting::start(&settings)));
                let refused = "the export thread cannot be started; check the limit of processes";
                let started = started.map_err(|_| refused)?;
                started.map_err(|error| error.to_string())
            });
            exporting.transpose()
        });
        Self(started.unwrap_or_else(|reason| {
            warn!("No traces are exported: {reason}.");
            None
        }))
    }

    /// Sends the remaining spans, within a few seconds. Later spans are dropped.
    pub async fn end(self) {
        let Some(Exporting { provider, .. }) = self.0 else {
            return;
        };
        // The SDK blocks until its thread ends, and that thread needs this runtime. An error was
        // already logged.
        let end = move || provider.shutdown_with_timeout(FLUSH_TIMEOUT);
        let _ = blocking::within(2 * FLUSH_TIMEOUT, end).await;
    }

    /// Starts a request's span, in the caller's trace if there is one. `trace` then continues from
    /// the span, whether or not it is recorded.
    pub(crate) fn begin(
        &self,
        scheme: &'static str,
        request: &RequestHeader,
        path: &[u8],
        trace: &mut Trace,
    ) -> Span {
        let Some(Exporting { tracer, .. }) = &self.0 else {
            return Span::default();
        };
        let (method, name) = method(&request.method);
        let path = String::from_utf8_lossy(path);
        let path = readable::cut(path).into_owned();
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Server).with_attributes([
            KeyValue::new("http.request.method", method),
            KeyValue::new("url.path", path),
            KeyValue::new("url.scheme", scheme),
        ]);
        let parent = match trace.client_span() {
            Some(callers) => Context::new().with_remote_span_context(parent(callers, request)),
            None => Context::new(),
        };
        let span = tracer.build_with_context(builder, &parent);
        let own = span.span_context();
        if !own.is_valid() {
            // The export has ended.
            return Span::default();
        }
        trace.set_span(
            u128::from_be_bytes(own.trace_id().to_bytes()),
            u64::from_be_bytes(own.span_id().to_bytes()),
            own.trace_flags().to_u8(),
        );
        Span(span.is_recording().then_some(Recording { span, name }))
    }
}

impl Exporting {
    fn start(settings: &Settings) -> Result<Self, Box<dyn Error>> {
        let collector = Collector::new(settings, Handle::try_current()?)?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(collector)
            // The URL may hold a secret, so the SDK gets only the origin. The collector sets the
            // URL.
            .with_endpoint(settings.endpoint.origin().ascii_serialization())
            .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
            .with_timeout(settings.timeout)
            .build()?;
        let attributes = settings.resource.iter();
        let attributes = attributes.map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
        let resource = Resource::builder_empty()
            .with_detector(Box::new(TelemetryResourceDetector))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attributes(attributes)
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).build())
            .with_sampler(settings.sampler.clone())
            .with_resource(resource)
            .build();
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        let tracer = provider.tracer_with_scope(scope);
        let collector = settings.endpoint.origin().ascii_serialization();
        info!(%collector, "Exporting traces.");
        Ok(Self { provider, tracer })
    }
}

/// Returns the caller's span.
fn parent((trace, span, flags): (u128, u64, u8), request: &RequestHeader) -> SpanContext {
    let flags = TraceFlags::new(flags & KNOWN_FLAGS);
    let state = state(&request.headers);
    SpanContext::new(TraceId::from(trace), SpanId::from(span), flags, true, state)
}

/// Returns the `tracestate` of the caller. One that can't be parsed is empty here. It is still
/// forwarded to the upstream unchanged.
fn state(headers: &HeaderMap) -> TraceState {
    let lines = headers.get_all(TRACESTATE).iter().map(|line| line.to_str().ok());
    let lines = lines.collect::<Option<Vec<_>>>().unwrap_or_default();
    TraceState::from_str(&lines.join(",")).unwrap_or_default()
}

/// Returns the attribute for a method, and the beginning of the span's name. Both are from a fixed
/// set, so that a caller can't choose them.
fn method(method: &Method) -> (&'static str, &'static str) {
    const NAMES: [&str; 9] =
        ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
    let name = NAMES.into_iter().find(|name| *name == method.as_str());
    name.map_or(("_OTHER", "HTTP"), |name| (name, name))
}

/// The span of one request. It is empty if it is not recorded.
#[derive(Debug, Default)]
pub(crate) struct Span(Option<Recording>);

#[derive(Debug)]
struct Recording {
    span: opentelemetry_sdk::trace::Span,
    /// The beginning of the span's name, to which the route is added.
    name: &'static str,
}

impl Span {
    /// Records the route by its configured path.
    pub(crate) fn routed(&mut self, route: &str) {
        if let Some(Recording { span, name }) = &mut self.0 {
            span.update_name(format!("{name} {route}"));
            span.set_attribute(KeyValue::new("http.route", route.to_owned()));
        }
    }

    /// Records the caller's name.
    pub(crate) fn called_by(&mut self, caller: &str) {
        if let Some(Recording { span, .. }) = &mut self.0 {
            span.set_attribute(KeyValue::new("enduser.id", caller.to_owned()));
        }
    }

    /// Records how often the request was sent, and why it was sent again.
    pub(crate) fn sent(&mut self, attempt: u32, heal: Option<&'static str>) {
        if let Some(Recording { span, .. }) = &mut self.0 {
            span.set_attribute(KeyValue::new("bearerd.attempt", i64::from(attempt)));
            if let Some(heal) = heal {
                span.set_attribute(KeyValue::new("bearerd.heal", heal));
            }
        }
    }

    /// Ends the span. Only the first call has an effect.
    pub(crate) fn end(&mut self, status: Option<StatusCode>, outcome: RequestOutcome) {
        let Some(Recording { mut span, .. }) = self.0.take() else {
            return;
        };
        if let Some(status) = status {
            let code = i64::from(status.as_u16());
            span.set_attribute(KeyValue::new("http.response.status_code", code));
        }
        span.set_attribute(KeyValue::new("bearerd.outcome", outcome.label()));
        if let Some(failure) = failure(status, outcome) {
            span.set_attribute(KeyValue::new("error.type", failure));
            // The conventions ask for no description if `error.type` holds the reason.
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

/// Returns why a request failed, for `error.type`. A caller's own error, which has a status below
/// 500, is not a failure of the server. A caller's disconnect is not one either.
fn failure(status: Option<StatusCode>, outcome: RequestOutcome) -> Option<String> {
    match outcome {
        RequestOutcome::Local(kind) => {
            kind.status().is_server_error().then(|| kind.label().to_owned())
        }
        RequestOutcome::UpstreamIncomplete | RequestOutcome::Aborted => {
            Some(outcome.label().to_owned())
        }
        RequestOutcome::Forwarded | RequestOutcome::DownstreamClosed => {
            status.filter(StatusCode::is_server_error).map(|status| status.as_str().to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn failures_have_their_kind_and_callers_errors_are_no_failures() {
        use RequestOutcome::*;
        let failure = |status: u16, outcome| failure(StatusCode::from_u16(status).ok(), outcome);
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(failure(200, Forwarded), None);
        assert_eq!(failure(404, Forwarded), None);
        assert_eq!(failure(503, Forwarded), text("503"));
        assert_eq!(failure(404, Local(ErrorKind::NoRoute)), None);
        assert_eq!(failure(502, Local(ErrorKind::LoginPage)), text("login_page"));
        assert_eq!(failure(0, Local(ErrorKind::UpstreamTimeout)), text("upstream_timeout"));
        assert_eq!(failure(200, UpstreamIncomplete), text("upstream_incomplete"));
        assert_eq!(failure(0, DownstreamClosed), None);
        assert_eq!(failure(0, Aborted), text("aborted"));
    }

    #[test]
    fn an_unknown_method_is_not_recorded() {
        let of = |name: &str| method(&Method::from_bytes(name.as_bytes()).unwrap());
        assert_eq!(of("PATCH"), ("PATCH", "PATCH"));
        assert_eq!(of("patch"), ("_OTHER", "HTTP"));
        assert_eq!(of("SECRET"), ("_OTHER", "HTTP"));
    }

    #[test]
    fn a_trace_state_that_cannot_be_parsed_is_left_out() {
        let of = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(TRACESTATE, line.parse().unwrap());
            }
            state(&headers).header()
        };
        assert_eq!(of(&["a=1,b=2", "c=3"]), "a=1,b=2,c=3");
        assert_eq!(of(&[]), "");
        assert_eq!(of(&["nonsense"]), "");
        assert_eq!(of(&["a=é"]), "");
    }
}
