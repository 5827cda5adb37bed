//! The formats in which SAP's users already hold the credentials of an OAuth client.
//!
//! A client comes as a service key, as `VCAP_SERVICES`, as a Kubernetes mount, as an export of the
//! destination service, as a file of the `datasphere` CLI, or as three lines somebody pasted. All
//! of them are taken as they are, so that nobody copies a secret by hand into yet another file.
//!
//! Formats are told apart by what is inside, never by a file's name. Everything here is pure: a
//! document goes in, a [`Found`] or a [`FormatError`] comes out, and no message shows a value that
//! could be a secret. How a document becomes a client:
//!
//! ```text
//!   Tree ──▶ Node ──▶ places where a client may stand ──▶ first flat format ──▶ candidates ──▶ Found
//!            JSON,    (search, vcap,                       that knows the keys   (choice)
//!            lines    binding_folder)                      (FLAT)
//! ```

mod address;
mod binding_folder;
mod choice;
mod cli;
mod client;
mod destination;
mod error;
mod lines;
mod node;
mod pem;
mod place;
mod plain;
mod power_bi;
mod search;
mod section;
mod service_key;
mod vcap;

#[cfg(test)]
mod tests;

pub use choice::Binding;
pub use error::{Fault, FormatError, Problem};

use crate::secret::Secret;
use node::Node;
use place::Place;
use search::Search;
use section::Section;
use std::collections::BTreeMap;
use std::fmt;
use url::Url;
use zeroize::Zeroizing;

/// What a file or folder says about an OAuth client.
#[derive(Clone, Debug)]
pub struct Found {
    /// The format's name: "BTP service key".
    pub format: &'static str,
    /// Where in the document: `xsuaa[0].credentials.uaa`.
    pub place: String,
    /// The complete token endpoint, without `grant_type`.
    pub token_url: Url,
    /// The client's id.
    pub client_id: String,
    /// What proves the client.
    pub proof: Proof,
    /// The origin of the API, if the document names it.
    pub api_url: Option<Url>,
    /// The scope to ask for.
    pub scope: Option<String>,
    /// Further parameters of the token request. Any of them may be a secret.
    pub token_params: Vec<(String, Secret)>,
    /// How the client proves itself, if the format says so.
    pub client_auth: Option<ClientAuth>,
    /// Names of keys that would change requests, but that bearerd does not follow.
    pub ignored: Vec<String>,
}

/// What proves an OAuth client.
#[derive(Clone, Debug)]
pub enum Proof {
    /// A client secret.
    Secret(Secret),
    /// An X.509 certificate (RFC 8705).
    Certificate {
        /// The chain as PEM text, the client's own certificate first.
        chain: String,
        /// The private key as PEM text: PKCS#1, PKCS#8 or SEC 1.
        key: Secret,
    },
}

/// How a client proves itself at the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// Id and secret in the body.
    Body,
    /// Id and secret in an `Authorization: Basic` header.
    Basic,
    /// A certificate in the TLS handshake.
    Mtls,
}

/// A file's content, or a folder's.
#[derive(Clone)]
pub enum Tree {
    /// The bytes of a file.
    File(Zeroizing<Vec<u8>>),
    /// The entries of a folder, by name. Environment variables fit too, one "file" each.
    Folder(BTreeMap<String, Self>),
}

impl Tree {
    /// A file of these bytes.
    pub fn file(bytes: impl Into<Vec<u8>>) -> Self {
        Self::File(Zeroizing::new(bytes.into()))
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(bytes) => write!(formatter, "File({} bytes, redacted)", bytes.len()),
            Self::Folder(entries) => formatter.debug_map().entries(entries).finish(),
        }
    }
}

/// A format whose keys stand beside each other in one map.
struct Flat {
    name: &'static str,
    /// Whether the map is in this format, complete or not.
    is: fn(&Section<'_>) -> bool,
    read: fn(&Section<'_>) -> Result<Details, Vec<Problem>>,
}

/// The flat formats, most particular first: the first that knows a map's keys reads it.
static FLAT: [Flat; 6] = [
    destination::FORMAT,
    power_bi::FORMAT,
    cli::OPTIONS,
    cli::SECRETS,
    service_key::FORMAT,
    plain::FORMAT,
];

/// What a flat format reads from one map; with format and place it is a [`Found`].
#[derive(Debug)]
struct Details {
    token_url: Url,
    client_id: String,
    proof: Proof,
    api_url: Option<Url>,
    scope: Option<String>,
    token_params: Vec<(String, Secret)>,
    client_auth: Option<ClientAuth>,
    ignored: Vec<String>,
}

impl Details {
    fn at(self, format: &'static str, place: &Place) -> Found {
        Found {
            format,
            place: place.to_string(),
            token_url: self.token_url,
            client_id: self.client_id,
            proof: self.proof,
            api_url: self.api_url,
            scope: self.scope,
            token_params: self.token_params,
            client_auth: self.client_auth,
            ignored: self.ignored,
        }
    }
}

/// The one OAuth client in a file or folder.
///
/// # Errors
/// There is none, it is incomplete, or there are several and `binding` does not choose one. The
/// message names formats, places and bindings, never a value.
pub fn recognise(source: &Tree, binding: &Binding) -> Result<Found, FormatError> {
    let mut search = Search::default();
    match source {
        Tree::File(bytes) => {
            let document = Node::of_document(bytes)?;
            search.document(&document, &Place::document(), None);
        }
        Tree::Folder(entries) => binding_folder::find(entries, &mut search),
    }
    choice::choose(search.into_candidates(), binding)
}
