//! Search for the locations in a document where a client may be.

use super::choice::{Candidate, Traits};
use super::document::{Document, Entries};
use super::error::{ClientFault, UnusableClient};
use super::fields::Fields;
use super::flat::FlatFormat;
use super::found::Found;
use super::location::Location;
use super::{cli, destination, plain, power_bi, service_key, vcap};

/// The flat formats, the most specific first. The first that knows a map's keys reads it.
static FLAT_FORMATS: [FlatFormat; 6] = [
    destination::FORMAT,
    power_bi::FORMAT,
    cli::OPTIONS,
    cli::SECRETS,
    service_key::FORMAT,
    plain::FORMAT,
];

/// The maps in which services nest their client, from the top of a key or binding. No other map is
/// searched: a client elsewhere belongs to something else.
const NESTS: [&[&str]; 7] = [
    &[],
    &["credentials"],
    &["uaa"],
    &["oauth"],
    &["credentials", "uaa"],
    &["credentials", "oauth"],
    &["destinationConfiguration"],
];

/// Candidates found so far.
#[derive(Default)]
pub(super) struct Search {
    candidates: Vec<Candidate>,
}

impl Search {
    /// The number of candidates.
    pub(super) fn len(&self) -> usize {
        self.candidates.len()
    }

    pub(super) fn into_candidates(self) -> Vec<Candidate> {
        self.candidates
    }

    /// Searches a whole document. `traits` are those of its location.
    pub(super) fn document(
        &mut self,
        document: &Document,
        location: &Location,
        traits: Option<&Traits>,
    ) {
        let count = self.candidates.len();
        for binding in vcap::bindings(document, location) {
            if !self.client(binding.entries, &binding.location, &binding.traits, Some(vcap::NAME)) {
                self.add_without_client(vcap::NAME, &binding.credentials(), binding.traits);
            }
        }
        let given = traits.cloned().unwrap_or_default();
        self.map(document, location, given.clone());
        if self.candidates.len() == count {
            self.collection(document, location, &given);
        }
    }

    /// Searches a value, if it is a map.
    fn map(&mut self, document: &Document, location: &Location, given: Traits) {
        if let Some(entries) = document.map() {
            let traits = given.with(Traits::of(entries));
            self.client(entries, location, &traits, None);
        }
    }

    /// Searches a list of clients, a map of names to clients, or either of them under one key.
    fn collection(&mut self, document: &Document, location: &Location, given: &Traits) {
        self.items(document, location, given);
        for (name, child) in document.map().unwrap_or_default() {
            let location = location.key(name);
            self.map(child, &location, given.clone().with(Traits::named(name)));
            self.items(child, &location, given);
            for (name, child) in child.map().unwrap_or_default() {
                if !is_nest(name) {
                    let traits = given.clone().with(Traits::named(name));
                    self.map(child, &location.key(name), traits);
                }
            }
        }
    }

    /// Searches the items of a value, if it is a list.
    fn items(&mut self, document: &Document, location: &Location, given: &Traits) {
        for (index, item) in document.list().unwrap_or_default().iter().enumerate() {
            self.map(item, &location.item(index), given.clone());
        }
    }

    /// Searches a key or binding. `container` is the name of the format around it.
    ///
    /// Returns whether a client was recognised, usable or not.
    pub(super) fn client(
        &mut self,
        entries: &Entries,
        location: &Location,
        traits: &Traits,
        container: Option<&'static str>,
    ) -> bool {
        let count = self.candidates.len();
        for nest in NESTS {
            let (mut fields, mut location) = (Some(Fields::of(entries)), location.clone());
            for name in nest {
                fields = fields.and_then(|fields| fields.nested(name));
                location = location.key(name);
            }
            let Some(fields) = fields else { continue };
            if let Some(format) = FLAT_FORMATS.iter().find(|format| (format.is_format)(&fields)) {
                self.candidates.push(candidate(format, &fields, &location, traits, container));
            }
        }
        self.candidates.len() > count
    }

    /// Adds a binding of another kind of service. Messages name it if nothing better is found.
    pub(super) fn add_without_client(
        &mut self,
        format: &'static str,
        location: &Location,
        traits: Traits,
    ) {
        let outcome = Err(UnusableClient::new(format, location, vec![ClientFault::NoClient]));
        self.candidates.push(Candidate { format, location: location.to_string(), traits, outcome });
    }
}

fn is_nest(name: &str) -> bool {
    NESTS.iter().any(|nest| nest.contains(&name))
}

fn candidate(
    format: &FlatFormat,
    fields: &Fields<'_>,
    location: &Location,
    traits: &Traits,
    container: Option<&'static str>,
) -> Candidate {
    let format_name = container.unwrap_or(format.name);
    let found = |details| Found { format: format_name, location: location.to_string(), details };
    let outcome = (format.read)(fields)
        .map(|details| Box::new(found(details)))
        .map_err(|faults| UnusableClient::new(format_name, location, faults));
    let location = location.to_string();
    Candidate { format: format_name, location, traits: traits.clone(), outcome }
}
