//! A document, whatever its syntax: maps, lists and texts that are wiped when dropped.

use super::error::FormatError;
use super::lines;
use crate::text;
use serde_json::Value;
use zeroize::Zeroizing;

/// The entries of a map, in the document's order. Lines may give a name twice.
pub(super) type Entries = [(String, Node)];

/// How often JSON is unpacked that stands in a text: a `secretRootKey` has it twice.
const MAX_EMBEDDED: u8 = 3;

/// A value of a document.
pub(super) enum Node {
    Text(Zeroizing<String>),
    Flag(bool),
    Map(Vec<(String, Self)>),
    List(Vec<Self>),
    /// Nothing, a number, or bytes that are no text.
    Null,
    Other,
}

impl Node {
    /// Reads a whole file: JSON if it begins like that, else lines of names and values.
    pub(super) fn of_document(bytes: &[u8]) -> Result<Self, FormatError> {
        let text = decoded(bytes).ok_or(FormatError::NotUtf8)?;
        if !begins_like_json(&text) {
            return Ok(lines::parse(&text));
        }
        let value: Value = serde_json::from_str(&text)
            .map_err(|error| FormatError::NotJson { line: error.line(), column: error.column() })?;
        Ok(Self::of_json(value, MAX_EMBEDDED))
    }

    /// Reads a file that is one key's value. Mounts and editors end it with a line break.
    pub(super) fn of_key_file(bytes: &[u8]) -> Self {
        match Self::of_text_file(bytes) {
            Self::Text(text) => Self::of_text(text, MAX_EMBEDDED),
            other => other,
        }
    }

    /// Like [`Node::of_key_file`], where the value is known to be text.
    pub(super) fn of_text_file(bytes: &[u8]) -> Self {
        let Some(text) = decoded(bytes) else {
            return Self::Other;
        };
        Self::Text(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// A text, or the JSON in it: Kubernetes and environments can hold nests only as text.
    pub(super) fn of_value(text: String) -> Self {
        Self::of_text(Zeroizing::new(text), MAX_EMBEDDED)
    }

    fn of_text(text: Zeroizing<String>, embedded: u8) -> Self {
        if embedded > 0
            && begins_like_json(&text)
            && let Ok(value) = serde_json::from_str(&text)
        {
            return Self::of_json(value, embedded - 1);
        }
        Self::Text(text)
    }

    /// Takes the texts over without copying them, so that wiping them wipes the only copy.
    fn of_json(value: Value, embedded: u8) -> Self {
        match value {
            Value::String(text) => Self::of_text(Zeroizing::new(text), embedded),
            Value::Bool(flag) => Self::Flag(flag),
            Value::Array(items) => {
                Self::List(items.into_iter().map(|item| Self::of_json(item, embedded)).collect())
            }
            Value::Object(entries) => {
                let entry = |(name, value)| (name, Self::of_json(value, embedded));
                Self::Map(entries.into_iter().map(entry).collect())
            }
            Value::Null => Self::Null,
            Value::Number(_) => Self::Other,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn map(&self) -> Option<&Entries> {
        match self {
            Self::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub(super) fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }
}

/// The text of a file, which may be a secret.
fn decoded(bytes: &[u8]) -> Option<Zeroizing<String>> {
    text::decode(bytes).ok().map(|text| Zeroizing::new(text.into_owned()))
}

fn begins_like_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_one_value_loses_only_what_editors_add() {
        for bytes in ["x y ", "x y \n", "x y \r\n", "\u{feff}x y \n"] {
            assert_eq!(Node::of_key_file(bytes.as_bytes()).text(), Some("x y "), "{bytes:?}");
        }
        let utf16: Vec<u8> = "\u{feff}x y \r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(Node::of_key_file(&utf16).text(), Some("x y "));
        assert!(Node::of_key_file(b"\xff").text().is_none());
    }

    #[test]
    fn json_in_text_is_unpacked_so_often_and_not_for_ever() {
        let mut text = "{}".to_owned();
        for _ in 0..5 {
            text = serde_json::json!({ "a": text }).to_string();
        }
        let mut node = Node::of_key_file(text.as_bytes());
        let mut depth = 0;
        while let Node::Map(entries) = node {
            node = entries.into_iter().next().unwrap().1;
            depth += 1;
        }
        assert_eq!(depth, 3);
        assert!(node.text().is_some());
        assert_eq!(Node::of_key_file(b"{no json").text(), Some("{no json"));
    }
}
