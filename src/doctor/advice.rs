//! Known failures on the way to an API, in words that say what to do. Pure.

use crate::metrics::labels::TokenRefusal;
use crate::profile::Profile;

/// A name that nobody knows.
pub(super) fn unknown_host(host: &str) -> String {
    if host.contains(".authentication.") {
        return "the first part of the host is the subaccount's subdomain; copy token_url from the tenant's App Integration page".into();
    }
    "check the spelling of the URL, and whether this machine or container resolves names at all"
        .into()
}

/// Nobody answers.
pub(super) const fn no_connection() -> &'static str {
    "is there a firewall, or a forward proxy that must be used?"
}

/// An API that does not accept a fresh token.
pub(super) fn refused(refusal: TokenRefusal, profile: &Profile) -> &'static str {
    match (refusal, profile.name) {
        (TokenRefusal::Forbidden, "odata") => {
            "the technical user needs a scoped role of the space (a global role gives no data), and purpose Technical User: API Access reads no data"
        }
        (TokenRefusal::Forbidden, "scim" | "transport" | "audit") => {
            "the OAuth client lacks the access for this API (User Provisioning, Analytics Content Network, ...); edit it on the App Integration page"
        }
        (TokenRefusal::Forbidden, _) => {
            "the OAuth client or its technical user may not use this API"
        }
        (TokenRefusal::Unauthorized, _) => {
            "the token is of another tenant or subaccount than the URL; do token_url and url belong together?"
        }
        (TokenRefusal::LoginPage | TokenRefusal::LoginRedirect, _) => {
            "the API takes this for a browser: the profile does not fit the path, or the token is of another tenant"
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
