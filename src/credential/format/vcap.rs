//! `VCAP_SERVICES` of Cloud Foundry: a map of labels to lists of bindings.

use super::choice::Traits;
use super::node::{Entries, Node};
use super::place::Place;
use super::search::Search;
use super::section::Section;

const NAME: &str = "VCAP_SERVICES";

/// The map of labels, where a document is one or holds one under its name, as `.env` files and
/// CAP's `default-env.json` do.
pub(super) fn bindings_of(document: &Node) -> Option<&Entries> {
    let entries = document.map()?;
    let inner = Section::of(entries).values(NAME).find_map(Node::map);
    inner.or_else(|| is_map_of_bindings(entries).then_some(entries))
}

fn is_map_of_bindings(entries: &Entries) -> bool {
    let is_binding = |item: &Node| {
        item.map().is_some_and(|map| Section::of(map).nested("credentials").is_some())
    };
    entries.iter().filter_map(|(_, value)| value.list()).flatten().any(is_binding)
}

/// Every binding, whether it has an OAuth client or not.
pub(super) fn find(labels: &Entries, top: &Place, search: &mut Search) {
    for (label, bindings) in labels {
        let place = top.key(label);
        for (index, binding) in bindings.list().unwrap_or_default().iter().enumerate() {
            let Some(entries) = binding.map() else { continue };
            let place = place.item(index);
            let mut traits = Traits::of(entries);
            traits.labels.push(label.clone());
            if !search.client(entries, &place, &traits, Some(NAME)) {
                search.foreign(NAME, &place.key("credentials"), traits);
            }
        }
    }
}
