//! `connections.json` of SAP's Power BI connector.

use super::client::{self, KeyNames};
use super::flat::FlatFormat;

static KEYS: KeyNames = KeyNames {
    client_id: &["client_id"],
    client_secret: &["client_secret"],
    token_url: &["auth_token_url"],
    base_url: &[],
    cert_url: &[],
    api_url: &["host"],
    scope: &[],
};

pub(super) const FORMAT: FlatFormat = FlatFormat {
    name: "Power BI connection",
    is_format: |fields| fields.has(&["auth_token_url", "auth_authorize_url"]),
    read: |fields| client::read(fields, &KEYS),
};
