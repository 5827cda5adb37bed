//! Documents of any syntax: maps, lists and texts, which are wiped when they are dropped.

use super::error::FormatError;
use crate::text;
use serde_json::Value;
use zeroize::Zeroizing;

/// The entries of a map in the document's order. A document of lines may have a name twice.
pub(super) type Entries = [(String, Document)];

/// The largest number of levels of JSON in a text that are unpacked. A `secretRootKey` has two.
const MAX_EMBEDDED: u8 = 3;

/// A document, or a value in it.
pub(super) enum Document {
    Text(Zeroizing<String>),
    Flag(bool),
    Map(Vec<(String, Self)>),
    List(Vec<Self>),
    Null,
    /// A number, or bytes that are not text.
    Other,
}

impl Document {
    /// Parses JSON.
    pub(super) fn of_json(text: &str) -> Result<Self, FormatError> {
        let value: Value = serde_json::from_str(text).map_err(|error| {
            let whole = error.to_string();
            let reason = whole.split(" at line ").next().unwrap_or_default().to_owned();
            FormatError::NotJson { reason, line: error.line(), column: error.column() }
        })?;
        Ok(Self::of_json_value(value, MAX_EMBEDDED))
    }

    /// The value of a key that has a file of its own. Line breaks at its end are removed, because
    /// mounts and editors add them.
    pub(super) fn of_key_file(bytes: &[u8]) -> Self {
        match Self::of_text_file(bytes) {
            Self::Text(text) => Self::of_text(text, MAX_EMBEDDED),
            other => other,
        }
    }

    /// Like [`Document::of_key_file`], for a value that is known to be text.
    pub(super) fn of_text_file(bytes: &[u8]) -> Self {
        let Some(text) = decode(bytes) else {
            return Self::Other;
        };
        Self::Text(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// A text, or the JSON in it: Kubernetes and environments hold nested values only as text.
    pub(super) fn of_value(text: String) -> Self {
        Self::of_text(Zeroizing::new(text), MAX_EMBEDDED)
    }

    fn of_text(text: Zeroizing<String>, embedded: u8) -> Self {
        if embedded > 0
            && begins_like_json(&text)
            && let Ok(value) = serde_json::from_str(&text)
        {
            return Self::of_json_value(value, embedded - 1);
        }
        Self::Text(text)
    }

    /// Moves the texts instead of copying them, so that the wiped text is the only copy.
    fn of_json_value(value: Value, embedded: u8) -> Self {
        match value {
            Value::String(text) => Self::of_text(Zeroizing::new(text), embedded),
            Value::Bool(flag) => Self::Flag(flag),
            Value::Array(items) => {
                let item = |item| Self::of_json_value(item, embedded);
                Self::List(items.into_iter().map(item).collect())
            }
            Value::Object(entries) => {
                let entry = |(name, value)| (name, Self::of_json_value(value, embedded));
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
pub(super) fn decode(bytes: &[u8]) -> Option<Zeroizing<String>> {
    text::decode(bytes).ok().map(|text| Zeroizing::new(text.into_owned()))
}

/// Whether a text can only be JSON, although it may be broken.
pub(super) fn begins_like_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_one_value_loses_only_the_line_break_of_editors() {
        for bytes in ["x y ", "x y \n", "x y \r\n", "\u{feff}x y \n"] {
            assert_eq!(Document::of_key_file(bytes.as_bytes()).text(), Some("x y "), "{bytes:?}");
        }
        let utf16: Vec<u8> = "\u{feff}x y \r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(Document::of_key_file(&utf16).text(), Some("x y "));
        assert!(Document::of_key_file(b"\xff").text().is_none());
    }

    #[test]
    fn json_in_text_is_unpacked_three_times_and_not_for_ever() {
        let mut text = "{}".to_owned();
        for _ in 0..5 {
            text = serde_json::json!({ "a": text }).to_string();
        }
        let mut document = Document::of_key_file(text.as_bytes());
        let mut depth = 0;
        while let Document::Map(entries) = document {
            document = entries.into_iter().next().unwrap().1;
            depth += 1;
        }
        assert_eq!(depth, 3);
        assert!(document.text().is_some());
        assert_eq!(Document::of_key_file(b"{no json").text(), Some("{no json"));
    }
}
