//! Lookup of values by name in one map of a document.

use super::document::{Document, Entries};
use super::error::ClientFault;

/// A map of a document, and the maps around it, innermost first.
pub(super) struct Fields<'n> {
    entries: &'n Entries,
    outer: Vec<&'n Entries>,
}

/// The spellings of one name. Messages show the first. Case, `-`, `_` and blanks do not matter.
pub(super) type FieldNames = &'static [&'static str];

impl<'n> Fields<'n> {
    /// A map without maps around it.
    pub(super) fn of(entries: &'n Entries) -> Self {
        Self { entries, outer: Vec::new() }
    }

    /// A map in this one.
    pub(super) fn nested(&self, name: &str) -> Option<Self> {
        let entries = self.values(name).find_map(Document::map)?;
        let outer = std::iter::once(self.entries).chain(self.outer.iter().copied()).collect();
        Some(Self { entries, outer })
    }

    /// This map and the maps around it.
    pub(super) fn surroundings(&self) -> impl Iterator<Item = Self> {
        std::iter::once(self.entries).chain(self.outer.iter().copied()).map(Self::of)
    }

    /// Every name with its value.
    pub(super) fn entries(&self) -> &'n Entries {
        self.entries
    }

    /// The values of a name, which may be there several times.
    pub(super) fn values<'a>(
        &self,
        name: &'a str,
    ) -> impl Iterator<Item = &'n Document> + use<'a, 'n> {
        self.entries.iter().filter(move |(key, _)| is_same_name(key, name)).map(|(_, value)| value)
    }

    /// Whether one of these names is there, whatever its value.
    pub(super) fn has(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.values(name).next().is_some())
    }

    /// The text of a name. An empty text counts as missing.
    pub(super) fn text(&self, names: FieldNames) -> Result<Option<&'n str>, ClientFault> {
        let field = names.first().copied().unwrap_or_default();
        let mut found: Option<&str> = None;
        let mut is_other = false;
        for value in names.iter().flat_map(|name| self.values(name)) {
            match value {
                Document::Text(text) if text.trim().is_empty() => {}
                Document::Text(text) if found.is_some_and(|found| found != text.as_str()) => {
                    return Err(ClientFault::Twice { field });
                }
                Document::Text(text) => found = Some(text),
                Document::Null => {}
                _ => is_other = true,
            }
        }
        match found {
            None if is_other => Err(ClientFault::NotText { field }),
            found => Ok(found),
        }
    }

    /// The text of a name that must be there.
    pub(super) fn required(&self, names: FieldNames) -> Result<&'n str, ClientFault> {
        let field = names.first().copied().unwrap_or_default();
        self.text(names)?.ok_or(ClientFault::Missing { field })
    }

    /// The text of a name, or `None` if it can't be used.
    pub(super) fn optional(&self, names: FieldNames) -> Option<&'n str> {
        self.text(names).ok().flatten().map(str::trim)
    }
}

/// Whether two names differ at most in case, `-`, `_` and blanks: `client-id` is `Client ID`.
pub(super) fn is_same_name(left: &str, right: &str) -> bool {
    normalized(left).eq(normalized(right))
}

fn normalized(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().filter(|byte| !b"-_ ".contains(byte)).map(|byte| byte.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Document {
        Document::Text(text.to_owned().into())
    }

    #[test]
    fn spelling_does_not_matter_but_letters_do() {
        for same in ["clientid", "client_id", "CLIENT-ID", "clientId", "Client ID"] {
            assert!(is_same_name(same, "client_id"), "{same}");
        }
        for other in ["clientids", "client", "client.id", "my_client_id", "apiurl", ""] {
            assert!(!is_same_name(other, "client_id"), "{other}");
        }
    }

    #[test]
    fn a_value_given_twice_must_be_the_same() {
        let entries = [("a_b".to_owned(), text("x")), ("ab".to_owned(), text("x"))];
        assert_eq!(Fields::of(&entries).text(&["a-b"]), Ok(Some("x")));
        let entries = [("a_b".to_owned(), text("x")), ("ab".to_owned(), text("y"))];
        assert_eq!(Fields::of(&entries).text(&["a-b"]), Err(ClientFault::Twice { field: "a-b" }));
    }

    #[test]
    fn empty_is_missing_and_a_number_is_no_text() {
        let entries = [("a".to_owned(), text(" ")), ("b".to_owned(), Document::Other)];
        let fields = Fields::of(&entries);
        assert_eq!(fields.text(&["a"]), Ok(None));
        assert_eq!(fields.required(&["a"]), Err(ClientFault::Missing { field: "a" }));
        assert_eq!(fields.text(&["b"]), Err(ClientFault::NotText { field: "b" }));
    }
}
