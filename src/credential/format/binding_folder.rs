//! Folders that hold bindings: Kubernetes Secrets as the SAP BTP service operator writes them, the
//! Service Binding Specification (servicebinding.io), and
//! `/etc/secrets/sapcp/<service>/<instance>`.
//!
//! A folder is a binding if its files are a client's keys, one key a file, or if one file holds all
//! of them as JSON (`secretKey`, `secretRootKey`). Folders in it are searched, too.

use super::choice::Traits;
use super::document::Document;
use super::fields::Fields;
use super::location::Location;
use super::search::Search;
use super::tree::Tree;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

const NAME: &str = "service binding folder";
/// The file in which the operator describes the other files.
const METADATA: &str = ".metadata";
/// Files that only a binding has.
const MARKS: &[&str] = &["type", "instance_guid", "instance_name"];
/// The largest number of folders inside each other: `<root>/sapcp/<service>/<instance>`.
const MAX_DEPTH: usize = 4;

type Folder = BTreeMap<String, Tree>;

/// Searches a folder and those in it.
pub(super) fn find(folder: &Folder, search: &mut Search) {
    search_folder(folder, &Location::folder(), &Traits::default(), MAX_DEPTH, search);
}

fn search_folder(
    folder: &Folder,
    location: &Location,
    given: &Traits,
    depth: usize,
    search: &mut Search,
) {
    binding(folder, location, given, search);
    if depth == 0 {
        return;
    }
    for (name, entry) in folder {
        if let Tree::Folder(inner) = entry {
            // The folder around it is named like the service.
            let mut traits = Traits::named(name);
            traits.labels.clone_from(&given.names);
            search_folder(inner, &location.subfolder(name), &traits, depth - 1, search);
        }
    }
}

/// Searches the files of one folder.
fn binding(folder: &Folder, location: &Location, given: &Traits, search: &mut Search) {
    let texts = TextFiles::of(folder);
    let file = |(name, entry): (&String, &Tree)| match entry {
        Tree::File(bytes) if name != METADATA => Some((name.clone(), texts.read(name, bytes))),
        _ => None,
    };
    let files: Vec<(String, Document)> = folder.iter().filter_map(file).collect();
    let fields = Fields::of(&files);
    let is_marked = fields.has(MARKS) || folder.contains_key(METADATA);
    let traits = given.clone().with(Traits::of_folder(&files));
    let container = is_marked.then_some(NAME);
    if search.client(&files, location, &traits, container) {
        return;
    }
    let mut is_found = false;
    for (name, document) in documents(&files) {
        let location = location.key(name);
        let before = search.len();
        if let (Some(name), Some(entries)) = (container, document.map()) {
            search.client(
                entries,
                &location,
                &traits.clone().with(Traits::of(entries)),
                Some(name),
            );
        }
        if search.len() == before {
            search.document(document, &location, Some(&traits.clone().with_name(name)));
        }
        is_found |= search.len() > before;
    }
    if is_marked && !is_found {
        search.add_without_client(NAME, location, traits);
    }
}

/// The files that hold JSON.
fn documents(files: &[(String, Document)]) -> impl Iterator<Item = (&str, &Document)> {
    files
        .iter()
        .filter(|(_, document)| document.map().is_some() || document.list().is_some())
        .map(|(name, document)| (name.as_str(), document))
}

/// Names of files that are text although they look like JSON.
struct TextFiles(Vec<String>);

impl TextFiles {
    fn of(folder: &Folder) -> Self {
        let Some(Tree::File(bytes)) = folder.get(METADATA) else {
            return Self(Vec::new());
        };
        let document = Document::of_key_file(bytes);
        let properties = document
            .map()
            .map(Fields::of)
            .and_then(|fields| fields.values("credentialProperties").find_map(Document::list));
        let name_of_text = |property: &Document| {
            let property = Fields::of(property.map()?);
            let is_text = property.optional(&["format"]) == Some("text");
            property.optional(&["name"]).filter(|_| is_text).map(str::to_owned)
        };
        Self(properties.unwrap_or_default().iter().filter_map(name_of_text).collect())
    }

    fn read(&self, name: &str, bytes: &Zeroizing<Vec<u8>>) -> Document {
        if self.0.iter().any(|text| text == name) {
            Document::of_text_file(bytes)
        } else {
            Document::of_key_file(bytes)
        }
    }
}
