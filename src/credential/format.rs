//! The formats in which SAP's users already hold the credentials of an OAuth client.
//!
//! A client comes as a service key, as `VCAP_SERVICES`, as a Kubernetes mount, as an export of the
//! destination service, as a file of the `datasphere` CLI, or as three pasted lines. bearerd reads
//! all of them as they are, so that nobody copies a secret into yet another file.
//!
//! A format is recognised by its content, never by a file's name. Everything here is pure:
//! [`recognise`] takes a [`Tree`] and returns a [`Found`] or a [`FormatError`]. No message shows a
//! value that could be a secret. How a document becomes a client:
//!
//! ```text
//!   Tree ──▶ Document ──▶ locations of clients ──▶ first flat format ──▶ candidates ──▶ Found
//!            JSON,        (search, vcap,           that knows the keys   (choice)
//!            lines        binding_folder)          (FLAT_FORMATS)
//! ```

mod address;
mod binding_folder;
mod choice;
mod cli;
mod client;
mod destination;
mod document;
mod error;
mod fields;
mod flat;
mod foreign;
mod found;
mod lines;
mod location;
mod pasted;
mod pem;
mod plain;
mod power_bi;
mod search;
mod service_key;
mod tree;
mod vcap;

#[cfg(test)]
mod tests;

pub use choice::Binding;
pub use error::{ClientFault, FormatError, UnusableClient};
pub use found::{ClientAuth, ClientDetails, Found, FoundProof};
pub use tree::Tree;

use document::Document;
use fields::Fields;
use lines::Escapes;
use location::Location;
use search::Search;

/// Returns the one OAuth client in a file or folder.
///
/// # Errors
/// There is no client, it is incomplete, or there are several and `binding` does not choose one.
/// The message names formats, locations and bindings, never a value.
pub fn recognise(source: &Tree, binding: &Binding) -> Result<Found, FormatError> {
    let mut search = Search::default();
    let mut foreign = None;
    match source {
        Tree::File(bytes) => {
            let document = parse(bytes)?;
            foreign = foreign_kind(bytes, &document);
            search.document(&document, &Location::document(), None);
        }
        Tree::Folder(entries) => binding_folder::find(entries, &mut search),
    }
    choice::choose(search.into_candidates(), binding).map_err(|error| match (error, foreign) {
        (FormatError::Unknown | FormatError::Unusable(_), Some(kind)) => FormatError::Foreign(kind),
        (error, _) => error,
    })
}

/// What a file is that holds no OAuth client, if it is a known one.
fn foreign_kind(bytes: &[u8], document: &Document) -> Option<&'static str> {
    foreign::of_document(document).or_else(|| {
        let text = document::decode(bytes)?;
        let has_names = document.map().is_none_or(|entries| !entries.is_empty());
        let is_pem = text.contains("-----BEGIN ");
        let is_json = document::begins_like_json(&text);
        if is_json || has_names && !is_pem { None } else { foreign::of_text(&text) }
    })
}

/// Parses a file: JSON if it begins like JSON, else lines of names and values, or a pasted page.
///
/// Exports of the destination service are Java properties, with escapes of their own. They are
/// recognised by their names, which hold no escapes.
fn parse(bytes: &[u8]) -> Result<Document, FormatError> {
    let text = document::decode(bytes).ok_or(FormatError::NotUtf8)?;
    if document::begins_like_json(&text) {
        return Document::of_json(&text);
    }
    let entries = lines::entries(&text, Escapes::Shell);
    let entries = match plain::has_id(&Fields::of(&entries)) {
        true => entries,
        false => pasted::entries(&text).unwrap_or(entries),
    };
    Ok(Document::Map(match destination::is_destination(&Fields::of(&entries)) {
        true => lines::entries(&text, Escapes::Properties),
        false => entries,
    }))
}
