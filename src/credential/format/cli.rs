//! Files of the `datasphere` CLI: `--secrets-file`, `--options-file`, and its cache, which is a list
//! of secrets.
//!
//! The CLI derives a token URL from the tenant's. bearerd does not: a derived URL that is wrong
//! would get the secret sent to somebody else.

use super::client::{self, Keys, has_spelling};
use super::error::Problem;
use super::section::Section;
use super::{Details, Flat};

static SECRETS_KEYS: Keys = Keys {
    client_id: &["client_id"],
    client_secret: &["client_secret"],
    token_url: &["token_url"],
    base_url: &[],
    cert_url: &[],
    api_url: &["tenantUrl", "host"],
    scope: &[],
};

static OPTIONS_KEYS: Keys = Keys {
    client_id: &["client-id"],
    client_secret: &["client-secret"],
    token_url: &["token-url"],
    base_url: &[],
    cert_url: &[],
    api_url: &["host"],
    scope: &[],
};

/// What a token or a login leaves in a secrets file.
const SECRETS_MARKS: &[&str] =
    &["tenantUrl", "authorization_flow", "access_token", "refresh_token", "expires_in"];

/// What only an options file spells so.
const OPTIONS_MARKS: &[&str] = &[
    "client-id",
    "client-secret",
    "token-url",
    "authorization-url",
    "access-token",
    "refresh-token",
    "secrets-file",
];

pub(super) const SECRETS: Flat = Flat {
    name: "datasphere CLI secrets",
    is: |section| client::is_client(section, &SECRETS_KEYS) && section.has(SECRETS_MARKS),
    read: |section| read(section, &SECRETS_KEYS),
};

pub(super) const OPTIONS: Flat = Flat {
    name: "datasphere CLI options",
    is: |section| has_spelling(section, OPTIONS_MARKS),
    read: |section| {
        if section.has(&["secrets-file"]) && !client::is_client(section, &OPTIONS_KEYS) {
            return Err(vec![Problem::ElsewhereInFile]);
        }
        read(section, &OPTIONS_KEYS)
    },
};

fn read(section: &Section<'_>, keys: &Keys) -> Result<Details, Vec<Problem>> {
    client::read(section, keys).map_err(|problems| {
        let with_advice = |problem| match problem {
            Problem::Missing { field } if keys.token_url.contains(&field) => {
                Problem::NoTokenUrl { field }
            }
            other => other,
        };
        problems.into_iter().map(with_advice).collect()
    })
}
