//! `connections.json` of SAP's Power BI connector.

use super::Flat;
use super::client::{self, Keys};

static KEYS: Keys = Keys {
    client_id: &["client_id"],
    client_secret: &["client_secret"],
    token_url: &["auth_token_url"],
    base_url: &[],
    cert_url: &[],
    api_url: &["host"],
    scope: &[],
};

pub(super) const FORMAT: Flat = Flat {
    name: "Power BI connection",
    is: |section| section.has(&["auth_token_url", "auth_authorize_url"]),
    read: |section| client::read(section, &KEYS),
};
