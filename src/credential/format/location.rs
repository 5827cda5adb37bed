//! Locations in a document: apart from names, the only part of it that messages show.

use std::fmt;

/// The longest name that is shown whole, in characters.
const MAX_NAME: usize = 64;

/// A path into a document or a folder: `xsuaa[0].credentials`, `sapcp/xsuaa/my-instance`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    path: String,
    /// The character before the next name.
    separator: char,
}

impl Location {
    /// The top of a document.
    pub(super) fn document() -> Self {
        Self { path: String::new(), separator: '.' }
    }

    /// The top of a folder.
    pub(super) fn folder() -> Self {
        Self { path: String::new(), separator: '/' }
    }

    /// The value of a key of this map, or a file of this folder.
    pub(super) fn key(&self, name: &str) -> Self {
        Self { path: self.joined(name), separator: '.' }
    }

    /// A folder in this folder.
    pub(super) fn subfolder(&self, name: &str) -> Self {
        Self { path: self.joined(name), separator: '/' }
    }

    /// An item of this list.
    pub(super) fn item(&self, index: usize) -> Self {
        Self { path: format!("{}[{index}]", self.path), separator: '.' }
    }

    fn joined(&self, name: &str) -> String {
        let name = shown(name);
        if self.path.is_empty() { name } else { format!("{}{}{name}", self.path, self.separator) }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.path.is_empty() { "the file" } else { &self.path })
    }
}

/// A name as messages show it: on one line, and cut if it is long.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(MAX_NAME).map(|c| if c.is_control() { '?' } else { c }).collect()
}
