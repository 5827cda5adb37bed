//! A mapping of the tree, read by its table of [`super::file`]; what is wrong is noted and reading goes on.

use super::fault::{Faults, Place};
use super::file::Fallback::{Absent, Nested, OneOf, Required, Text};
use super::file::Field;
use super::node::{Entry, Node, Value};
use crate::environment::Environment;

/// What reading needs at hand: substitution, and where faults go.
pub(crate) struct Reader<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) faults: Faults,
}

/// A scalar as the reader found it.
pub(crate) struct Scalar<'n> {
    pub(crate) value: String,
    pub(crate) place: &'n Place,
    pub(crate) path: String,
}

/// A mapping read by its table.
pub(crate) struct Section<'n> {
    path: String,
    place: &'n Place,
    fields: &'static [Field],
    entries: &'n [Entry],
}

impl<'n> Section<'n> {
    /// Opens a mapping and refuses the keys its table does not have.
    pub(crate) fn open(
        reader: &mut Reader<'_>,
        node: &'n Node,
        path: &str,
        fields: &'static [Field],
    ) -> Self {
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            Value::Scalar(_) | Value::List(_) => {
                let message = format!("expected a mapping, found {}", node.shape());
                reader.faults.push(&node.place, path, message);
                &[]
            }
        };
        for entry in entries {
            if !fields.iter().any(|field| field.key == entry.key) {
                let known = fields.iter().map(|field| field.key);
                reader.faults.push(
                    &entry.place,
                    &join(path, &entry.key),
                    unknown("key", &entry.key, known),
                );
            }
        }
        Self { path: path.to_owned(), place: &node.place, fields, entries }
    }

    /// The section at `key`; a missing one reads as empty.
    pub(crate) fn child(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        fields: &'static [Field],
    ) -> Self {
        const EMPTY: &Node = &Node::empty_map();
        Self::open(reader, self.node(key).unwrap_or(EMPTY), &self.path(key), fields)
    }

    /// The full path of a key, for messages.
    pub(crate) fn path(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// The mapping's own place.
    pub(crate) const fn place(&self) -> &'n Place {
        self.place
    }

    /// The node at `key`; `None` when the key is missing or empty.
    pub(crate) fn node(&self, key: &str) -> Option<&'n Node> {
        debug_assert!(self.fields.iter().any(|field| field.key == key));
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.node)
            .filter(|node| !matches!(node.value, Value::Null))
    }

    /// The place of `key`, or of the mapping when the key is missing.
    pub(crate) fn place_of(&self, key: &str) -> &'n Place {
        self.node(key).map_or(self.place, |node| &node.place)
    }

    /// The scalar at `key` or its default, with references to the environment replaced.
    pub(crate) fn text(&self, reader: &mut Reader<'_>, key: &str) -> Option<Scalar<'n>> {
        let path = self.path(key);
        if let Some(node) = self.node(key) {
            return scalar(reader, node, &path);
        }
        match self.fields.iter().find(|field| field.key == key)?.default {
            Text(value) => Some(Scalar { value: value.to_owned(), place: &Place::Nowhere, path }),
            Required => {
                let message = "missing; this key is required";
                reader.faults.push(self.place, &path, message);
                None
            }
            Absent | OneOf | Nested => None,
        }
    }

    /// The scalar at `key`, parsed. A value that does not parse is one fault.
    pub(crate) fn parse<T>(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        parser: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(reader, key)?;
        parser(&text.value)
            .map_err(|message| reader.faults.push(text.place, &text.path, message))
            .ok()
    }

    /// The names and values of a mapping of scalars, such as `token_params`.
    pub(crate) fn pairs(&self, reader: &mut Reader<'_>, key: &str) -> Vec<(&'n str, Scalar<'n>)> {
        let path = self.path(key);
        named(reader, self.node(key), &path)
            .iter()
            .filter_map(|entry| {
                let text = scalar(reader, &entry.node, &join(&path, &entry.key))?;
                Some((entry.key.as_str(), text))
            })
            .collect()
    }

    /// The scalars of a list; a single scalar counts as a list of one.
    pub(crate) fn list(&self, reader: &mut Reader<'_>, key: &str) -> Vec<Scalar<'n>> {
        match self.node(key).map(|node| &node.value) {
            Some(Value::List(items)) => items
                .iter()
                .enumerate()
                .filter_map(|(index, item)| {
                    scalar(reader, item, &format!("{}[{index}]", self.path(key)))
                })
                .collect(),
            _ => self.text(reader, key).into_iter().collect(),
        }
    }
}

/// The entries of a mapping whose keys are the user's own names.
pub(crate) fn named<'n>(
    reader: &mut Reader<'_>,
    node: Option<&'n Node>,
    path: &str,
) -> &'n [Entry] {
    match node.map(|node| (&node.value, node)) {
        Some((Value::Map(entries), _)) => entries,
        Some((Value::Null, _)) | None => &[],
        Some((_, node)) => {
            let message = format!("expected a mapping, found {}", node.shape());
            reader.faults.push(&node.place, path, message);
            &[]
        }
    }
}

fn scalar<'n>(reader: &mut Reader<'_>, node: &'n Node, path: &str) -> Option<Scalar<'n>> {
    let Value::Scalar(written) = &node.value else {
        let message = format!("expected a single value, found {}", node.shape());
        reader.faults.push(&node.place, path, message);
        return None;
    };
    match reader.environment.expand(written) {
        Ok(value) => Some(Scalar { value, place: &node.place, path: path.to_owned() }),
        Err(message) => {
            reader.faults.push(&node.place, path, message);
            None
        }
    }
}

/// "unknown key `lisen`; did you mean `listen`?", or the list of what there is.
pub(crate) fn unknown<'a>(
    what: &str,
    given: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> String {
    let nearest = known
        .clone()
        .map(|candidate| (strsim::jaro_winkler(candidate, given), candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((likeness, candidate)) if likeness > 0.8 => {
            format!("unknown {what} `{given}`; did you mean `{candidate}`?")
        }
        _ => {
            let known: Vec<_> = known.collect();
            format!("unknown {what} `{given}`; known: {}", known.join(", "))
        }
    }
}

/// `clients` + `name` is `clients.name`.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
