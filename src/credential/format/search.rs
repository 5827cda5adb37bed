//! The places in a document where a client may stand.

use super::choice::{Candidate, Traits};
use super::error::{Fault, Problem};
use super::node::{Entries, Node};
use super::place::Place;
use super::section::Section;
use super::{FLAT, Flat, vcap};

/// The maps in which services nest their client, from a key's or binding's top. Elsewhere nothing
/// is looked for: a client that happens to stand somewhere else belongs to something else.
const NESTS: [&[&str]; 7] = [
    &[],
    &["credentials"],
    &["uaa"],
    &["oauth"],
    &["credentials", "uaa"],
    &["credentials", "oauth"],
    &["destinationConfiguration"],
];

/// Collects what was found.
#[derive(Default)]
pub(super) struct Search {
    candidates: Vec<Candidate>,
}

impl Search {
    /// How much was found.
    pub(super) fn len(&self) -> usize {
        self.candidates.len()
    }

    pub(super) fn into_candidates(self) -> Vec<Candidate> {
        self.candidates
    }

    /// Searches a whole document. `traits` are known from where it lies.
    pub(super) fn document(&mut self, document: &Node, place: &Place, traits: Option<&Traits>) {
        let count = self.candidates.len();
        if let Some(labels) = vcap::bindings_of(document) {
            vcap::find(labels, place, self);
        }
        let given = traits.cloned().unwrap_or_default();
        self.one(document, place, given.clone());
        if self.candidates.len() == count {
            self.several(document, place, &given);
        }
    }

    fn one(&mut self, node: &Node, place: &Place, given: Traits) {
        if let Some(entries) = node.map() {
            let traits = given.with(Traits::of(entries));
            self.client(entries, place, &traits, None);
        }
    }

    /// A list of clients, a map of names to clients, or either of them under one key.
    fn several(&mut self, node: &Node, place: &Place, given: &Traits) {
        for (index, item) in node.list().unwrap_or_default().iter().enumerate() {
            self.one(item, &place.item(index), given.clone());
        }
        for (name, child) in node.map().unwrap_or_default() {
            let place = place.key(name);
            self.one(child, &place, given.clone().with(Traits::named(name)));
            for (index, item) in child.list().unwrap_or_default().iter().enumerate() {
                self.one(item, &place.item(index), given.clone());
            }
            for (name, child) in child.map().unwrap_or_default() {
                if !is_nest(name) {
                    self.one(child, &place.key(name), given.clone().with(Traits::named(name)));
                }
            }
        }
    }

    /// Looks into a key or binding. `container` is the name of the format around it.
    ///
    /// Returns whether a client was recognised, usable or not.
    pub(super) fn client(
        &mut self,
        entries: &Entries,
        place: &Place,
        traits: &Traits,
        container: Option<&'static str>,
    ) -> bool {
        let count = self.candidates.len();
        for nest in NESTS {
            let (mut section, mut place) = (Some(Section::of(entries)), place.clone());
            for name in nest {
                section = section.and_then(|section| section.nested(name));
                place = place.key(name);
            }
            let Some(section) = section else { continue };
            if let Some(format) = FLAT.iter().find(|format| (format.is)(&section)) {
                self.candidates.push(candidate(format, &section, &place, traits, container));
            }
        }
        self.candidates.len() > count
    }

    /// Notes a binding of another kind of service, to be named if nothing better is found.
    pub(super) fn foreign(&mut self, format: &'static str, place: &Place, traits: Traits) {
        let outcome = Err(Fault::new(format, place, vec![Problem::NoClient]));
        self.candidates.push(Candidate { format, place: place.to_string(), traits, outcome });
    }
}

fn is_nest(name: &str) -> bool {
    NESTS.iter().any(|nest| nest.contains(&name))
}

fn candidate(
    format: &Flat,
    section: &Section<'_>,
    place: &Place,
    traits: &Traits,
    container: Option<&'static str>,
) -> Candidate {
    let name = container.unwrap_or(format.name);
    let outcome = (format.read)(section)
        .map(|details| Box::new(details.at(name, place)))
        .map_err(|problems| Fault::new(name, place, problems));
    Candidate { format: name, place: place.to_string(), traits: traits.clone(), outcome }
}
