//! Folders that hold bindings: Kubernetes Secrets as the SAP BTP service operator writes them, the
//! Service Binding Specification (servicebinding.io), and `/etc/secrets/sapcp/<service>/<instance>`.
//!
//! A folder is a binding if its files are a client's keys, one key a file, or if one file holds all
//! of them as JSON (`secretKey`, `secretRootKey`). Folders in it are looked into as well.

use super::Tree;
use super::choice::Traits;
use super::node::Node;
use super::place::Place;
use super::search::Search;
use super::section::Section;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

const NAME: &str = "service binding folder";
/// The operator's description of the files beside it.
const METADATA: &str = ".metadata";
/// Files that only bindings have.
const MARKS: &[&str] = &["type", "instance_guid", "instance_name"];
/// `<root>/sapcp/<service>/<instance>`.
const MAX_DEPTH: usize = 4;

type Folder = BTreeMap<String, Tree>;

/// Searches a folder and those in it.
pub(super) fn find(folder: &Folder, search: &mut Search) {
    look_into(folder, &Place::folder(), &Traits::default(), MAX_DEPTH, search);
}

fn look_into(folder: &Folder, place: &Place, given: &Traits, depth: usize, search: &mut Search) {
    binding(folder, place, given, search);
    if depth == 0 {
        return;
    }
    for (name, entry) in folder {
        if let Tree::Folder(inner) = entry {
            // The folder above is the service, where there is one.
            let mut traits = Traits::named(name);
            traits.labels.clone_from(&given.names);
            look_into(inner, &place.subfolder(name), &traits, depth - 1, search);
        }
    }
}

/// The files of one folder.
fn binding(folder: &Folder, place: &Place, given: &Traits, search: &mut Search) {
    let metadata = Metadata::of(folder);
    let file = |(name, entry): (&String, &Tree)| match entry {
        Tree::File(bytes) if name != METADATA => Some((name.clone(), metadata.read(name, bytes))),
        _ => None,
    };
    let files: Vec<(String, Node)> = folder.iter().filter_map(file).collect();
    let section = Section::of(&files);
    let is_marked = section.has(MARKS) || folder.contains_key(METADATA);
    let traits = given.clone().with(Traits::of_folder(&files));
    let container = is_marked.then_some(NAME);
    if search.client(&files, place, &traits, container) {
        return;
    }
    let mut is_found = false;
    for (name, document) in documents(&files) {
        let place = place.key(name);
        let before = search.len();
        if let (Some(name), Some(entries)) = (container, document.map()) {
            search.client(entries, &place, &traits.clone().with(Traits::of(entries)), Some(name));
        }
        if search.len() == before {
            search.document(document, &place, Some(&traits.clone().or_named(name)));
        }
        is_found |= search.len() > before;
    }
    if is_marked && !is_found {
        search.foreign(NAME, place, traits);
    }
}

/// The files that hold JSON.
fn documents(files: &[(String, Node)]) -> impl Iterator<Item = (&str, &Node)> {
    files
        .iter()
        .filter(|(_, node)| node.map().is_some() || node.list().is_some())
        .map(|(name, node)| (name.as_str(), node))
}

/// Which files are text although they look like JSON.
struct Metadata {
    texts: Vec<String>,
}

impl Metadata {
    fn of(folder: &Folder) -> Self {
        let Some(Tree::File(bytes)) = folder.get(METADATA) else {
            return Self { texts: Vec::new() };
        };
        let document = Node::of_key_file(bytes);
        let properties = document
            .map()
            .map(Section::of)
            .and_then(|section| section.values("credentialProperties").find_map(Node::list));
        let name_of_text = |property: &Node| {
            let property = Section::of(property.map()?);
            let is_text = property.optional(&["format"]) == Some("text");
            property.optional(&["name"]).filter(|_| is_text).map(str::to_owned)
        };
        Self { texts: properties.unwrap_or_default().iter().filter_map(name_of_text).collect() }
    }

    fn read(&self, name: &str, bytes: &Zeroizing<Vec<u8>>) -> Node {
        if self.texts.iter().any(|text| text == name) {
            Node::of_text_file(bytes)
        } else {
            Node::of_key_file(bytes)
        }
    }
}
