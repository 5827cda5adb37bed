//! `VCAP_SERVICES` of Cloud Foundry: a map of labels to lists of bindings.

use super::choice::Traits;
use super::document::{Document, Entries};
use super::fields::Fields;
use super::location::Location;

/// The format's name, and the key that holds the map.
pub(super) const NAME: &str = "VCAP_SERVICES";

/// One binding, which may or may not hold an OAuth client.
pub(super) struct ServiceBinding<'d> {
    pub(super) entries: &'d Entries,
    pub(super) location: Location,
    pub(super) traits: Traits,
}

impl ServiceBinding<'_> {
    /// The location of its credentials.
    pub(super) fn credentials(&self) -> Location {
        self.location.key("credentials")
    }
}

/// Returns every binding of a document, in the document's order.
pub(super) fn bindings<'d>(
    document: &'d Document,
    top: &Location,
) -> impl Iterator<Item = ServiceBinding<'d>> {
    labels(document).unwrap_or_default().iter().flat_map(move |(label, bindings)| {
        let location = top.key(label);
        let bindings = bindings.list().unwrap_or_default().iter().enumerate();
        bindings.filter_map(move |(index, binding)| {
            let entries = binding.map()?;
            let mut traits = Traits::of(entries);
            traits.labels.push(label.clone());
            Some(ServiceBinding { entries, location: location.item(index), traits })
        })
    })
}

/// The map of labels. A document is one, or holds one under its name, as `.env` files and CAP's
/// `default-env.json` do.
fn labels(document: &Document) -> Option<&Entries> {
    let entries = document.map()?;
    let inner = Fields::of(entries).values(NAME).find_map(Document::map);
    inner.or_else(|| is_map_of_bindings(entries).then_some(entries))
}

fn is_map_of_bindings(entries: &Entries) -> bool {
    let is_binding = |item: &Document| {
        item.map().is_some_and(|map| Fields::of(map).nested("credentials").is_some())
    };
    entries.iter().filter_map(|(_, value)| value.list()).flatten().any(is_binding)
}
