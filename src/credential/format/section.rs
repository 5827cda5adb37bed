//! One map of a document, asked for values by name.

use super::error::Problem;
use super::node::{Entries, Node};

/// A map, and the maps around it, innermost first.
pub(super) struct Section<'n> {
    entries: &'n Entries,
    outer: Vec<&'n Entries>,
}

/// The ways to write one name; messages show the first. Case, `-`, `_` and blanks do not matter.
pub(super) type Names = &'static [&'static str];

impl<'n> Section<'n> {
    /// A map that stands alone.
    pub(super) fn of(entries: &'n Entries) -> Self {
        Self { entries, outer: Vec::new() }
    }

    /// A map in this one.
    pub(super) fn nested(&self, name: &str) -> Option<Self> {
        let entries = self.values(name).find_map(Node::map)?;
        let outer = std::iter::once(self.entries).chain(self.outer.iter().copied()).collect();
        Some(Self { entries, outer })
    }

    /// This map and those around it.
    pub(super) fn surroundings(&self) -> impl Iterator<Item = Self> {
        std::iter::once(self.entries).chain(self.outer.iter().copied()).map(Self::of)
    }

    /// Every name and value.
    pub(super) fn entries(&self) -> &'n Entries {
        self.entries
    }

    /// What stands behind a name, however often.
    pub(super) fn values<'a>(&self, name: &'a str) -> impl Iterator<Item = &'n Node> + use<'a, 'n> {
        self.entries.iter().filter(move |(key, _)| is_same(key, name)).map(|(_, value)| value)
    }

    /// Whether one of these names is there, with any value.
    pub(super) fn has(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.values(name).next().is_some())
    }

    /// The text behind a name. An empty one counts as missing.
    pub(super) fn text(&self, names: Names) -> Result<Option<&'n str>, Problem> {
        let field = names.first().copied().unwrap_or_default();
        let mut found: Option<&str> = None;
        let mut is_other = false;
        for value in names.iter().flat_map(|name| self.values(name)) {
            match value {
                Node::Text(text) if text.trim().is_empty() => {}
                Node::Text(text) if found.is_some_and(|found| found != text.as_str()) => {
                    return Err(Problem::Twice { field });
                }
                Node::Text(text) => found = Some(text),
                Node::Null => {}
                _ => is_other = true,
            }
        }
        match found {
            None if is_other => Err(Problem::NotText { field }),
            found => Ok(found),
        }
    }

    /// The text behind a name, which must be there.
    pub(super) fn required(&self, names: Names) -> Result<&'n str, Problem> {
        let field = names.first().copied().unwrap_or_default();
        self.text(names)?.ok_or(Problem::Missing { field })
    }

    /// The text behind a name that is only of interest if it is usable.
    pub(super) fn optional(&self, names: Names) -> Option<&'n str> {
        self.text(names).ok().flatten().map(str::trim)
    }
}

/// Whether two names differ at most in case, `-`, `_` and blanks: `client-id` is `Client ID`.
pub(super) fn is_same(left: &str, right: &str) -> bool {
    plain(left).eq(plain(right))
}

fn plain(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().filter(|byte| !b"-_ ".contains(byte)).map(|byte| byte.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Node {
        Node::Text(text.to_owned().into())
    }

    #[test]
    fn spelling_does_not_matter_but_letters_do() {
        for same in ["clientid", "client_id", "CLIENT-ID", "clientId", "Client ID"] {
            assert!(is_same(same, "client_id"), "{same}");
        }
        for other in ["clientids", "client", "client.id", "my_client_id", "apiurl", ""] {
            assert!(!is_same(other, "client_id"), "{other}");
        }
    }

    #[test]
    fn a_value_given_twice_must_be_the_same() {
        let entries = [("a_b".to_owned(), text("x")), ("ab".to_owned(), text("x"))];
        assert_eq!(Section::of(&entries).text(&["a-b"]), Ok(Some("x")));
        let entries = [("a_b".to_owned(), text("x")), ("ab".to_owned(), text("y"))];
        assert_eq!(Section::of(&entries).text(&["a-b"]), Err(Problem::Twice { field: "a-b" }));
    }

    #[test]
    fn empty_is_missing_and_a_number_is_no_text() {
        let entries = [("a".to_owned(), text(" ")), ("b".to_owned(), Node::Other)];
        let section = Section::of(&entries);
        assert_eq!(section.text(&["a"]), Ok(None));
        assert_eq!(section.required(&["a"]), Err(Problem::Missing { field: "a" }));
        assert_eq!(section.text(&["b"]), Err(Problem::NotText { field: "b" }));
    }
}
