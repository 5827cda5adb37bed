//! Id, secret and token URL: pasted from SAP's dialog, as variables, as lines, or as JSON.

use super::client::{self, INTERACTIVE, KeyNames};
use super::fields::Fields;
use super::flat::FlatFormat;

static KEYS: KeyNames = KeyNames {
    client_id: &["client_id", "OAuth Client ID"],
    client_secret: &["client_secret", "Secret"],
    token_url: &["token_url", "OAuth Token URL"],
    base_url: &[],
    cert_url: &[],
    api_url: &["host", "tenant_url"],
    scope: &["scope"],
};

pub(super) const FORMAT: FlatFormat = FlatFormat {
    name: "client id, secret and token URL",
    // `Secret` alone may be any secret.
    is_format: |fields| {
        let own = ["client_secret"].iter().chain(KEYS.client_id).chain(KEYS.token_url);
        own.chain(INTERACTIVE).any(|name| fields.has(&[name]))
    },
    read: |fields| client::read(fields, &KEYS),
};

/// Whether lines hold a client id.
pub(super) fn has_id(fields: &Fields<'_>) -> bool {
    fields.has(KEYS.client_id)
}
