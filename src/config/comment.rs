//! Comments behind secrets that are not quoted: YAML cuts a value at ` #`.

use super::fault::{Fault, Place};
use super::node::{Node, Value};

/// Keys whose values are secrets.
const SECRETS: [&str; 2] = ["client_secret", "password"];

/// Returns a warning for each secret behind which YAML has found a comment. It may be a part of the
/// secret.
pub(super) fn in_secrets(text: &str, tree: &Node) -> Vec<Fault> {
    let mut warnings = Vec::new();
    collect(text, tree, "", &mut warnings);
    warnings
}

fn collect(text: &str, node: &Node, path: &str, warnings: &mut Vec<Fault>) {
    let Value::Map(entries) = &node.value else { return };
    for entry in entries {
        let path = format!("{path}{}{}", if path.is_empty() { "" } else { "." }, entry.key);
        let is_secret = SECRETS.contains(&entry.key.as_str());
        if is_secret && has_comment(text, &entry.node.place) {
            let message = "YAML takes the text from ` #` on for a comment; if it is a part of the secret, put the secret in single quotes";
            let place = entry.node.place.clone();
            warnings.push(Fault { place, path: path.clone(), message: message.to_owned() });
        }
        collect(text, &entry.node, &path, warnings);
    }
}

/// Whether a plain value is followed by a comment on its line.
fn has_comment(text: &str, place: &Place) -> bool {
    let Place::File { line, column, .. } = place else { return false };
    let index = |number: u64| usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
    let line = text.lines().nth(index(*line)).unwrap_or_default();
    let before: String = line.chars().take(index(*column)).collect();
    let value: String = line.chars().skip(index(*column)).collect();
    // A quoted value, a reference, or a mapping in braces has an end of its own.
    let has_end = value.starts_with(['"', '\'', '|', '>'])
        || value.starts_with("${")
        || value.starts_with("env:")
        || before.contains('{');
    !has_end && (value.contains(" #") || value.contains("\t#"))
}
