//! Errors of recognising a client. Messages name formats, locations and keys, never values.

use super::location::Location;
use std::fmt;

/// The reason why a file or folder has no usable OAuth client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes are not text.
    #[error("it is not UTF-8 text, and not UTF-16 with a byte order mark; save it as UTF-8")]
    NotUtf8,
    /// The text begins with a brace or a bracket, but is not JSON.
    #[error(
        "it is not valid JSON: {reason} at line {line}, column {column}; correct it, or copy the key again"
    )]
    NotJson {
        /// What the parser expected. It holds nothing of the text.
        reason: String,
        /// The line, counted from 1.
        line: usize,
        /// The column, counted from 1.
        column: usize,
    },
    /// Nothing in the document looks like an OAuth client.
    #[error(
        "it holds no OAuth client in a known format; give client id, secret and token URL as three lines, or a service key (docs/credentials.md has all formats)"
    )]
    Unknown,
    /// The document is something else, which is known.
    #[error("{0}")]
    Foreign(&'static str),
    /// All OAuth clients of the document have faults.
    #[error("{}", list(.0, "; "))]
    Unusable(
        /// The clients; at least one.
        Vec<UnusableClient>,
    ),
    /// There are clients, but the binding chooses none of them.
    #[error("no OAuth client has {asked}; correct `binding`; found: {}", list(found, "; "))]
    NoMatch {
        /// The binding in words: "name `a` and plan `b`".
        asked: String,
        /// The clients that there are: format, location and binding of each.
        found: Vec<String>,
    },
    /// More than one client can be used.
    #[error(
        "it holds more than one OAuth client: {}; choose one by its binding's name, label, tag or plan, or keep only one",
        list(found, "; ")
    )]
    Ambiguous {
        /// The clients: format, location and binding of each.
        found: Vec<String>,
    },
}

/// An OAuth client that can't be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusableClient {
    /// The format's name.
    pub format: &'static str,
    /// The location in the document.
    pub location: String,
    /// The faults; at least one.
    pub faults: Vec<ClientFault>,
}

impl UnusableClient {
    pub(super) fn new(format: &'static str, location: &Location, faults: Vec<ClientFault>) -> Self {
        Self { format, location: location.to_string(), faults }
    }
}

impl fmt::Display for UnusableClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, location, faults } = self;
        write!(formatter, "{format}: {location} {}", list(faults, ", "))
    }
}

/// A fault of a client. Its message follows the location in a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientFault {
    /// A required key is missing or empty.
    #[error("has no {field}")]
    Missing {
        /// The key.
        field: &'static str,
    },
    /// A required key has a number, a list or another value that is not text.
    #[error("has a {field} that is not text (write it as a string)")]
    NotText {
        /// The key.
        field: &'static str,
    },
    /// A key occurs twice, with different values.
    #[error("has {field} twice, with different values")]
    Twice {
        /// The key.
        field: &'static str,
    },
    /// Nothing proves the client.
    #[error("has no {field} and no certificate with its key")]
    NoProof {
        /// The key of the secret.
        field: &'static str,
    },
    /// The secret is missing in an export of the destination service.
    #[error("has no {field}: exports leave it out; add it")]
    NotExported {
        /// The key of the secret.
        field: &'static str,
    },
    /// The destination has a certificate, which never leaves the destination service.
    #[error(
        "has no {field}: its key store stays in the destination service; use a client with a secret, or its service key"
    )]
    InKeyStore {
        /// The key of the secret.
        field: &'static str,
    },
    /// The token URL is missing: the datasphere CLI derives it from the tenant's.
    #[error(
        "has no {field}: add the Token URL that System > Administration > App Integration shows"
    )]
    NoTokenUrl {
        /// The key of the token URL.
        field: &'static str,
    },
    /// The client is in another file, which an options file names.
    #[error("has no client of its own; use the file that its `secrets-file` names")]
    ElsewhereInFile,
    /// The URL of a key can't be used.
    #[error("has a {field} that {why}")]
    Url {
        /// The key.
        field: &'static str,
        /// What is wrong: "is not a URL".
        why: &'static str,
    },
    /// The certificate or private key of a key can't be used.
    #[error("has a {field} that {why}")]
    Pem {
        /// The key.
        field: &'static str,
        /// What is wrong: "is not PEM text".
        why: &'static str,
    },
    /// The client is for people, or for SAML assertions.
    #[error(
        "has a client for people who log in, or for SAML, which has no secret; create an OAuth client with the purpose Technical User (System > Administration > App Integration) and use its client ID, secret and token URL"
    )]
    Interactive,
    /// The destination is for another kind of authentication.
    #[error(
        "has Authentication {found}; bearerd supports only OAuth2ClientCredentials, which needs no user"
    )]
    Authentication {
        /// The value, if SAP documents it.
        found: &'static str,
    },
    /// The token URL of the destination depends on the tenant.
    #[error(
        "has a tokenServiceURL for many tenants; replace it by your tenant's own URL and set tokenServiceURLType to Dedicated"
    )]
    CommonTokenUrl,
    /// The binding is of another kind of service.
    #[error("holds no OAuth client")]
    NoClient,
}

/// The largest number of items that a message lists.
const MAX_LISTED: usize = 10;

fn list<T: fmt::Display>(items: &[T], separator: &str) -> String {
    let shown: Vec<String> = items.iter().take(MAX_LISTED).map(T::to_string).collect();
    let list = shown.join(separator);
    match items.len().saturating_sub(MAX_LISTED) {
        0 => list,
        more => format!("{list}{separator}and {more} more"),
    }
}
