//! Events as lines of JSON: `timestamp`, `level`, the event's fields, `target`.

use super::timestamp;
use crate::readable;
use serde::Serialize;
use std::cell::Cell;
use std::fmt;
use std::io::{self, Write};
use std::time::SystemTime;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;

thread_local! {
    /// Buffer for one line, which is reused so that a line costs no allocation.
    static LINE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Layer that writes events as the flattened JSON of `tracing_subscriber`, but straight into bytes.
/// There, each piece of a line is checked for UTF-8 and goes through three buffers.
pub(super) struct Json<W>(pub(super) W);

impl<S: Subscriber, W: for<'writer> MakeWriter<'writer> + 'static> Layer<S> for Json<W> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // Taken, not borrowed: code that formats a field may log, too.
        let mut line = LINE.take();
        line.clear();
        if write_line(&mut line, event).is_ok() {
            // Misleading characters occur only in strings, where an escape is equivalent.
            let clean = std::str::from_utf8(&line).map(readable::beyond_ascii);
            let clean = clean.as_ref().map_or(&*line, |clean| clean.as_bytes());
            // A log that cannot be written cannot report that.
            let _ = self.0.make_writer_for(event.metadata()).write_all(clean);
        }
        LINE.set(line);
    }
}

fn write_line(line: &mut Vec<u8>, event: &Event<'_>) -> io::Result<()> {
    // For records of the `log` crate, the target and the level are among the fields.
    let normal = event.normalized_metadata();
    let metadata = normal.as_ref().unwrap_or_else(|| event.metadata());
    line.extend_from_slice(b"{\"timestamp\":\"");
    timestamp::write(line, SystemTime::now());
    line.extend_from_slice(b"\",\"level\":\"");
    line.extend_from_slice(metadata.level().as_str().as_bytes());
    line.push(b'"');
    let mut fields = Fields { line, result: Ok(()) };
    event.record(&mut fields);
    fields.write("target", metadata.target());
    fields.result?;
    line.extend_from_slice(b"}\n");
    Ok(())
}

/// Writer of an event's fields. Their names come from the source, and need no escapes.
struct Fields<'l> {
    line: &'l mut Vec<u8>,
    result: io::Result<()>,
}

impl Fields<'_> {
    fn write(&mut self, name: &str, value: impl Serialize) {
        self.line.extend_from_slice(b",\"");
        self.line.extend_from_slice(name.as_bytes());
        self.line.extend_from_slice(b"\":");
        if let Err(error) = serde_json::to_writer(&mut *self.line, &value) {
            self.result = Err(error.into());
        }
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.write(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write(field.name(), value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.write(field.name(), value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.write(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.write(field.name(), format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::target::ACCESS;
    use serde_json::{Value, json};
    use std::io::{BufRead, BufReader, Read, pipe};
    use std::sync::Arc;
    use tracing::{info, warn};
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::registry;

    /// Returns what is logged while `run` runs.
    fn logged(run: impl FnOnce()) -> Vec<Value> {
        let (reader, writer) = pipe().unwrap();
        tracing::subscriber::with_default(registry().with(Json(Arc::new(writer))), run);
        let parsed = |line: io::Result<String>| serde_json::from_str(&line.unwrap()).unwrap();
        BufReader::new(reader).lines().map(parsed).collect()
    }

    #[test]
    fn what_deceives_the_eye_is_written_out_and_reads_as_it_was() {
        let (mut reader, writer) = pipe().unwrap();
        let words = "a\u{202e}\u{200b}\u{feff}\u{9b}31m\u{e0041}é \\u0041 \"";
        let layer = Json(Arc::new(writer));
        tracing::subscriber::with_default(registry().with(layer), || info!(words, "Said."));
        let mut line = String::new();
        reader.read_to_string(&mut line).unwrap();
        assert!(!line.chars().any(|one| one != '\n' && readable::is_deceptive(one)), "{line:?}");
        assert!(line.contains('é'), "{line:?}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["words"], words);
    }

    #[test]
    fn an_event_is_one_flat_object() {
        let lines = logged(|| {
            info!(target: ACCESS, status = 200, none = None::<&str>, ms = 1.5, "Request.");
            warn!(path = "a\"b\nc\u{1b}", debug = ?"x\"", "Two {}.", "words");
        });
        let [first, second] = &lines[..] else { panic!("{lines:?}") };
        let timestamp = first["timestamp"].as_str().unwrap();
        let age = SystemTime::now().duration_since(humantime::parse_rfc3339(timestamp).unwrap());
        assert!(age.unwrap().as_secs() < 60, "{timestamp}");
        let without_time = |line: &Value| {
            let mut line = line.clone();
            line.as_object_mut().unwrap().remove("timestamp");
            line
        };
        let access = json!({
            "level": "INFO", "message": "Request.", "status": 200, "ms": 1.5, "target": "bearerd::access"
        });
        assert_eq!(without_time(first), access);
        let warning = json!({
            "level": "WARN", "message": "Two words.", "path": "a\"b\nc\u{1b}", "debug": "\"x\\\"\"",
            "target": "bearerd::telemetry::json::tests"
        });
        assert_eq!(without_time(second), warning);
    }
}
