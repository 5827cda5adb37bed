//! Events as lines of text: one each, whatever foreign text they quote.

use crate::readable;
use std::io::{self, Write};
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// Start of a further line of an event, which no event begins with.
const INDENT: &[u8] = b"\n    ";

/// Writer that keeps an event from looking like two, and makes invisible characters visible. The
/// formatter has escaped all that could move a terminal's cursor, except for the oldest control
/// characters.
pub(super) struct OneLine<W>(pub(super) W);

impl<'writer, W: MakeWriter<'writer>> MakeWriter<'writer> for OneLine<W> {
    type Writer = TextLine<W::Writer>;

    fn make_writer(&'writer self) -> Self::Writer {
        TextLine(self.0.make_writer())
    }

    fn make_writer_for(&'writer self, metadata: &Metadata<'_>) -> Self::Writer {
        TextLine(self.0.make_writer_for(metadata))
    }
}

/// Writer of one event, which comes in one call.
pub(super) struct TextLine<W>(W);

impl<W: Write> Write for TextLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let (text, end) = match event.split_last() {
            Some((b'\n', text)) => (text, &b"\n"[..]),
            _ => (event, &b""[..]),
        };
        if !text.iter().any(|byte| is_old_control(*byte) || !byte.is_ascii()) {
            return self.0.write_all(event).map(|()| event.len());
        }
        let seen = std::str::from_utf8(text).map(readable::beyond_ascii);
        let text = seen.as_ref().map_or(text, |seen| seen.as_bytes());
        let mut clean = Vec::with_capacity(event.len() + 16);
        for byte in text {
            match byte {
                b'\n' => clean.extend_from_slice(INDENT),
                byte if is_old_control(*byte) => write!(clean, "\\x{byte:02x}")?,
                byte => clean.push(*byte),
            }
        }
        clean.extend_from_slice(end);
        self.0.write_all(&clean).map(|()| event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Whether a byte is a control character other than those that the formatter itself writes: tabs,
/// and the escape character (0x1b) of its colours.
const fn is_old_control(byte: u8) -> bool {
    byte < b' ' && !matches!(byte, b'\t' | 0x1b)
}

#[cfg(test)]
mod tests {
    use super::super::subscriber;
    use crate::config::{Log, LogFormat};
    use std::io::{Read, pipe};
    use std::sync::Arc;
    use tracing::level_filters::LevelFilter;
    use tracing::{info, warn};

    #[test]
    fn an_event_of_text_is_never_two_and_moves_no_cursor() {
        let (mut reader, writer) = pipe().unwrap();
        let log = Log { level: LevelFilter::INFO, format: LogFormat::Text };
        let (subscriber, _) = subscriber(log, Arc::new(writer));
        tracing::subscriber::with_default(subscriber, || {
            let words = "bad\r\n2026-01-01T00:00:00Z  INFO forged\u{1b}[2J\u{9b}31m\0\u{202e}\u{200b}\u{e0041}é";
            warn!("They said: {words}.");
            info!(path = "a\nb", "Next.");
        });
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text:?}");
        assert!(lines[1].starts_with("    2026"), "{text:?}");
        assert!(!text.contains(['\r', '\0', '\u{9b}']) && !text.contains("\u{1b}[2J"), "{text:?}");
        assert!(text.contains("\\u202e\\u200b\\udb40\\udc41é"), "{text:?}");
        assert!(text.ends_with("\n") && lines[2].contains(r#"path="a\nb""#), "{text:?}");
    }
}
