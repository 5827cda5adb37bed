//! Files of the `datasphere` CLI: `--secrets-file`, `--options-file`, and its cache, which is a
//! list of secrets.
//!
//! The CLI derives a token URL from the tenant's URL. bearerd does not: with a wrong URL it would
//! send the secret to another server.

use super::client::{self, KeyNames, has_spelling};
use super::error::ClientFault;
use super::fields::Fields;
use super::flat::FlatFormat;
use super::found::ClientDetails;

static SECRETS_KEYS: KeyNames = KeyNames {
    client_id: &["client_id"],
    client_secret: &["client_secret"],
    token_url: &["token_url"],
    base_url: &[],
    cert_url: &[],
    api_url: &["tenantUrl", "host"],
    scope: &[],
};

static OPTIONS_KEYS: KeyNames = KeyNames {
    client_id: &["client-id"],
    client_secret: &["client-secret"],
    token_url: &["token-url"],
    base_url: &[],
    cert_url: &[],
    api_url: &["host"],
    scope: &[],
};

/// Keys that only a secrets file has, some of them after a login.
const SECRETS_MARKS: &[&str] =
    &["tenantUrl", "authorization_flow", "access_token", "refresh_token", "expires_in"];

/// Keys that only an options file spells like this.
const OPTIONS_MARKS: &[&str] = &[
    "client-id",
    "client-secret",
    "token-url",
    "authorization-url",
    "access-token",
    "refresh-token",
    "secrets-file",
];

pub(super) const SECRETS: FlatFormat = FlatFormat {
    name: "datasphere CLI secrets",
    is_format: |fields| client::is_client(fields, &SECRETS_KEYS) && fields.has(SECRETS_MARKS),
    read: |fields| read(fields, &SECRETS_KEYS),
};

pub(super) const OPTIONS: FlatFormat = FlatFormat {
    name: "datasphere CLI options",
    is_format: |fields| has_spelling(fields, OPTIONS_MARKS),
    read: |fields| {
        if fields.has(&["secrets-file"]) && !client::is_client(fields, &OPTIONS_KEYS) {
            return Err(vec![ClientFault::ElsewhereInFile]);
        }
        read(fields, &OPTIONS_KEYS)
    },
};

fn read(fields: &Fields<'_>, keys: &KeyNames) -> Result<ClientDetails, Vec<ClientFault>> {
    client::read(fields, keys).map_err(|faults| {
        let with_advice = |fault| match fault {
            ClientFault::Missing { field } if keys.token_url.contains(&field) => {
                ClientFault::NoTokenUrl { field }
            }
            other => other,
        };
        faults.into_iter().map(with_advice).collect()
    })
}
