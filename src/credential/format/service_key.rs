//! Service keys of SAP BTP, and the credentials inside bindings, which are the same.
//!
//! Their `url` is the issuer's base. It is not the token endpoint, and not the API. The API is
//! `uri` or `endpoints.Api`, often outside the map of the client (`uaa`).

use super::client::{self, KeyNames};
use super::fields::Fields;
use super::flat::FlatFormat;

static KEYS: KeyNames = KeyNames {
    client_id: &["clientid"],
    client_secret: &["clientsecret"],
    token_url: &[],
    base_url: &["url"],
    cert_url: &["certurl"],
    api_url: &["uri"],
    scope: &[],
};

/// Keys of which a service key has at least one. `apiurl` is the issuer's own API.
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

pub(super) const FORMAT: FlatFormat =
    FlatFormat { name: "BTP service key", is_format, read: |fields| client::read(fields, &KEYS) };

fn is_format(fields: &Fields<'_>) -> bool {
    client::is_client(fields, &KEYS) && fields.has(MARKS) && !fields.has(&["token_url"])
}
