//! A mapping of the tree, read by its table of [`super::file`]. Reading continues after a fault.

use super::fault::{Fault, Faults, Place};
use super::field::Fallback::{Absent, Nested, OneOf, Required, Text};
use super::field::Field;
use super::node::{Entry, Node, Value};
use crate::environment::Environment;
use std::cell::RefCell;

/// The faults found so far, and the environment for references in values.
pub(crate) struct Reader<'a> {
    pub(crate) environment: &'a Environment,
    faults: RefCell<Faults>,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(environment: &'a Environment, faults: Faults) -> Self {
        Self { environment, faults: RefCell::new(faults) }
    }

    pub(crate) fn fault(&self, place: &Place, path: &str, message: impl Into<String>) {
        self.faults.borrow_mut().push(place, path, message);
    }

    pub(crate) fn into_faults(self) -> Faults {
        self.faults.into_inner()
    }
}

/// A single value of the text, with references to the environment replaced.
pub(crate) struct Scalar<'n> {
    reader: &'n Reader<'n>,
    pub(crate) value: String,
    pub(crate) place: &'n Place,
    path: String,
}

impl Scalar<'_> {
    /// Records what is wrong with this value.
    pub(crate) fn fault(&self, message: impl Into<String>) {
        self.reader.fault(self.place, &self.path, message);
    }

    /// Parses the value. A value that does not parse is a fault.
    pub(crate) fn parse<T>(&self, parser: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        parser(&self.value).map_err(|message| self.fault(message)).ok()
    }
}

/// An item of a list that has values and mappings.
pub(crate) enum Item<'n> {
    /// A single value.
    Value(Scalar<'n>),
    /// A mapping.
    Section(Section<'n>),
}

/// A mapping and the table of its keys.
#[derive(Clone)]
pub(crate) struct Section<'n> {
    pub(crate) reader: &'n Reader<'n>,
    path: String,
    place: &'n Place,
    fields: &'static [Field],
    entries: &'n [Entry],
}

impl<'n> Section<'n> {
    /// Opens a mapping. A key that the table does not have is a fault.
    pub(crate) fn open(
        reader: &'n Reader<'n>,
        node: &'n Node,
        path: String,
        fields: &'static [Field],
    ) -> Self {
        let entries = entries(reader, node, &path);
        for entry in entries {
            if !fields.iter().any(|field| field.key == entry.key) {
                let known = fields.iter().map(|field| field.key);
                let message = unknown("key", &entry.key, known);
                reader.fault(&entry.place, &join(&path, &entry.key), message);
            }
        }
        Self { reader, path, place: &node.place, fields, entries }
    }

    /// The section at `key`. A missing section is read as an empty one: its keys have their
    /// defaults.
    pub(crate) fn child(&self, key: &str, fields: &'static [Field]) -> Self {
        const EMPTY: &Node = &Node::empty_map();
        let node = self.node(key).unwrap_or(EMPTY);
        Self::open(self.reader, node, self.path(key), fields)
    }

    /// The section at `key`; `None` if it is missing.
    pub(crate) fn optional(&self, key: &str, fields: &'static [Field]) -> Option<Self> {
        self.node(key).map(|node| Self::open(self.reader, node, self.path(key), fields))
    }

