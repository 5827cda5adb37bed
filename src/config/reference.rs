//! The documented default configuration, written from the tables of [`super::file`].

use super::file::{self, Fallback, Field};
use std::fmt::Write;

const HEAD: &str = "\
# Every key of bearerd's configuration, with its default.
#
# Keys behind `#` are optional and have no default: what stands there is an example. Values take
# ${NAME} and ${NAME:-default} from the environment. Durations have a unit: 300ms, 5s, 2m.
# Written by `bearerd reference`.
";

/// The text of `config/reference.yaml`.
pub fn reference() -> String {
    let mut text = HEAD.to_owned();
    section(&mut text, file::ROOT, 0, "");
    text
}

/// Writes one table. `lead` is what the first line begins with: nothing, or a list's dash.
fn section(text: &mut String, fields: &[Field], indent: usize, lead: &str) {
    let pad = " ".repeat(indent);
    let inner = indent + lead.len();
    let inner_pad = " ".repeat(inner);
    for (index, field) in fields.iter().enumerate() {
        let begin =
            if index == 0 && !lead.is_empty() { format!("{pad}{lead}") } else { " ".repeat(inner) };
        if inner == 0 {
            text.push('\n');
        }
        comment(text, field.doc, if index == 0 { &pad } else { &inner_pad });
        let key = field.key;
        let line = match field.default {
            Fallback::Text(default) => format!("{begin}{key}: {default}"),
            Fallback::Required | Fallback::OneOf => {
                format!("{begin}{key}: {}", quoted(field.example))
            }
            Fallback::Absent if key == "routes" => format!("{begin}{key}:"),
            Fallback::Absent if field.example.is_empty() => format!("{begin}# {key}: \"\""),
            Fallback::Absent => format!("{begin}# {key}: {}", quoted(field.example)),
            Fallback::Nested => format!("{begin}{key}:"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line}");
        match key {
            "admin" => section(text, file::ADMIN, inner + 2, ""),
            "clients" => {
                text.push_str("  technical-user:\n");
                section(text, file::CLIENT, 4, "");
            }
            "upstreams" => {
                text.push_str("  datasphere:\n");
                section(text, file::UPSTREAM, 4, "");
            }
            "csrf" => section(text, file::CSRF, inner + 2, ""),
            "queue" => section(text, file::QUEUE, inner + 2, ""),
            "timeouts" => section(text, file::TIMEOUTS, inner + 2, ""),
            "routes" => section(text, file::ROUTE, 2, "- "),
            "access" => section(text, file::ACCESS, inner + 2, ""),
            "basic" => section(text, file::BASIC, inner + 2, ""),
            "limits" => section(text, file::LIMITS, inner + 2, ""),
            "log" => section(text, file::LOG, inner + 2, ""),
            "shutdown" => section(text, file::SHUTDOWN, inner + 2, ""),
            _ => {}
        }
    }
}

fn quoted(example: &str) -> String {
    let plain = !example.contains(['!', '|', '$']);
    if plain { example.to_owned() } else { format!("\"{example}\"") }
}

/// A comment, wrapped at 100 columns.
fn comment(text: &mut String, doc: &str, pad: &str) {
    let mut line = format!("{pad}#");
    for word in doc.split(' ') {
        if line.len() + 1 + word.len() > 100 {
            text.push_str(&line);
            text.push('\n');
            line = format!("{pad}#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}
