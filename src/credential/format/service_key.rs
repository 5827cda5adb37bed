//! Service keys of SAP BTP, and the credentials inside bindings, which are the same.
//!
//! Their `url` is the issuer's base, not the token endpoint, and not the API: that one is `uri` or
//! `endpoints.Api`, often outside the map with the client (`uaa`).

use super::Flat;
use super::client::{self, Keys};
use super::section::Section;

static KEYS: Keys = Keys {
    client_id: &["clientid"],
    client_secret: &["clientsecret"],
    token_url: &[],
    base_url: &["url"],
    cert_url: &["certurl"],
    api_url: &["uri"],
    scope: &[],
};

/// Keys that, beside a client's, tell a service key. `apiurl` is the issuer's own API.
const MARKS: &[&str] = &[
    "url",
    "certurl",
    "uaadomain",
    "xsappname",
    "identityzone",
    "credential-type",
    "subaccountid",
    "tenantid",
    "apiurl",
    "serviceInstanceId",
];

pub(super) const FORMAT: Flat =
    Flat { name: "BTP service key", is, read: |section| client::read(section, &KEYS) };

fn is(section: &Section<'_>) -> bool {
    client::is_client(section, &KEYS) && section.has(MARKS) && !section.has(&["token_url"])
}