    /// The sections below `key`, each under a name that the user chose.
    pub(crate) fn named(&self, key: &str, fields: &'static [Field]) -> Vec<(&'n str, Self)> {
        let path = self.path(key);
        let entries = self.node(key).map_or(&[][..], |node| entries(self.reader, node, &path));
        let open = |entry: &'n Entry| {
            let path = join(&path, &entry.key);
            (entry.key.as_str(), Self::open(self.reader, &entry.node, path, fields))
        };
        entries.iter().map(open).collect()
    }

    /// The full path of a key, for messages.
    pub(crate) fn path(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// The mapping's own path, for messages.
    pub(crate) fn own_path(&self) -> &str {
        &self.path
    }

    /// The mapping's own place.
    pub(crate) const fn place(&self) -> &'n Place {
        self.place
    }

    /// Whether `key` has a value.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.node(key).is_some()
    }

    /// Whether `key` is there without a value.
    pub(crate) fn is_empty(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key) && !self.has(key)
    }

    /// Records a fault for each of these keys that is there without a value.
    pub(crate) fn refuse_empty(&self, keys: &[&str]) {
        for key in keys.iter().filter(|key| self.is_empty(key)) {
            self.fault(key, "is empty; give a value, or remove the key");
        }
    }

    /// The node at `key`; `None` if the key is missing or empty.
    pub(crate) fn node(&self, key: &str) -> Option<&'n Node> {
        debug_assert!(self.fields.iter().any(|field| field.key == key));
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.node)
            .filter(|node| !matches!(node.value, Value::Null))
    }

    /// The place of `key`, or of the mapping if the key is missing.
    pub(crate) fn place_of(&self, key: &str) -> &'n Place {
        self.node(key).map_or(self.place, |node| &node.place)
    }

    /// Records a fault of `key`, at its place.
    pub(crate) fn fault(&self, key: &str, message: impl Into<String>) {
        self.reader.fault(self.place_of(key), &self.path(key), message);
    }

    /// The fault that `key` may turn out to have. It is not recorded.
    pub(crate) fn possible_fault(&self, key: &str, message: &str) -> Fault {
        let (place, path) = (self.place_of(key).clone(), self.path(key));
        Fault { place, path, message: message.to_owned() }
    }

    /// The value at `key`, or its default.
    pub(crate) fn text(&self, key: &str) -> Option<Scalar<'n>> {
        let path = self.path(key);
        if let Some(node) = self.node(key) {
            return scalar(self.reader, node, path);
        }
        match self.fields.iter().find(|field| field.key == key)?.default {
            Text(value) => {
                let (reader, value, place) = (self.reader, value.to_owned(), &Place::Nowhere);
                Some(Scalar { reader, value, place, path })
            }
            Required => {
                self.fault(key, "missing; this key is required");
                None
            }
            Absent | OneOf | Nested => None,
        }
    }

    /// The value at `key` or its default, parsed. A value that does not parse is a fault.
    pub(crate) fn parse<T>(
        &self,
        key: &str,
        parser: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.text(key)?.parse(parser)
    }

    /// The names and values of a mapping of single values, for example `token_params`.
    pub(crate) fn pairs(&self, key: &str) -> Vec<(&'n str, Scalar<'n>)> {
        let path = self.path(key);
        let entries = self.node(key).map_or(&[][..], |node| entries(self.reader, node, &path));
        let pair = |entry: &'n Entry| {
            let text = scalar(self.reader, &entry.node, join(&path, &entry.key))?;
            Some((entry.key.as_str(), text))
        };
        entries.iter().filter_map(pair).collect()
    }

    /// The items of a list that has values and mappings; a single item counts as a list of one.
    pub(crate) fn items(&self, key: &str, fields: &'static [Field]) -> Vec<Item<'n>> {
        let item = |node: &'n Node, path: String| match node.value {
            Value::Map(_) => Some(Item::Section(Self::open(self.reader, node, path, fields))),
            _ => scalar(self.reader, node, path).map(Item::Value),
        };
        match self.node(key) {
            Some(Node { value: Value::List(items), .. }) => items
                .iter()
                .enumerate()
                .filter_map(|(index, node)| item(node, format!("{}[{index}]", self.path(key))))
                .collect(),
            Some(node) => item(node, self.path(key)).into_iter().collect(),
            None => self.text(key).map(Item::Value).into_iter().collect(),
        }
    }

    /// The values of a list; a single value counts as a list of one.
    pub(crate) fn list(&self, key: &str) -> Vec<Scalar<'n>> {
        match self.node(key).map(|node| &node.value) {
            Some(Value::List(items)) => items
                .iter()
                .enumerate()
                .filter_map(|(index, item)| {
                    scalar(self.reader, item, format!("{}[{index}]", self.path(key)))
                })
                .collect(),
            _ => self.text(key).into_iter().collect(),
        }
    }

    /// The values of a list, parsed; `None` if one does not parse.
    pub(crate) fn parse_list<T>(
        &self,
        key: &str,
        parser: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        // All are parsed, so that each one that is wrong leaves its fault.
        let parsed: Vec<_> = self.list(key).iter().map(|text| text.parse(&parser)).collect();
        parsed.into_iter().collect()
    }
}

/// The entries of a mapping. A node of another shape is a fault.
fn entries<'n>(reader: &Reader<'_>, node: &'n Node, path: &str) -> &'n [Entry] {
    match &node.value {
        Value::Map(entries) => entries,
        Value::Null => &[],
        Value::Scalar(_) | Value::List(_) => {
            let message = format!("expected a mapping, found {}", node.shape());
            reader.fault(&node.place, path, message);
            &[]
        }
    }
}

fn scalar<'n>(reader: &'n Reader<'n>, node: &'n Node, path: String) -> Option<Scalar<'n>> {
    let Value::Scalar(written) = &node.value else {
        let message = format!("expected a single value, found {}", node.shape());
        reader.fault(&node.place, &path, message);
        return None;
    };
    let expanded = reader.environment.expand(written);
    let value = expanded.map_err(|message| reader.fault(&node.place, &path, message)).ok()?;
    Some(Scalar { reader, value, place: &node.place, path })
}

/// A message about an unknown word: "unknown key `lisen`; did you mean `listen`?", or the list of
/// known words.
pub(crate) fn unknown<'a>(
    what: &str,
    given: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> String {
    let lower = given.to_lowercase();
    let nearest = known
        .clone()
        .map(|candidate| (strsim::jaro_winkler(candidate, &lower), candidate))
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

/// The path of a key: `clients` and `name` are `clients.name`.
fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
