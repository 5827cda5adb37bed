//! Id, secret and token URL: as SAP's dialog hands them out, as variables, as lines, as JSON.

use super::Flat;
use super::client::{self, INTERACTIVE, Keys};

static KEYS: Keys = Keys {
    client_id: &["client_id", "OAuth Client ID"],
    client_secret: &["client_secret", "Secret"],
    token_url: &["token_url", "OAuth Token URL"],
    base_url: &[],
    cert_url: &[],
    api_url: &["host", "tenant_url"],
    scope: &["scope"],
};

pub(super) const FORMAT: Flat = Flat {
    name: "client id, secret and token URL",
    // `Secret` alone may be anybody's.
    is: |section| {
        let own = ["client_secret"].iter().chain(KEYS.client_id).chain(KEYS.token_url);
        own.chain(INTERACTIVE).any(|name| section.has(&[name]))
    },
    read: |section| client::read(section, &KEYS),
};
