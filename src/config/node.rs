//! A YAML document as a tree in which every value has its place.
//!
//! serde stops at the first error, but a user wants a report of all faults at once. So the document
//! is read into this tree first, which accepts any YAML. [`super::section`] then reads the tree by
//! the tables of [`super::file`].

use super::fault::{Faults, Place};
use super::syntax;
use crate::environment;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use std::collections::BTreeSet;
use std::fmt;

/// One value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

/// The shapes of a value. Scalars stay text as written, so that a secret like `007` keeps its
/// zeros.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a mapping with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) node: Node,
}

impl Node {
    pub(crate) const fn empty_map() -> Self {
        Self { place: Place::Nowhere, value: Value::Map(Vec::new()) }
    }

    pub(crate) const fn scalar(place: Place, text: String) -> Self {
        Self { place, value: Value::Scalar(text) }
    }

    /// The name of the shape, for messages.
    pub(crate) const fn shape(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The names of the variables that the values refer to, as `${NAME}` or `env:NAME`.
    pub(crate) fn references(&self) -> BTreeSet<String> {
        match &self.value {
            Value::Null => BTreeSet::new(),
            Value::Scalar(text) => {
                let mut names = environment::references(text);
                names.extend(text.strip_prefix("env:").map(str::to_owned));
                names
            }
            Value::List(nodes) => nodes.iter().flat_map(Self::references).collect(),
            Value::Map(entries) => {
                entries.iter().flat_map(|entry| entry.node.references()).collect()
            }
        }
    }

    /// The entries of a mapping; an empty value becomes a mapping. `None` for other shapes.
    pub(crate) fn entries_mut(&mut self) -> Option<&mut Vec<Entry>> {
        if matches!(self.value, Value::Null) {
            self.value = Value::Map(Vec::new());
        }
        match &mut self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value at `key`, which is inserted if it is missing. `None` if this node is not a
    /// mapping.
    pub(crate) fn child_mut(&mut self, key: &str) -> Option<&mut Self> {
        let entries = self.entries_mut()?;
        let index = match entries.iter().position(|entry| entry.key == key) {
            Some(index) => index,
            None => {
                entries.push(Entry {
                    key: key.to_owned(),
                    place: Place::Nowhere,
                    node: Self { place: Place::Nowhere, value: Value::Null },
                });
                entries.len() - 1
            }
        };
        entries.get_mut(index).map(|entry| &mut entry.node)
    }
}

/// Parses a document. `name` is the file's name, for places.
pub(crate) fn parse(name: &str, text: &str) -> Result<Node, Faults> {
    // The file is small, so a comment of any length is.
    let budget = serde_saphyr::budget! { max_buffered_comment_events: usize::MAX };
    let options = serde_saphyr::options! { budget: budget };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(raw) => Ok(lower(name, text, raw)),
        Err(error) => {
            let found = error.location().map(|location| (location.line(), location.column()));
            let (at, message) = syntax::explain(text, found, &error.without_snippet().to_string());
            let place = at.map_or(Place::Nowhere, |(line, column)| Place::File {
                name: name.to_owned(),
                line,
                column,
            });
            let mut faults = Faults::default();
            faults.push(&place, "", format!("not valid YAML: {message}"));
            Err(faults)
        }
    }
}

/// The tree as serde builds it, with the library's locations.
enum Raw {
    Null,
    /// A string: quoted, or plain and neither a number nor a boolean.
    Text(String),
    /// A number or a boolean; its text is taken from the source.
    Typed,
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut mapping: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = mapping.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

fn lower(name: &str, source: &str, raw: Spanned<Raw>) -> Node {
    let place_of = |location: serde_saphyr::Location| Place::File {
        name: name.to_owned(),
        line: location.line(),
        column: location.column(),
    };
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Text(text) => Value::Scalar(text),
        Raw::Typed => Value::Scalar(as_written(source, &raw.defined)),
        Raw::List(items) => {
            Value::List(items.into_iter().map(|item| lower(name, source, item)).collect())
        }
        Raw::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, node)| Entry {
                    place: place_of(key.referenced),
                    key: key.value,
                    node: lower(name, source, node),
                })
                .collect(),
        ),
    };
    Node { place: place_of(raw.referenced), value }
}

/// The source text of a plain scalar.
fn as_written(source: &str, location: &serde_saphyr::Location) -> String {
    let span = location.span();
    let written = || {
        let start = usize::try_from(span.byte_offset()?).ok()?;
        let length = usize::try_from(span.byte_len()?).ok()?;
        source.get(start..start.checked_add(length)?)
    };
    written().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar<'a>(node: &'a Node, key: &str) -> &'a str {
        let Value::Map(entries) = &node.value else { panic!("a mapping") };
        let entry = entries.iter().find(|entry| entry.key == key).unwrap();
        let Value::Scalar(text) = &entry.node.value else { panic!("a scalar") };
        text
    }

    #[test]
    fn scalars_keep_their_text_and_values_know_their_line() {
        let text = "secret: 007\nbig: 12345678901234567890123\nyes: true\nhalf: 0.50\nquoted: '1e3' # why\n";
        let node = parse("a.yaml", text).unwrap();
        assert_eq!(scalar(&node, "secret"), "007");
        assert_eq!(scalar(&node, "big"), "12345678901234567890123");
        assert_eq!(scalar(&node, "yes"), "true");
        assert_eq!(scalar(&node, "half"), "0.50");
        assert_eq!(scalar(&node, "quoted"), "1e3");
        let Value::Map(entries) = &node.value else { panic!("a mapping") };
        assert_eq!(entries[3].place, Place::File { name: "a.yaml".into(), line: 4, column: 1 });
    }

    #[test]
    fn broken_yaml_is_one_fault_with_its_place() {
        let faults = parse("a.yaml", "listen: [1,\nadmin: {").unwrap_err();
        assert_eq!(faults.0.len(), 1);
        assert!(faults.to_string().starts_with("a.yaml:"), "{faults}");
    }
}
