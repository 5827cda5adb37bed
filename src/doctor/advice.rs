//! Advice for known failures. Pure.

use crate::metrics::labels::TokenRefusal;
use crate::profile::Profile;

/// Advice for a host name that can't be resolved.
pub(super) fn unknown_host(host: &str) -> String {
    if host.contains(".authentication.") {
        return "the first part of the host name must be the subaccount's subdomain; copy token_url from the tenant's App Integration page".into();
    }
    "check the spelling of the URL, and whether this machine or container can resolve names at all"
        .into()
}

/// Advice for a connection that can't be opened.
pub(super) const fn no_connection() -> &'static str {
    "check whether a firewall blocks the connection, and whether it needs a forward proxy"
}

/// Advice for an API that refuses a fresh token.
pub(super) fn refused(refusal: TokenRefusal, profile: &Profile) -> &'static str {
    match (refusal, profile.name) {
        (TokenRefusal::Forbidden, "odata") => {
            "the technical user needs a scoped role of the space (a global role gives no data), and purpose Technical User: API Access reads no data"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_advice_of_their_own() {
        assert!(unknown_host("acme.authentication.eu10.hana.ondemand.com").contains("subdomain"));
        assert!(!unknown_host("acme.eu10.hcs.cloud.sap").contains("subdomain"));
    }
}
