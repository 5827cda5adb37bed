//! What is wrong with a document. Messages name formats, places and keys, never values.

use super::place::Place;
use std::fmt;

/// Why a file or folder gives no OAuth client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes are no text.
    #[error("it is not UTF-8 text, and not UTF-16 with a byte order mark; save it as UTF-8")]
    NotUtf8,
    /// It begins with a brace or a bracket, but is no JSON.
    #[error("it begins like JSON, but is not: see line {line}, column {column}")]
    NotJson {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// Nothing in it looks like an OAuth client.
    #[error(
        "it holds no OAuth client in a known format; understood are: client_id, client_secret and token_url as JSON or lines, a BTP service key, VCAP_SERVICES, a Kubernetes service binding folder, a destination of the destination service, a secrets, options or cache file of the datasphere CLI, and connections.json of the Power BI connector"
    )]
    Unknown,
    /// What looks like an OAuth client can't be used as one.
    #[error("{}", list(.0, "; "))]
    Unusable(
        /// One or more, each at its place.
        Vec<Fault>,
    ),
    /// There are clients, but none that the binding chooses.
    #[error("nothing has {asked}; found: {}", list(found, "; "))]
    NoMatch {
        /// What was asked for: "name `a` and plan `b`".
        asked: String,
        /// What there is instead: format, place and binding.
        found: Vec<String>,
    },
    /// More than one client can be used.
    #[error(
        "it holds more than one OAuth client: {}; choose one by its binding's name, label, tag or plan, or keep only one",
        list(found, "; ")
    )]
    Ambiguous {
        /// What was found: format, place and binding.
        found: Vec<String>,
    },
}

/// What is wrong with one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The format's name.
    pub format: &'static str,
    /// Where it stands.
    pub place: String,
    /// At least one.
    pub problems: Vec<Problem>,
}

impl Fault {
    pub(super) fn new(format: &'static str, place: &Place, problems: Vec<Problem>) -> Self {
        Self { format, place: place.to_string(), problems }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, place, problems } = self;
        write!(formatter, "{format}: {place} {}", list(problems, ", "))
    }
}

/// One thing that is wrong with a client: what follows the place in a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A needed key is not there, or empty.
    #[error("has no {field}")]
    Missing {
        /// The key.
        field: &'static str,
    },
    /// A needed key has a number, a list or the like.
    #[error("has no {field}: it is there, but not as text")]
    NotText {
        /// The key.
        field: &'static str,
    },
    /// A key is there twice.
    #[error("has {field} twice, with different values")]
    Twice {
        /// The key.
        field: &'static str,
    },
    /// Nothing proves the client.
    #[error("has no {field}, nor certificate and key")]
    NoProof {
        /// The key of the secret.
        field: &'static str,
    },
    /// An export of the destination service, without its secret.
    #[error("has no {field}: exports leave it out; add it")]
    NotExported {
        /// The key of the secret.
        field: &'static str,
    },
    /// A destination's certificate, which never leaves the destination service.
    #[error(
        "has no {field}: its key store stays in the destination service; use a client with a secret, or its service key"
    )]
    InKeyStore {
        /// The key of the secret.
        field: &'static str,
    },
    /// The token URL is only known to the datasphere CLI, which derives it.
    #[error(
        "has no {field}: add the Token URL that System > Administration > App Integration shows"
    )]
    NoTokenUrl {
        /// The key of the token URL.
        field: &'static str,
    },
    /// An options file whose secrets are in another file.
    #[error("has no client of its own; use the file that its `secrets-file` names")]
    ElsewhereInFile,
    /// A URL can't be used.
    #[error("has a {field} that {why}")]
    Url {
        /// The key.
        field: &'static str,
        /// What is wrong: "is not a URL".
        why: &'static str,
    },
    /// A certificate or key can't be used.
    #[error("has a {field} that {why}")]
    Pem {
        /// The key.
        field: &'static str,
        /// What is wrong: "is not PEM text".
        why: &'static str,
    },
    /// A client for people, or for SAML assertions.
    #[error(
        "is for people who log in, or for SAML, and has no secret; create an OAuth client with the purpose Technical User (System > Administration > App Integration) and use its client ID, secret and token URL"
    )]
    Interactive,
    /// A destination that is no OAuth client of its own.
    #[error(
        "has Authentication {found}; only OAuth2ClientCredentials gets a token without a person"
    )]
    Authentication {
        /// The value, if it is one of SAP's.
        found: &'static str,
    },
    /// A destination whose token URL depends on the tenant.
    #[error(
        "has a tokenServiceURL for many tenants; write your tenant's own into it and set tokenServiceURLType to Dedicated"
    )]
    CommonTokenUrl,
    /// A binding of another kind of service.
    #[error("holds no OAuth client")]
    NoClient,
}

/// The most that a message lists.
const MOST: usize = 10;

fn list<T: fmt::Display>(items: &[T], separator: &str) -> String {
    let shown: Vec<String> = items.iter().take(MOST).map(T::to_string).collect();
    let list = shown.join(separator);
    match items.len().saturating_sub(MOST) {
        0 => list,
        more => format!("{list}{separator}and {more} more"),
    }
}
