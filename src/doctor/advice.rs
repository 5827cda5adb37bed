//! Advice for known failures. Pure.

use crate::metrics::labels::TokenRefusal;
use crate::profile::Profile;

/// Advice for an API that refuses a fresh token.
pub(super) fn refused(refusal: TokenRefusal, profile: &Profile) -> &'static str {
    match (refusal, profile.name) {
        (TokenRefusal::Forbidden, "odata") => {
            "the OAuth client's user needs a scoped role of the space (a global role gives no data); if it has one, try a client of the purpose Technical User: SAP's own pages differ on whether API Access reads data"
        }
        (TokenRefusal::Forbidden, "scim" | "transport" | "audit") => {
            "the OAuth client has no access to this API (User Provisioning, Analytics Content Network, ...); add it on the App Integration page"
        }
        (TokenRefusal::Forbidden, _) => {
            "the OAuth client or its technical user may not use this API; check its purpose and roles on the App Integration page"
        }
        (TokenRefusal::Unauthorized, _) => {
            "the token may belong to another tenant or subaccount than the URL; check that token_url and url belong together"
        }
        (TokenRefusal::LoginPage | TokenRefusal::LoginRedirect, _) => {
            "the API answered with a login page, as to a browser; check that the profile fits the path, and that the token belongs to this tenant"
        }
    }
}
